//! Clusters of processes: joined, killed, led, left and come back.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{Node, run, until};

/// How long the death of a leader may interrupt writes at default timeouts; several times what it
/// takes, because the tests share the machine.
const INTERRUPTION_MAX: Duration = Duration::from_secs(5);

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// The cluster as a node sees it.
pub(crate) fn cluster(node: &Node) -> Value {
    let status = node.printed(&["status", "--json"]);
    serde_json::from_str::<Value>(&status).expect("JSON")["cluster"].take()
}

/// The numbers of the members, as a node sees them.
pub(crate) fn members(node: &Node) -> Vec<u64> {
    let cluster = cluster(node);
    let members = cluster["members"].as_array().into_iter().flatten();
    members.filter_map(|member| member["node"].as_u64()).collect()
}

fn leader_of(node: &Node, group: usize) -> Option<u64> {
    cluster(node)["groups"][group]["leader"].as_u64()
}

/// Waits until every group has three voters, as each of the nodes sees it.
#[track_caller]
fn wait_for_voters(nodes: &[Node], voters: &[u64]) {
    let has = |node: &Node| {
        let cluster = cluster(node);
        let groups = cluster["groups"].as_array().cloned().unwrap_or_default();
        groups.len() == 2 && groups.iter().all(|group| group["voters"] == serde_json::json!(voters))
    };
    let in_time = until(|| nodes.iter().all(has));
    assert!(in_time, "no voters {voters:?}: {}", cluster(&nodes[0]));
}

/// Three nodes from one ticket.
struct Three {
    dirs: Vec<TempDir>,
    nodes: Vec<Node>,
}

impl Three {
    #[track_caller]
    fn start() -> Self {
        let dirs: Vec<TempDir> = (0..3).map(|_| dir()).collect();
        let first = Node::start(dirs[0].path(), &["--name", "lab", "--node-name", "one"]);
        let ticket = first.ticket();
        let mut nodes = vec![first];
        for dir in &dirs[1..] {
            nodes.push(Node::join(dir.path(), &ticket, &[]));
        }
        wait_for_voters(&nodes, &[1, 2, 3]);
        Three { dirs, nodes }
    }

    /// Takes the node with this number out of the list; the others keep their places.
    fn take(&mut self, id: u64) -> (TempDir, Node) {
        let at = self.nodes.iter().position(|node| node.id() == id).expect("a node");
        (self.dirs.remove(at), self.nodes.remove(at))
    }
}

/// Repeats a write until a node takes it; the deadline is the caller's to judge.
fn write(nodes: &[Node], key: &str, value: &str) -> bool {
    let mut turn = nodes.iter().cycle();
    until(|| {
        let node = turn.next().expect("there are nodes");
        node.run(&["--timeout", "2s", "put", key, value]).code == 0
    })
}

#[test]
fn three_processes_from_one_ticket_are_a_cluster_that_outlives_its_leader() {
    let mut three = Three::start();
    assert_eq!(three.nodes[2].events().first(), Some(&"admitted"));
    three.nodes[2].wait_for_event("voter");
    three.nodes[1].wait_for_event("voter");

    three.nodes[0].printed(&["put", "greeting", "hello"]);
    for node in &three.nodes {
        assert_eq!(node.printed(&["get", "greeting"]), "hello");
    }
    // Written on a follower, read everywhere.
    three.nodes[2].printed(&["put", "from", "three"]);
    for node in &three.nodes {
        assert_eq!(node.printed(&["get", "from"]), "three");
    }
    let listed = three.nodes[1].printed(&["members"]);
    let rows: Vec<&str> = listed.lines().collect();
    assert!(rows[0].starts_with("NODE  NAME  ROLE   STATE   HEALTH   SHARDS"), "{listed}");
    assert!(rows[1].starts_with("1     one   voter  active  healthy  1 "), "{listed}");
    assert_eq!(rows.len(), 4, "{listed}");
    let known = three.nodes[1].printed(&["members", "--addresses"]);
    let rows: Vec<&str> = known.lines().collect();
    assert!(rows[0].starts_with("NODE  NAME  ADDRESS"), "{known}");
    let of = |number: &str| rows.iter().find(|row| row.starts_with(number)).copied();
    assert!(
        of("1  ").is_some_and(|row| row.contains("127.0.0.1:") && row.ends_with(" ago")),
        "{known}"
    );
    assert!(of("2  ").is_none() && of("3  ").is_some(), "{known}");

    let leader = leader_of(&three.nodes[0], 1).expect("a leader");
    let (its_dir, its_node) = three.take(leader);
    its_node.kill();
    let killed = Instant::now();
    assert!(write(&three.nodes, "after", "the leader"), "nobody takes writes");
    let interruption = killed.elapsed();
    println!("writes went on {interruption:?} after the leader was killed");
    assert!(interruption < INTERRUPTION_MAX, "it took {interruption:?}");

    let back = Node::start(its_dir.path(), &[]);
    assert_eq!(back.id(), leader);
    for (key, value) in [("greeting", "hello"), ("from", "three"), ("after", "the leader")] {
        assert_eq!(back.printed(&["get", key]), value);
    }
    three.nodes.push(back);
    wait_for_voters(&three.nodes, &[1, 2, 3]);
}

