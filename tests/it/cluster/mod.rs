//! Clusters of embedded nodes in one process, on loopback: what a program sees that starts one,
//! joins others by ticket, and loses some.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use aspen::limits::APPLY_BATCH_ENTRIES_MAX;
use aspen::node::ClusterError;
use aspen::roster::refused::Refused;
use aspen::types::{GroupId, NodeId};
use aspen::{KvService, KvServiceBuilder, MemberRole, Reach};
use tokio::sync::oneshot;
use tokio::task::yield_now;

use crate::wait::until;

fn builder(dir: &Path, node: u64) -> KvServiceBuilder {
    KvServiceBuilder::auto(dir.join(format!("node-{node}"))).with_reach(Reach::Loopback)
}

async fn ticket(service: &KvService) -> aspen::JoinTicket {
    let life = Duration::from_secs(3_600);
    service.cluster().invite(MemberRole::Voter, life, None).await.expect("a ticket")
}

/// Three nodes, the second and third joined by the first one's ticket.
async fn three(dir: &Path) -> Vec<KvService> {
    let first = builder(dir, 1).start().await.expect("the first node starts");
    let ticket = ticket(&first).await;
    let mut nodes = vec![first];
    for node in 2..=3 {
        let joined = builder(dir, node).join(ticket.clone()).start().await;
        nodes.push(joined.expect("the ticket is good"));
    }
    nodes
}

fn voters(service: &KvService) -> Vec<BTreeSet<u64>> {
    let groups = service.groups();
    groups.iter().map(|group| group.voters.iter().map(|node| node.0).collect()).collect()
}

async fn until_voters(nodes: &[KvService], numbers: &[u64]) {
    let all: BTreeSet<u64> = numbers.iter().copied().collect();
    let have = async || nodes.iter().all(|node| voters(node) == [all.clone(), all.clone()]);
    until(&format!("{numbers:?} vote in both groups"), have).await;
}

