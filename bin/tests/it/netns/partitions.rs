//! Links that are cut: in two halves, or between two hosts only. Who goes on, who refuses, and what
//! all of them know once it is mended.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use aspen::roster::spread::shard_of;
use serde_json::Value;
use tokio::time::Instant;

use super::behaviour::cluster;
use super::lan::Lan;
use super::node::{Node, logs};
use crate::support::{Run, until};

/// The exit code of what can't be done now, and was not.
const UNREACHABLE: i32 = 3;
/// Of what may have been done.
const UNKNOWN: i32 = 4;
/// How long commands that run at once may take: a node tries for 5 s, and the rest is for a machine
/// on which they wait for each other.
const AT_ONCE_MAX: Duration = Duration::from_secs(20);
/// How long there is load while two hosts are apart: longer than any election takes, and than a link
/// is thought to live without a word.
const APART: Duration = Duration::from_secs(6);

/// The shards of a keyspace, as a node knows them.
fn shards(node: &Node<'_>, keyspace: &str) -> Vec<Value> {
    let shown = node.run(&["keyspace", "show", keyspace, "--json"]).stdout;
    let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
    shown["shards"].as_array().cloned().unwrap_or_default()
}

fn replicas_of(shard: &Value) -> BTreeSet<u64> {
    shard["replicas"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// The groups of which a node holds a replica, the meta group first.
#[track_caller]
fn groups(node: &Node<'_>) -> Vec<Value> {
    let status: Value = serde_json::from_str(&node.printed(&["status", "--json"])).expect("JSON");
    status["cluster"]["groups"].as_array().expect("groups").clone()
}

/// Waits until all nodes vote in the meta group, and each shard of the keyspace is on so many of them
/// and led by the one that is to lead it.
#[track_caller]
fn wait_until_settled(nodes: &[Node<'_>], keyspace: &str, replicas: usize) {
    let leads = |node: &Node<'_>, shard: &Value| {
        let led = |group: &Value| group["id"] == shard["group"] && group["leader"] == node.id();
        shard["wanted_leader"] == node.id() && groups(node).iter().any(led)
    };
    let is_settled = |shard: &Value| {
        shard["stage"] == "settled"
            && replicas_of(shard).len() == replicas
            && nodes.iter().any(|node| leads(node, shard))
    };
    let in_time = until(|| {
        let voters = groups(&nodes[0])[0]["voters"].as_array().map(Vec::len);
        let shards = shards(&nodes[0], keyspace);
        voters == Some(nodes.len()) && !shards.is_empty() && shards.iter().all(is_settled)
    });
    assert!(in_time, "{:?}: {}", shards(&nodes[0], keyspace), logs(nodes));
}

/// For each of so many shards something in braces that puts keys there.
fn tag_of_each(shards: u32) -> Vec<String> {
    let tag = |shard: u32| {
        let mut tags = (0..).map(|number: u32| format!("{{{number}}}"));
        tags.find(|tag| shard_of(tag.as_bytes(), shards) == shard).expect("there are many")
    };
    (0..shards).map(tag).collect()
}

/// A command, as it was typed, and what became of it.
#[derive(Debug)]
struct Done {
    typed: String,
    run: Run,
}

/// Runs commands side by side, and asserts that all end in time. Nobody looks again and again
/// whether they have: so many lookers would leave the nodes no time.
#[track_caller]
fn at_once(commands: Vec<Command>) -> Vec<Done> {
    let began = Instant::now();
    let done: Vec<Done> = thread::scope(|scope| {
        let spawn = |command| scope.spawn(move || done(command));
        let running: Vec<_> = commands.into_iter().map(spawn).collect();
        running.into_iter().map(|run| run.join().expect("no panic")).collect()
    });
    assert!(began.elapsed() < AT_ONCE_MAX, "they took {:?}: {done:?}", began.elapsed());
    done
}

fn done(mut command: Command) -> Done {
    let Output { status, stdout, stderr } = command.output().expect("the command runs");
    let [stdout, stderr] =
        [stdout, stderr].map(|bytes| String::from_utf8(bytes).expect("it prints text"));
    let code = status.code().expect("the command ends by itself");
    Done { typed: format!("{command:?}"), run: Run { code, stdout, stderr } }
}

impl Done {
    /// Asserts that it was refused for now, in one sentence.
    #[track_caller]
    fn refused_for_now(&self) {
        let Run { code, stdout, stderr } = &self.run;
        let is_one = stderr.starts_with("aspen: group ") && stderr.lines().count() == 1;
        assert!(is_one && stderr.contains(" is unavailable: "), "{self:?}");
        assert_eq!((*code, stdout.as_str()), (UNREACHABLE, ""), "{self:?}");
    }

    /// The same of a write, of which it may be told instead that its outcome is unknown; whether it
    /// was refused.
    #[track_caller]
    fn write_refused_for_now(&self) -> bool {
        let Run { code, stdout, stderr } = &self.run;
        if *code != UNKNOWN {
            self.refused_for_now();
            return true;
        }
        assert!(stderr.starts_with("aspen: the outcome of the write "), "{self:?}");
        assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{self:?}");
        false
    }
}

/// What is known to be written, and the keys, and names of keyspaces, that may be.
#[derive(Debug, Default)]
struct Written {
    known: BTreeMap<String, String>,
    unknown: BTreeSet<String>,
}

impl Written {
    fn put(&mut self, key: &str, value: &str) {
        self.known.insert(key.to_owned(), value.to_owned());
    }

    /// Whether a listing of the keyspace is just that.
    fn is(&self, listed: &Run) -> bool {
        let records = listed.stdout.lines().filter_map(|line| line.split_once('\t'));
        let records = records.filter(|(key, _)| !self.unknown.contains(*key));
        let known = self.known.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        listed.code == 0 && records.eq(known)
    }

    /// Waits until every node knows just that, each record at the same revisions, whether it asks
    /// the others or itself alone.
    #[track_caller]
    fn is_everywhere(&self, nodes: &[Node<'_>], keyspace: &str) {
        let range = ["range", "--keyspace", keyspace];
        let stale = [&range[..], &["--consistency", "stale", "--json"]].concat();
        let mended = Instant::now();
        let agreed = until(|| {
            let ranges: BTreeSet<String> =
                nodes.iter().map(|node| node.run(&stale).stdout).collect();
            ranges.len() == 1 && nodes.iter().all(|node| self.is(&node.run(&range)))
        });
        let listed = || nodes.iter().map(|node| node.run(&range)).collect::<Vec<_>>();
        assert!(agreed, "{self:?} is not in {:?}: {}", listed(), logs(nodes));
        println!("all know the same of {keyspace} {:?} after it is mended", mended.elapsed());
    }
}

/// The keyspace of which every node holds all.
const WIDE: [&str; 2] = ["--keyspace", "wide"];
/// As many as there are nodes, so that on either side of a cut some lead some.
const WIDE_SHARDS: u32 = 5;

fn on_wide(node: &Node<'_>, words: &[&str]) -> Command {
    node.command(&[words, &WIDE].concat())
}

/// Asserts that those without a majority take no write and no change of the cluster, read nothing
/// at these consistencies, and show what they know to whoever asks for no more.
#[track_caller]
fn are_few(few: &[Node<'_>], tags: &[String], fresh: &[&str], known: &str, written: &mut Written) {
    // A keyspace's name stands among the keys.
    let (mut keys, mut writes, mut refused, mut shown) = (vec![], vec![], vec![], vec![]);
    for node in few {
        let name = format!("few-{}-{}", node.id(), fresh.len());
        for tag in tags {
            let (key, new) = (format!("{tag}/key"), format!("{tag}/{name}"));
            writes.push(on_wide(node, &["put", &new, "by few"]));
            keys.push(new);
            let get = |consistency| on_wide(node, &["get", &key, "--consistency", consistency]);
            refused.extend(fresh.iter().map(|consistency| get(consistency)));
            shown.push(get("stale"));
        }
        refused.push(on_wide(node, &["range"]));
        writes.push(node.command(&["keyspace", "create", &name]));
        keys.push(name);
    }
    let (refused_at, shown_at) = (writes.len(), writes.len() + refused.len());
    let done = at_once([writes, refused, shown].into_iter().flatten().collect());
    for (key, write) in keys.into_iter().zip(&done[..refused_at]) {
        if !write.write_refused_for_now() {
            written.unknown.insert(key);
        }
    }
    done[refused_at..shown_at].iter().for_each(Done::refused_for_now);
    for Done { typed, run } in &done[shown_at..] {
        assert_eq!((run.code, run.stdout.as_str()), (0, known), "{typed}: {run:?}");
    }
}

/// Asserts that each of those with a majority takes writes of every shard that all of them read.
#[track_caller]
fn are_enough(enough: &[Node<'_>], tags: &[String], written: &mut Written) {
    for node in enough {
        for key in tags.iter().map(|tag| format!("{tag}/key")) {
            let value = format!("by {}", node.id());
            node.printed(&[&["put", &key, &value][..], &WIDE].concat());
            written.put(&key, &value);
            for reader in enough {
                assert_eq!(reader.printed(&[&["get", &key][..], &WIDE].concat()), value);
            }
        }
    }
}

/// The names of the keyspaces, as a node knows them.
fn keyspaces(node: &Node<'_>) -> Vec<String> {
    let listed = node.run(&["keyspace", "list"]).stdout;
    let names = listed.lines().skip(1).filter_map(|row| row.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[test]
fn of_five_hosts_cut_in_two_three_go_on_and_two_refuse_and_mended_they_have_one_history() {
    let Some(lan) = Lan::new(5) else { return };
    let nodes = cluster(&lan, &[]);
    let shards = WIDE_SHARDS.to_string();
    nodes[0].printed(&["keyspace", "create", "wide", "--shards", &shards, "--replicas", "5"]);
    wait_until_settled(&nodes, "wide", nodes.len());
    let (tags, mut written) = (tag_of_each(WIDE_SHARDS), Written::default());
    for key in tags.iter().map(|tag| format!("{tag}/key")) {
        nodes[0].printed(&[&["put", &key, "before"][..], &WIDE].concat());
        written.put(&key, "before");
    }
    written.is_everywhere(&nodes, "wide");

    let (two, three) = nodes.split_at(2);
    lan.cut_before(two.len());
    // Under the lease of a leader among them they may read for as long as it lasts.
    are_few(two, &tags, &["linearizable"], "before", &mut written);
    are_enough(three, &tags, &mut written);
    are_few(two, &tags, &["linearizable", "lease"], "before", &mut written);
    for node in three {
        let name = format!("by-{}", node.id());
        node.printed(&["keyspace", "create", &name]);
        for other in three {
            let key = other.id().to_string();
            other.printed(&["put", &key, "v", "--keyspace", &name]);
        }
    }

    lan.mend();
    written.is_everywhere(&nodes, "wide");
    let made = ["by-3", "by-4", "by-5"];
    let all = ["by-3", "by-4", "by-5", "default", "wide"];
    for node in &nodes {
        let known =
            || keyspaces(node).into_iter().filter(|name| !written.unknown.contains(name)).collect();
        let agreed = until(|| Vec::<String>::eq(&known(), &all));
        assert!(agreed, "{:?}: {node}", keyspaces(node));
        for name in made {
            assert_eq!(node.printed(&["range", "--count", "--keyspace", name]), "3\n");
        }
    }
    are_enough(&nodes, &tags, &mut written);
}

/// A shard as it is to be used through a node.
#[derive(Clone, Copy)]
struct Use<'a> {
    node: &'a Node<'a>,
    /// All nodes that this one hears.
    side: &'a [Node<'a>],
    shard: &'a Value,
    tag: &'a String,
}

impl Use<'_> {
    /// Whether most of the shard's three replicas are on the node's side.
    fn is_possible(&self) -> bool {
        let replicas = replicas_of(self.shard);
        self.side.iter().filter(|node| replicas.contains(&node.id())).count() >= 2
    }

    fn key_by(&self, node: &Node<'_>) -> String {
        format!("{}/by-{}", self.tag, node.id())
    }

    fn key(&self) -> String {
        self.key_by(self.node)
    }

    /// The keys that all nodes of the side put, as they are listed.
    fn keys(&self) -> String {
        self.side.iter().map(|node| self.key_by(node) + "\n").collect()
    }
}

#[test]
fn of_hosts_cut_in_two_a_shard_works_on_the_side_that_has_most_of_its_replicas() {
    let Some(lan) = Lan::new(5) else { return };
    let nodes = cluster(&lan, &["--shards", "8"]);
    wait_until_settled(&nodes, "default", 3);
    let (tags, shards) = (tag_of_each(8), shards(&nodes[0], "default"));
    lan.cut_before(2);

    let (two, three) = nodes.split_at(2);
    let mut uses = Vec::new();
    for side in [two, three] {
        let of_side = |(shard, tag)| side.iter().map(move |node| Use { node, side, shard, tag });
        let of_side: Vec<_> = shards.iter().zip(&tags).flat_map(of_side).collect();
        assert!(of_side.iter().any(Use::is_possible), "it has no majority: {shards:?}");
        uses.extend(of_side);
    }
    let mut written = Written::default();
    let put = |using: &Use<'_>| using.node.command(&["put", &using.key(), "v"]);
    for (using, done) in uses.iter().zip(at_once(uses.iter().map(put).collect())) {
        if using.is_possible() {
            assert_eq!(done.run.code, 0, "{}: {done:?}; {}", using.shard, using.node);
            written.put(&using.key(), "v");
        } else if !done.write_refused_for_now() {
            written.unknown.insert(using.key());
        }
    }
    let range =
        |using: &Use<'_>| using.node.command(&["range", &format!("{}/", using.tag), "--keys-only"]);
    for (using, done) in uses.iter().zip(at_once(uses.iter().map(range).collect())) {
        if using.is_possible() {
            assert_eq!(done.run.stdout, using.keys(), "{}: {done:?}; {}", using.shard, using.node);
        } else {
            done.refused_for_now();
        }
    }

    lan.mend();
    let range = |node: &Node<'_>| node.run(&["range"]);
    for node in &nodes {
        assert!(until(|| written.is(&range(node))), "{written:?}; {:?}; {node}", range(node));
    }
}

/// The term and the leader of each group, as each node knows them.
#[track_caller]
fn led(nodes: &[Node<'_>]) -> Vec<Vec<(Value, Value)>> {
    let led = |mut group: Value| (group["term"].take(), group["leader"].take());
    nodes.iter().map(|node| groups(node).into_iter().map(led).collect()).collect()
}

/// Three hosts with a node each, of which the first leads all groups.
#[track_caller]
fn led_by_the_first(lan: &Lan) -> Vec<Node<'_>> {
    let nodes = cluster(lan, &[]);
    let voters = |group: &Value| group["voters"].as_array().map(Vec::len);
    let all_vote =
        |node| groups(node).len() == 2 && groups(node).iter().all(|group| voters(group) == Some(3));
    assert!(until(|| nodes.iter().all(all_vote)), "{}", logs(&nodes));
    let first = nodes[0].id().to_string();
    for group in ["0", "1"] {
        nodes[0].printed(&["transfer", group, &first]);
    }
    let known = until(|| led(&nodes).iter().flatten().all(|(_, leader)| *leader == nodes[0].id()));
    assert!(known, "{}", logs(&nodes));
    nodes
}

/// For a while, has each of the writers put what all then read, and asserts that all of it goes well
/// at the first call and that nobody is elected meanwhile.
#[track_caller]
fn work_under_their_leader(nodes: &[Node<'_>], writers: &[Node<'_>]) {
    let (before, began) = (led(nodes), Instant::now());
    let mut count = 0;
    while began.elapsed() < APART {
        for writer in writers {
            count += 1;
            writer.printed(&["put", "count", &count.to_string()]);
            for reader in nodes {
                assert_eq!(reader.printed(&["get", "count"]), count.to_string(), "{reader}");
            }
        }
    }
    println!("{count} puts, each read by all");
    assert_eq!(led(nodes), before, "somebody was elected: {}", logs(nodes));
}

#[test]
fn two_followers_that_do_not_hear_each_other_are_served_as_ever() {
    let Some(lan) = Lan::new(3) else { return };
    let nodes = led_by_the_first(&lan);
    lan.cut_between(1, 2);
    work_under_their_leader(&nodes, &nodes);
    lan.mend_between();
    work_under_their_leader(&nodes, &nodes);
}

#[test]
fn a_follower_that_does_not_hear_its_leader_has_others_ask_it_and_is_no_candidate() {
    let Some(lan) = Lan::new(3) else { return };
    let nodes = led_by_the_first(&lan);
    lan.cut_between(0, 2);
    work_under_their_leader(&nodes, &nodes);
    lan.mend_between();
    work_under_their_leader(&nodes, &nodes);
    let caught_up = || nodes[2].run(&["get", "count", "--consistency", "stale"]).stdout;
    let count = nodes[0].printed(&["get", "count"]);
    assert!(until(|| caught_up() == count), "{} of {count}: {}", caught_up(), nodes[2]);
}