#[test]
fn a_cluster_that_was_killed_as_a_whole_finds_itself_again() {
    let Three { dirs, nodes } = Three::start();
    nodes[1].printed(&["put", "k", "kept"]);
    nodes.into_iter().for_each(Node::kill);
    // All at once: none serves without another.
    let starting: Vec<Node> = dirs.iter().map(|dir| Node::starting(dir.path())).collect();
    let nodes: Vec<Node> = starting.into_iter().map(Node::until_ready).collect();
    for node in &nodes {
        assert_eq!(node.printed(&["get", "k"]), "kept");
    }
    nodes[2].printed(&["put", "k", "changed"]);
    assert_eq!(nodes[0].printed(&["get", "k"]), "changed");
    wait_for_voters(&nodes, &[1, 2, 3]);
}

#[test]
fn the_lead_goes_where_it_is_told_to() {
    let three = Three::start();
    for (asked, to) in [(0, 2), (0, 3), (1, 3), (1, 1)] {
        let to_text = u64::to_string(&to);
        let done = three.nodes[asked].printed(&["transfer", "1", &to_text]);
        assert_eq!(done, format!("node {to} leads group 1\n"));
        assert!(until(|| three.nodes.iter().all(|node| leader_of(node, 1) == Some(to))));
        three.nodes[asked].printed(&["put", "k", &to_text]);
    }
    three.nodes[0]
        .run(&["transfer", "1", "9"])
        .failed_with(1, "no node has the number 9; `aspen members` lists those there are");
    three.nodes[0].run(&["transfer", "7", "1"]).refused_as("holds no replica of group 7");
}

#[test]
fn a_node_leaves_in_order_and_is_told_so_when_it_comes_back() {
    let mut three = Three::start();
    three.nodes[0].printed(&["put", "k", "kept"]);
    // Whoever leads hands over first.
    three.nodes[0].printed(&["transfer", "1", "3"]);
    let left = three.nodes[2].run(&["leave"]);
    assert_eq!((left.code, left.stdout.as_str()), (0, "node 3 has left the cluster\n"), "{left:?}");
    assert!(until(|| three.nodes[2].ended().is_some()), "it goes on after it has left");
    assert_eq!(three.nodes[2].ended(), Some(1));
    let (its_dir, _) = (three.dirs.pop().expect("a directory"), three.nodes.pop());
    assert_eq!(members(&three.nodes[0]), [1, 2]);
    assert_eq!(three.nodes[1].printed(&["get", "k"]), "kept");
    three.nodes[1].printed(&["put", "k", "changed"]);
    assert_told_removed(its_dir.path(), 3);
    three.nodes[0].run(&["remove", "3"]).failed_with(1, &removed_sentence(3));
}

fn removed_sentence(node: u64) -> String {
    format!(
        "node {node} was removed from the cluster; to join anew, start with an empty data directory"
    )
}