async fn shutdown(nodes: Vec<KvService>) {
    for node in nodes {
        node.shutdown().await.expect("an orderly end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_from_one_ticket_are_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = three(dir.path()).await;
    until_voters(&nodes, &[1, 2, 3]).await;
    for (at, node) in nodes.iter().enumerate() {
        node.client().put(format!("key-{at}").as_str(), "value").await.expect("a write");
    }
    for node in &nodes {
        let page = node.client().range(..).await.expect("a read");
        assert_eq!(page.records.len(), 3);
    }
    shutdown(nodes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_votes_without_the_data_however_few_entries_it_is_in() {
    let dir = tempfile::tempdir().unwrap();
    let first = builder(dir.path(), 1).start().await.expect("the first node starts");
    let mebibyte = vec![b'x'; 1024 * 1024];
    for n in 0..48 {
        first.client().put(format!("large {n}"), mebibyte.clone()).await.expect("a write");
    }
    let shard = |node: &KvService| {
        let groups = node.groups();
        groups.into_iter().find(|group| group.group == GroupId::FIRST_SHARD).expect("it is there")
    };
    let written = shard(&first).applied_index;
    let ticket = ticket(&first).await;
    let mut others = Vec::new();
    for node in 2..=3 {
        let joining = builder(dir.path(), node).join(ticket.clone()).start();
        others.push(joining.await.expect("the ticket is good"));
    }
    until("three vote", async || {
        let votes = shard(&first).voters;
        for other in others.iter().filter(|other| votes.contains(&other.node().node_id)) {
            // A vote is decided by the log; that is applied a moment later.
            assert!(shard(other).last_log_index >= written, "{:?}", shard(other));
        }
        votes.len() == 3
    })
    .await;
    others.push(first);
    shutdown(others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_slept_through_an_admission_follows_whom_it_has_never_heard_of() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = three(dir.path()).await;
    until_voters(&nodes, &[1, 2, 3]).await;
    let ticket = ticket(&nodes[0]).await;
    nodes.pop().expect("the third").shutdown().await.expect("an orderly end");

    let fourth = builder(dir.path(), 4).join(ticket).start().await.expect("the ticket is good");
    let second = nodes.pop().expect("the second");
    second.cluster().leave().await.expect("a third voter is there in its place");
    second.shutdown().await.expect("an orderly end");
    nodes.push(fourth);
    until_voters(&nodes, &[1, 3, 4]).await;
    for group in [GroupId::META, GroupId::FIRST_SHARD] {
        nodes[0].cluster().transfer(group, NodeId(4)).await.expect("it can lead");
    }
    nodes[0].client().put("key", "written meanwhile").await.expect("a write");

    let third = builder(dir.path(), 3).start().await.expect("it was here before");
    let read = third.client().get("key").await.expect("a read").expect("it was written");
    assert_eq!(read.value.as_bytes(), b"written meanwhile");
    until("its own replicas follow", async || {
        third.cluster().roster().member(NodeId(4)).is_some()
            && third.groups().iter().all(|group| group.leader == Some(NodeId(4)))
    })
    .await;
    nodes.push(third);
    shutdown(nodes).await;
}

/// Changes of the roster that a newcomer does not get all at once.
const HISTORY: usize = APPLY_BATCH_ENTRIES_MAX;

/// Those that founded the cluster are gone, and the log still tells of the time when they were all.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_joins_does_not_take_the_members_of_the_past_for_those_of_today() {
    let dir = tempfile::tempdir().unwrap();
    let first = builder(dir.path(), 1).start().await.expect("the first node starts");
    let invited = ticket(&first).await;
    let second = builder(dir.path(), 2).join(invited).start().await.expect("the ticket is good");
    first.cluster().leave().await.expect("the second takes over");
    first.shutdown().await.expect("an orderly end");
    // So that it takes the log in several steps.
    for on in (0..HISTORY).map(|step| step % 2 == 0) {
        second.cluster().drain(NodeId(2), on).await.expect("it leads");
    }

    let (tell, told) = oneshot::channel();
    let joining = builder(dir.path(), 3).join(ticket(&second).await).tell(tell).start();
    let looking = tokio::spawn(async move {
        let cluster = told.await.expect("it starts").cluster;
        loop {
            let roster = cluster.roster();
            if roster.cluster().is_some() {
                return roster;
            }
            yield_now().await;
        }
    });
    let third = joining.await.expect("the ticket is good");
    let first_known = looking.await.expect("it is told of one");
    let members: Vec<u64> = first_known.present().map(|member| member.node.0).collect();
    assert_eq!(members, [2, 3]);
    shutdown(vec![second, third]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_the_only_vote_is_not_removed_while_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let first = builder(dir.path(), 1).start().await.expect("the first node starts");
    let ticket = ticket(&first).await;
    let second = builder(dir.path(), 2).join(ticket).start().await.expect("the ticket is good");
    let removed = second.cluster().remove(NodeId(1)).await;
    assert!(
        matches!(removed, Err(ClusterError::Refused(Refused::StillNeeded { .. }))),
        "{removed:?}"
    );
    second.client().put("key", "value").await.expect("all goes on");
    first.cluster().leave().await.expect("the second takes over");
    until_voters(std::slice::from_ref(&second), &[2]).await;
    second.client().put("key", "value").await.expect("all goes on");
    shutdown(vec![first, second]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_lagging_member_says_of_a_former_member_is_not_said_of_the_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut nodes = three(dir.path()).await;
    until_voters(&nodes, &[1, 2, 3]).await;
    nodes.pop().expect("the third").shutdown().await.expect("an orderly end");
    nodes[0].cluster().remove(NodeId(3)).await.expect("it is gone");
    until_voters(&nodes, &[1]).await;
    nodes.pop().expect("the second").shutdown().await.expect("an orderly end");

    // Its data is lost and its key is not.
    let its_dir = dir.path().join("node-3");
    let key = std::fs::read(its_dir.join("node.key")).expect("a key");
    std::fs::remove_dir_all(&its_dir).expect("removed");
    std::fs::create_dir(&its_dir).expect("a directory");
    std::fs::write(its_dir.join("node.key"), key).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(its_dir.join("node.key"), private).expect("set");
    let again = builder(dir.path(), 3).join(ticket(&nodes[0]).await).start().await;
    nodes.push(again.expect("the ticket is good"));
    assert_eq!(nodes[1].node().node_id, NodeId(4));

    // The second knows of the third that it was removed, and of the fourth nothing.
    nodes.push(builder(dir.path(), 2).start().await.expect("it was here before"));
    until_voters(&nodes, &[1, 2, 4]).await;
    shutdown(nodes).await;
}
