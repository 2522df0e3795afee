//! What to do about what is wrong: the next command to type, for each thing that takes one.

use super::view::{Cluster, Health, Member};

/// Sentences, the most pressing first; none if all is well.
pub(super) fn next(cluster: &Cluster, health: &Health) -> Vec<String> {
    let mut next = Vec::new();
    let damaged: Vec<u64> = cluster
        .groups
        .iter()
        .filter(|group| group.damage.is_some() && group.repair.is_none())
        .map(|group| group.id)
        .collect();
    match damaged[..] {
        [] => {}
        [group] => {
            next.push(format!("`aspen repair {group}` takes the damaged replica from the others"));
        }
        _ => next.push("`aspen repair` takes the damaged replicas from the others".to_owned()),
    }
    let is_away = |member: &&Member| member.health != "healthy" && member.state != "removed";
    let away: Vec<&Member> = cluster.members.iter().filter(is_away).collect();
    // Who does not vote goes on knowing a leader that is away.
    let is_led = |leader: u64| away.iter().all(|member| member.node != leader);
    let led = cluster.groups.iter().filter(|group| group.leader.is_some_and(is_led)).count();
    if 2 * away.len() >= cluster.members.len() && led < cluster.groups.len() {
        next.push(
            "most members can't be heard: start them again; if they are lost for good, \
             `aspen recover` on a survivor makes a new cluster of what it has"
                .to_owned(),
        );
        return next;
    }
    for member in away {
        let node = member.node;
        next.push(match (&*member.health, member.maintenance) {
            (_, true) => format!("start node {node}, then `aspen maintenance off {node}`"),
            ("dead", _) => format!("start node {node}, or `aspen remove {node}` if it is lost"),
            _ => format!("node {node} is not heard: see `aspen doctor`, or start it again"),
        });
    }
    for member in &cluster.members {
        let node = member.node;
        if member.draining && member.replicas == 0 && member.state == "active" {
            next.push(format!(
                "node {node} is drained: stop it, `aspen leave` there, or `aspen drain {node} --off`"
            ));
        }
    }
    if next.is_empty() && health.state == "unhealthy" {
        next.push("see the reasons above and the node's log".to_owned());
    }
    next
}