/// Starts the node of a directory, which ends by itself because it is no member any more; the
/// second time it knows without asking anybody.
#[track_caller]
fn assert_told_removed(dir: &Path, node: u64) {
    for _ in 0..2 {
        let ended = run(crate::support::aspen([
            "start",
            "--json",
            "--reach",
            "loopback",
            "--http",
            "127.0.0.1:0",
            "--log",
            "off",
        ])
        .arg("--data-dir")
        .arg(dir.join("data")));
        assert_eq!(ended.code, 1, "{ended:?}");
        let said = format!("node {node} ");
        assert!(ended.stderr.contains(&said), "{ended:?}");
        assert!(ended.stderr.contains("with a new ticket and a new data directory"), "{ended:?}");
    }
}

#[test]
fn a_removed_member_is_told_so_when_it_comes_back() {
    let mut three = Three::start();
    let (its_dir, its_node) = three.take(3);
    its_node.kill();
    let removed = three.nodes[0].printed(&["remove", "3"]);
    assert_eq!(removed, "node 3 is removed from the cluster\n");
    assert_eq!(members(&three.nodes[0]), [1, 2]);
    // Its groups follow, and two nodes need each other no more.
    wait_for_voters(&three.nodes, &[1]);
    assert_told_removed(its_dir.path(), 3);
    three.nodes[0]
        .run(&["remove", "9"])
        .failed_with(1, "no node has the number 9; `aspen members` lists those there are");
}

#[test]
fn a_node_that_lost_its_data_and_kept_its_key_is_a_new_node() {
    let (dirs, ticket, first) = {
        let dirs = [dir(), dir()];
        let first = Node::start(dirs[0].path(), &[]);
        (dirs, first.ticket(), first)
    };
    let second = Node::join(dirs[1].path(), &ticket, &[]);
    first.printed(&["put", "k", "v"]);
    let endpoint = second.ready()["endpoint_id"].clone();
    second.kill();
    let data = dirs[1].path().join("data");
    for entry in data.read_dir().expect("a directory").flatten() {
        if entry.file_name() == "node.key" {
            continue;
        }
        let path = entry.path();
        let gone = if path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            std::fs::remove_file(&path)
        };
        gone.expect("removed");
    }
    let again = Node::join(dirs[1].path(), &ticket, &[]);
    assert_eq!((again.id(), &again.ready()["endpoint_id"]), (3, &endpoint));
    assert_eq!(again.printed(&["get", "k"]), "v");
    assert!(until(|| members(&first) == [1, 3]), "{}", cluster(&first));
}

/// Kills a joiner at random moments until one try is let through. `ASPEN_KILL_ROUNDS` sets how
/// often, `ASPEN_KILL_SEED` repeats a run's choices.
#[test]
fn a_join_that_is_killed_at_any_moment_is_finished_by_the_next() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let rounds = number("ASPEN_KILL_ROUNDS").unwrap_or(6);
    let seed = number("ASPEN_KILL_SEED").unwrap_or(1);
    let dirs = [dir(), dir(), dir()];
    let first = Node::start(dirs[0].path(), &[]);
    let second = Node::join(dirs[1].path(), &first.ticket(), &[]);
    first.printed(&["put", "k", "v"]);
    // One use: asking again must not count as another.
    let ticket = first.printed(&["ticket", "create"]);
    let ticket = ticket.trim();
    let mut dice = seed;
    for _ in 0..rounds {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis((dice >> 33) % 800);
        let begun = Instant::now();
        let mut joining = Node::joining(dirs[2].path(), ticket, &[]);
        until(|| begun.elapsed() >= moment || joining.ended().is_some());
        assert_eq!(joining.ended(), None, "seed {seed}: it ended by itself: {}", joining.log());
        joining.kill();
    }
    let joined = Node::join(dirs[2].path(), ticket, &[]);
    assert_eq!(joined.id(), 3, "seed {seed}");
    assert_eq!(joined.printed(&["get", "k"]), "v");
    assert_eq!(members(&first), [1, 2, 3], "seed {seed}: {}", cluster(&first));
    let mut nodes = vec![first, second, joined];
    wait_for_voters(&nodes, &[1, 2, 3]);
    // The ticket is not needed any more.
    nodes.pop().expect("it joined").kill();
    let again = Node::start(dirs[2].path(), &[]);
    assert_eq!((again.id(), again.printed(&["get", "k"])), (3, "v".to_owned()));
}

