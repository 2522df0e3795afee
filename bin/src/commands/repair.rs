//! `repair`: a node takes its damaged replicas again from the others.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::bar::{Bar, interruptible};
use crate::client::{self, Node, Request};
use crate::exit::{Exit, Failure};
use crate::output;

/// How often the node is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// What a node says of its groups, as far as it concerns their repair.
#[derive(Debug, Deserialize)]
struct Cluster {
    node: This,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct This {
    id: u64,
}

#[derive(Debug, Deserialize)]
struct Group {
    id: u64,
    role: String,
    leader: Option<u64>,
    last_log_index: u64,
    applied_index: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    damage: Option<Value>,
    repair: Option<String>,
}

/// How far the repair of a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The others are to let go of it.
    Asked,
    /// It is erased and begins anew.
    LetGo,
    /// It is filled by the others.
    Filling,
    /// It has everything.
    Whole,
    /// The node is to hold it no longer.
    Elsewhere,
}

impl Stage {
    fn of(me: u64, group: Option<&Group>) -> Self {
        let Some(group) = group else { return Stage::Elsewhere };
        match group.repair.as_deref() {
            Some("asked") => return Stage::Asked,
            Some(_) => return Stage::LetGo,
            None if group.damage.is_some() => return Stage::Asked,
            None => {}
        }
        let has_all = group.leader.is_some() && group.applied_index == group.last_log_index;
        // An even number votes only until this one does, too.
        let is_even = group.voters.len().is_multiple_of(2);
        let is_follower = group.learners.contains(&me) && !is_even && has_all;
        let is_voter = group.voters.contains(&me) && ["leader", "follower"].contains(&&*group.role);
        if is_voter || is_follower { Stage::Whole } else { Stage::Filling }
    }

    fn word(self) -> &'static str {
        match self {
            Stage::Asked => "asked",
            Stage::LetGo => "let-go",
            Stage::Filling => "filling",
            Stage::Whole => "whole",
            Stage::Elsewhere => "elsewhere",
        }
    }

    fn is_last(self) -> bool {
        matches!(self, Stage::Whole | Stage::Elsewhere)
    }

    fn sentence(self) -> &'static str {
        match self {
            Stage::Asked => "the others let go of this node's replica",
            Stage::LetGo => "it is erased and begins anew",
            Stage::Filling => "it is filled by the others",
            Stage::Whole => "it is whole again",
            Stage::Elsewhere => "it is on other nodes now",
        }
    }
}

/// Repairs a group's replica, or all that are damaged, and waits until they are whole.
pub(crate) async fn run(node: Node, group: Option<u64>, json: bool) -> Result<(), Failure> {
    let Cluster { node: This { id: me }, groups } = look(&node).await?;
    let is_unwell = |group: &&Group| group.damage.is_some() || group.repair.is_some();
    let wanted: Vec<u64> = match group {
        Some(group) => vec![group],
        None => groups.iter().filter(is_unwell).map(|group| group.id).collect(),
    };
    if wanted.is_empty() && !json {
        return output::line(&format!("nothing that node {me} holds is known to be damaged"));
    }
    let (mut asked, mut failures) = (Vec::new(), Vec::new());
    for group in wanted {
        let path = format!("/v1/groups/{group}/repair");
        match node.ask(Request::write(Method::POST, &path)).await {
            Ok(_) => asked.push(group),
            // The others are repaired all the same.
            Err(failure) if failure.exit() == Exit::Refused => failures.push(failure),
            Err(failure) => {
                failures.push(failure);
                break;
            }
        }
    }
    failures.extend(interruptible(until_whole(&node, me, asked, json)).await.err());
    let Some(last) = failures.pop() else { return Ok(()) };
    for failure in failures {
        failure.report();
    }
    Err(last)
}

/// Tells how the repairs go on, to their end.
async fn until_whole(node: &Node, me: u64, asked: Vec<u64>, json: bool) -> Result<(), Failure> {
    let mut stages: BTreeMap<u64, Option<Stage>> =
        asked.into_iter().map(|group| (group, None)).collect();
    let mut bar = Bar::new().filter(|_| !json);
    while !stages.values().all(|stage| stage.is_some_and(Stage::is_last)) {
        let Cluster { groups, .. } = match look(node).await {
            Err(failure) if failure.exit() == Exit::Unreachable => {
                let sentence = "the node does not answer any longer; the repair goes on by itself, and if \
                                the node has ended, when it is started again";
                return Err(Failure::new(Exit::Unreachable, sentence));
            }
            looked => looked?,
        };
        for (group, known) in &mut stages {
            let stage = Stage::of(me, groups.iter().find(|found| found.id == *group));
            if known.is_some_and(Stage::is_last) || *known == Some(stage) {
                continue;
            }
            *known = Some(stage);
            match json {
                true => output::json_line(&json!({ "group": group, "state": stage.word() }))?,
                false => {
                    let line = format!("group {group}: {}", stage.sentence());
                    match &bar {
                        Some(bar) => bar.aside(|| output::line(&line))?,
                        None => output::line(&line)?,
                    }
                }
            }
        }
        if let Some(bar) = &mut bar {
            let known = stages.values().flatten();
            let whole = known.filter(|stage| stage.is_last()).count() as u64;
            let of = stages.len() as u64;
            bar.at(whole, of, format!("{whole} of {}", output::counted(of, "group")));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

async fn look(node: &Node) -> Result<Cluster, Failure> {
    let answer: Value = node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
    Cluster::deserialize(answer).map_err(client::not_understood)
}