#[test]
fn of_two_that_ask_for_one_number_at_once_one_is_told_no_and_joins_by_another() {
    let dirs = [0, 1, 2].map(|_| tempfile::tempdir().expect("a directory"));
    let first = Node::start(dirs[0].path(), &[]);
    let ticket = first.ticket();
    let ask = |dir: &TempDir| Node::joining(dir.path(), &ticket, &["--node-id", "7"]);
    let mut two: Vec<Node> = dirs[1..].iter().map(ask).collect();
    assert!(until(|| two.iter_mut().any(Node::has_ended)), "both are let in");
    let told_no = two.iter_mut().position(Node::has_ended).expect("one of them");
    let mut refused = two.remove(told_no);
    assert_eq!(refused.ended(), Some(1));
    let why = "the number 7 is or was another node's; ask for another, or for none";
    assert!(refused.log().contains(why), "{}", refused.log());
    let seventh = two.remove(0).until_ready();
    let eighth = Node::join(dirs[1 + told_no].path(), &ticket, &["--node-id", "8"]);
    for node in [&first, &seventh, &eighth] {
        assert!(until(|| members(node) == [1, 7, 8]), "{:?}", members(node));
    }
}

/// Two nodes, of which the first alone votes: of two no majority could do without the other.
#[track_caller]
fn two() -> ([TempDir; 2], Node, Node) {
    let dirs = [dir(), dir()];
    let first = Node::start(dirs[0].path(), &[]);
    let second = Node::join(dirs[1].path(), &first.ticket(), &[]);
    assert!(until(|| cluster(&first)["groups"][0]["learners"] == serde_json::json!([2])));
    (dirs, first, second)
}

#[test]
fn whoever_would_leave_while_nobody_can_take_over_is_told_what_to_do() {
    let (_dirs, first, second) = two();
    second.kill();
    let is_away = || cluster(&first)["members"][1]["connected"] == false;
    assert!(until(is_away), "it is reached: {}", cluster(&first));
    first.run(&["leave"]).refused_as("`aspen remove 2` and let another node join");
    first.printed(&["remove", "2"]);
    first.run(&["leave"]).refused_as("node 1 is the last that may vote; add another voter first");
    first.printed(&["ticket", "create"]);
}

#[test]
fn without_a_majority_it_is_told_what_can_be_done_and_who_is_waited_for() {
    let (dirs, first, second) = two();
    first.kill();
    for change in [&["leave"][..], &["remove", "1"]] {
        let refused = second.run(&[change, &["--timeout", "20s"]].concat());
        assert!(refused.stderr.contains("`aspen recover` makes a new cluster"), "{refused:?}");
        assert_eq!(refused.code, 3, "{refused:?}");
    }
    assert!(until(|| second.printed(&["status"]).contains("`aspen recover` on a survivor")));
    second.kill();
    let second = Node::starting(dirs[1].path());
    second.wait_for_log("the node waits for a majority of its cluster; start those that are away");
    assert!(second.log().contains("away=\"1\""), "{}", second.log());
}

#[test]
fn who_leaves_with_many_shards_has_left_in_time_though_nobody_waits_for_it() {
    let (_dirs, first, mut second) = two();
    first.printed(&["keyspace", "create", "logs", "--shards", "16"]);
    let are_led = || {
        let cluster = cluster(&first);
        let leads = |member: usize| cluster["members"][member]["leads"].as_u64();
        let groups = cluster["groups"].as_array().into_iter().flatten();
        let led_by_second = groups.filter(|group| group["leader"] == 2).count();
        leads(1).is_some_and(|leads| leads > 4 && leads == led_by_second as u64)
    };
    assert!(until(are_led), "{}", cluster(&first));
    let asking = second.following(&["leave"]);
    let is_leaving = || cluster(&first)["members"][1]["state"] == "leaving";
    assert!(until(is_leaving), "{}", cluster(&first));
    drop(asking);
    assert_eq!(second.code(), 1, "{}", second.log());
    assert_eq!(members(&first), [1]);
    first.printed(&["put", "k", "v", "--keyspace", "logs"]);
}
