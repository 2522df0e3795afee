//! What nodes answer of their cluster is what was done to it from outside, field by field and through
//! every node, and so is where they say that a key lives.
//!
//! A form is held whole against what it should be. What is not the same everywhere and always, by
//! its nature, is taken out first by its name and looked at by itself. So a field that is not named
//! here fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use aspen::seams::{SystemClock, WallClock};
use futures_util::future::join_all;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::http::Http;
use crate::shards::{Nodes, nodes_of};
use crate::support::{Asking, Node, aspen, run, send, until};

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What should be so and is not; asked again it may be.
type Checked = Result<(), String>;

fn holds(is_so: bool, what: impl FnOnce() -> String) -> Checked {
    if is_so { Ok(()) } else { Err(what()) }
}

fn same(what: &str, is: &Value, should: &Value) -> Checked {
    holds(is == should, || format!("{what} is\n{is}\nand should be\n{should}"))
}

/// Takes fields out of a form that has them always.
#[track_caller]
fn take<const N: usize>(form: &mut Value, names: [&str; N]) -> [Value; N] {
    let fields = form.as_object_mut().expect("an object");
    names.map(|name| fields.remove(name).unwrap_or_else(|| panic!("no {name} in {fields:?}")))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn numbers(value: &Value) -> Vec<u64> {
    list(value).map(|number| number.as_u64().expect("a number")).collect()
}

fn now_s() -> u64 {
    SystemClock.since_epoch().as_secs()
}

/// As many of so many replicas vote.
fn odd(replicas: usize) -> usize {
    replicas - usize::from(replicas.is_multiple_of(2))
}

/// A member, as it was started and treated.
struct Member {
    name: &'static str,
    endpoint_id: Value,
    /// Where it is, as the ticket says with which it said that it was ready.
    addresses: Value,
    capacity: u32,
    draining: bool,
    maintenance: bool,
    /// It was killed.
    is_gone: bool,
}

impl Member {
    fn of(node: &Node, name: &'static str, capacity: u32) -> Self {
        let ticket = run(&mut aspen(["ticket", "show", "--json", &node.ticket()])).printed();
        let ticket: Value = serde_json::from_str(&ticket).expect("JSON");
        let endpoint_id = node.ready()["endpoint_id"].clone();
        let itself = list(&ticket["peers"]).find(|peer| peer["endpoint_id"] == endpoint_id);
        let addresses = itself.expect("it names itself")["addresses"].clone();
        assert_ne!(addresses, json!([]));
        let (draining, maintenance, is_gone) = (false, false, false);
        Member { name, endpoint_id, addresses, capacity, draining, maintenance, is_gone }
    }
}

/// A keyspace, as it was asked for.
struct Keyspace {
    shards: u64,
    replicas: usize,
    first_group: u64,
    made_s: RangeInclusive<u64>,
}

/// What was done from outside.
struct Done {
    cluster_id: Value,
    began_s: u64,
    members: BTreeMap<u64, Member>,
    keyspaces: BTreeMap<&'static str, Keyspace>,
    settings: BTreeMap<&'static str, &'static str>,
}

/// All that one node answers.
struct Answers {
    node: u64,
    cluster: Value,
    /// When it was asked for the cluster.
    asked_s: RangeInclusive<u64>,
    /// Each member, asked for by its number.
    members: BTreeMap<u64, Value>,
    shards: Value,
    /// Those of each keyspace, asked for by its name.
    shards_of: BTreeMap<String, Value>,
    keyspaces: Value,
    /// Each keyspace, asked for by its name.
    keyspaces_by_name: BTreeMap<String, Value>,
    settings: Value,
    version: Value,
}

impl Answers {
    #[track_caller]
    fn of(node: &Node, asking: &Asking, done: &Done) -> Self {
        let get = |path: &str| asking.get(node, path);
        let by_name = |path: &str| {
            let names = done.keyspaces.keys();
            names.map(|name| (name.to_string(), get(&format!("{path}{name}")))).collect()
        };
        let asked_at_s = now_s();
        let cluster = get("/v1/cluster");
        Answers {
            node: node.id(),
            cluster,
            asked_s: asked_at_s..=now_s(),
            members: done.members.keys().map(|id| (*id, get(&format!("/v1/nodes/{id}")))).collect(),
            shards: get("/v1/shards"),
            shards_of: by_name("/v1/shards?keyspace="),
            keyspaces: get("/v1/keyspaces"),
            keyspaces_by_name: by_name("/v1/keyspaces/"),
            settings: get("/v1/settings"),
            version: get("/version"),
        }
    }

    /// A group of the cluster, as this node has it.
    fn group(&self, id: u64) -> Option<&Value> {
        list(&self.cluster["groups"]).find(|group| group["id"] == id)
    }
}

impl Done {
    /// Waits until all nodes say what was done, and the same.
    #[track_caller]
    fn is_told_by_all(&self, nodes: &Nodes, asking: &Asking) {
        let mut wrong = String::new();
        let in_time = until(|| {
            let answers: Vec<Answers> =
                nodes.all().map(|node| Answers::of(node, asking, self)).collect();
            let checked = self.check(&answers);
            wrong = checked.as_ref().err().cloned().unwrap_or_default();
            checked.is_ok()
        });
        assert!(in_time, "{wrong}");
    }

    fn check(&self, answers: &[Answers]) -> Checked {
        let first = answers.first().expect("a node");
        self.check_shards(&first.shards)?;
        for answers in answers {
            let told = |checked: Checked| {
                checked.map_err(|wrong| format!("through node {}: {wrong}", answers.node))
            };
            told(same("/v1/shards", &answers.shards, &first.shards))?;
            told(same("/v1/keyspaces", &answers.keyspaces, &first.keyspaces))?;
            told(same("/v1/settings", &answers.settings, &first.settings))?;
            told(same(
                "/version",
                &answers.version,
                &json!({"name": "aspen", "version": VERSION}),
            ))?;
            told(self.check_by_keyspace(answers))?;
        }
        self.check_keyspaces(&first.keyspaces)?;
        self.check_settings(&first.settings, &first.shards["epoch"])?;
        let groups = self.groups(answers)?;
        for answers in answers {
            let checked = self.check_cluster(answers, &groups);
            checked.map_err(|wrong| format!("through node {}: {wrong}", answers.node))?;
        }
        Ok(())
    }

    /// Who may hold replicas.
    fn holders(&self) -> BTreeSet<u64> {
        let holders = self.members.iter().filter(|(_, member)| !member.draining);
        holders.map(|(node, _)| *node).collect()
    }

    /// Every shard of every keyspace, settled on as many of those that may hold it as can be, and to
    /// be led by one of them.
    fn check_shards(&self, answer: &Value) -> Checked {
        let mut answer = answer.clone();
        let [epoch, shards] = take(&mut answer, ["epoch", "shards"]);
        same("/v1/shards", &answer, &json!({}))?;
        holds(epoch.as_u64() > Some(0), || format!("the epoch is {epoch}"))?;
        let mut shown = list(&shards);
        for (name, keyspace) in self.by_first_group() {
            for shard in 0..keyspace.shards {
                let Some(mut form) = shown.next().cloned() else {
                    return Err(format!("{name} has no shard {shard}: {shards}"));
                };
                let [replicas, leader] = take(&mut form, ["replicas", "wanted_leader"]);
                let group = keyspace.first_group + shard;
                let settled = json!({
                    "keyspace": name, "shard": shard, "group": group, "stage": "settled",
                    "leaving": [],
                });
                same("a shard", &form, &settled)?;
                self.check_place(group, keyspace, &numbers(&replicas), &leader)?;
            }
        }
        holds(shown.next().is_none(), || format!("too many shards: {shards}"))
    }

    fn by_first_group(&self) -> Vec<(&'static str, &Keyspace)> {
        let mut keyspaces: Vec<_> = self.keyspaces.iter().map(|(name, of)| (*name, of)).collect();
        keyspaces.sort_by_key(|(_, keyspace)| keyspace.first_group);
        keyspaces
    }

    fn check_place(
        &self,
        group: u64,
        keyspace: &Keyspace,
        replicas: &[u64],
        leader: &Value,
    ) -> Checked {
        let holders = self.holders();
        let distinct: BTreeSet<u64> = replicas.iter().copied().collect();
        let is_whole = replicas.len() == keyspace.replicas.min(holders.len());
        let is_sound = distinct.len() == replicas.len() && distinct.is_subset(&holders);
        holds(is_whole && is_sound, || format!("group {group} is on {replicas:?} of {holders:?}"))?;
        let may_lead = |node: u64| distinct.contains(&node) && !self.members[&node].maintenance;
        let is_led = leader.as_u64().is_some_and(may_lead);
        holds(is_led, || format!("group {group} on {replicas:?} is to be led by {leader}"))
    }

    /// Asked for one keyspace, a node says of it what it says of it among all.
    fn check_by_keyspace(&self, answers: &Answers) -> Checked {
        for name in self.keyspaces.keys() {
            let of = |forms: &Value, field: &str| -> Vec<Value> {
                list(forms).filter(|form| form[field] == *name).cloned().collect()
            };
            let shards = of(&answers.shards["shards"], "keyspace");
            let shards = json!({"epoch": answers.shards["epoch"], "shards": shards});
            same("/v1/shards?keyspace=", &answers.shards_of[*name], &shards)?;
            let keyspace = json!(of(&answers.keyspaces["keyspaces"], "name"));
            same("/v1/keyspaces/", &json!([answers.keyspaces_by_name[*name]]), &keyspace)?;
        }
        Ok(())
    }

    fn check_keyspaces(&self, answer: &Value) -> Checked {
        let mut answer = answer.clone();
        let mut forms = Vec::new();
        for form in answer["keyspaces"].as_array_mut().expect("a list") {
            let [created_s] = take(form, ["created_s"]);
            let name = form["name"].as_str().unwrap_or_default();
            let Some(keyspace) = self.keyspaces.get(name) else {
                return Err(format!("there is no keyspace {name}"));
            };
            let is_then = created_s.as_u64().is_some_and(|at| keyspace.made_s.contains(&at));
            holds(is_then, || {
                format!("{name} was made in {created_s}, not {:?}", keyspace.made_s)
            })?;
        }
        for (name, Keyspace { shards, replicas, first_group, .. }) in &self.keyspaces {
            forms.push(json!({
                "name": name, "shards": shards, "replicas": replicas, "first_group": first_group,
                "settled": shards,
            }));
        }
        same("/v1/keyspaces", &answer, &json!({ "keyspaces": forms }))
    }

    /// All settings that there are, those that were set as they were, the others as they are by
    /// default.
    fn check_settings(&self, answer: &Value, epoch: &Value) -> Checked {
        let mut answer = answer.clone();
        let [settings] = take(&mut answer, ["settings"]);
        same("/v1/settings", &answer, &json!({ "epoch": epoch }))?;
        let mut left = self.settings.clone();
        for setting in list(&settings) {
            let mut form = setting.clone();
            let [name, default, help] = take(&mut form, ["name", "default", "help"]);
            let name = name.as_str().expect("a name");
            let value = left.remove(name).map_or_else(|| default.clone(), Value::from);
            same(name, &form, &json!({ "value": value }))?;
            let is_said = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
            holds(is_said(&default) && is_said(&help), || format!("{setting} says too little"))?;
        }
        holds(left.is_empty(), || format!("{left:?} are not among {settings}"))
    }

    /// What all holders of each group say of it, whichever of them is asked; and each holds what the
    /// shards' places say, and the meta group, and nothing else.
    fn groups(&self, answers: &[Answers]) -> Result<BTreeMap<u64, Value>, String> {
        let shards = &answers.first().expect("a node").shards["shards"];
        let mut places: BTreeMap<u64, (BTreeSet<u64>, Option<&Value>)> = list(shards)
            .map(|shard| {
                let group = shard["group"].as_u64().expect("a number");
                (group, (nodes_of(shard), Some(&shard["wanted_leader"])))
            })
            .collect();
        places.insert(0, (self.members.keys().copied().collect(), None));
        for Answers { node, cluster, .. } in answers {
            let held: Vec<Value> =
                list(&cluster["groups"]).map(|group| group["id"].clone()).collect();
            let is_there = places.iter().filter(|(_, (nodes, _))| nodes.contains(node));
            let should: Vec<u64> = is_there.map(|(group, _)| *group).collect();
            same(&format!("what node {node} holds"), &json!(held), &json!(should))?;
        }
        let shown = |(group, (nodes, wanted)): (u64, (BTreeSet<u64>, Option<&Value>))| {
            let said = self.group(group, &nodes, answers)?;
            // What a node was to lead that is away, others lead until it is back.
            let is_there = |node: &Value| node.as_u64().is_some_and(|node| !self.is_gone(node));
            let is_led = match wanted.filter(|wanted| is_there(wanted)) {
                Some(wanted) => said["leader"] == *wanted,
                None => is_there(&said["leader"]),
            };
            holds(is_led, || format!("{wanted:?} is to lead group {group}: {said}"))?;
            Ok((group, said))
        };
        places.into_iter().map(shown).collect()
    }

    fn is_gone(&self, node: u64) -> bool {
        self.members[&node].is_gone
    }

    fn group(&self, id: u64, nodes: &BTreeSet<u64>, answers: &[Answers]) -> Result<Value, String> {
        let mut said: Option<Value> = None;
        for answers in answers.iter().filter(|answers| nodes.contains(&answers.node)) {
            let mut form = answers.group(id).expect("it was looked for").clone();
            // Whether its clock stands still is each node's own.
            let [asleep, role, replicas] = take(&mut form, ["asleep", "role", "replicas"]);
            holds(asleep.is_boolean(), || format!("it is asleep: {asleep}"))?;
            same("a group", &form, said.get_or_insert_with(|| form.clone()))?;
            same("a role", &role, &json!(role_in(&form, answers.node, "follower")))?;
            let others = nodes.iter().filter(|node| role == "leader" && **node != answers.node);
            let (gone, there): (Vec<u64>, Vec<u64>) = others.partition(|node| self.is_gone(**node));
            let stored = |node| json!({"node": node, "stored_index": form["last_log_index"]});
            let (away, replicas): (Vec<&Value>, Vec<&Value>) = list(&replicas)
                .partition(|replica| gone.iter().any(|node| replica["node"] == *node));
            same("replicas", &json!(replicas), &there.into_iter().map(stored).collect())?;
            // What one that is away has stored was heard before, or not by this leader.
            let is_before = |replica: &&Value| {
                replica["stored_index"].as_u64() <= form["last_log_index"].as_u64()
            };
            holds(away.len() == gone.len() && away.iter().all(is_before), || {
                format!("of {gone:?} group {id} says {away:?}")
            })?;
        }
        let form = said.ok_or_else(|| format!("nobody holds group {id}"))?;
        let mut rest = form.clone();
        let [term, last, revision, voters, learners, leader] =
            take(&mut rest, ["term", "last_log_index", "revision", "voters", "learners", "leader"]);
        same(
            "a group",
            &rest,
            &json!({"id": id, "applied_index": last, "damage": null, "repair": null}),
        )?;
        let (voters, learners) = (numbers(&voters), numbers(&learners));
        let mut all = [voters.clone(), learners].concat();
        all.sort_unstable();
        let is_sound = term.as_u64() > Some(0)
            && revision.is_u64()
            && all.iter().eq(nodes)
            && voters.len() == odd(nodes.len())
            && leader.as_u64().is_some_and(|leader| voters.contains(&leader));
        holds(is_sound, || format!("group {id} of {nodes:?} is {form}"))?;
        Ok(form)
    }

    fn check_cluster(&self, answers: &Answers, groups: &BTreeMap<u64, Value>) -> Checked {
        let mut cluster = answers.cluster.clone();
        let [now_s, members, _] = take(&mut cluster, ["now_s", "members", "groups"]);
        let asked_s = &answers.asked_s;
        let is_now = now_s.as_u64().is_some_and(|now_s| asked_s.contains(&now_s));
        holds(is_now, || format!("it is {now_s}, and was asked in {asked_s:?}"))?;
        let me = &self.members[&answers.node];
        let should = json!({
            "id": self.cluster_id, "name": "lab", "revision": answers.shards["epoch"],
            "node": {
                "id": answers.node, "endpoint_id": me.endpoint_id, "listen": me.addresses,
                "version": VERSION, "level": 3,
            },
        });
        same("/v1/cluster", &cluster, &should)?;
        let numbers: Vec<u64> =
            list(&members).filter_map(|member| member["node"].as_u64()).collect();
        holds(numbers.iter().eq(self.members.keys()), || format!("the members are {members}"))?;
        for (member, of) in list(&members).zip(self.members.keys()) {
            self.check_member(*of, member, answers, groups)?;
            self.check_member(*of, &answers.members[of], answers, groups)?;
        }
        Ok(())
    }

    fn check_member(
        &self,
        of: u64,
        form: &Value,
        answers: &Answers,
        groups: &BTreeMap<u64, Value>,
    ) -> Checked {
        let mut form = form.clone();
        let [heard_ms, reached_at, path, known, told] =
            take(&mut form, ["heard_ms", "reached_at", "path", "known", "told"]);
        let shards = || list(&answers.shards["shards"]);
        let Member { name, endpoint_id, addresses, capacity, draining, maintenance, is_gone } =
            &self.members[&of];
        let [unreached] = take(&mut form, ["unreached"]);
        let health = if *is_gone { "suspect" } else { "healthy" };
        let should = json!({
            "node": of, "name": name, "endpoint_id": endpoint_id, "role": "voter",
            "state": "active", "addresses": addresses, "version": VERSION, "level": 3,
            "connected": !is_gone, "health": health, "capacity": capacity, "draining": draining,
            "maintenance": maintenance,
            "replicas": shards().filter(|shard| nodes_of(shard).contains(&of)).count(),
            "leads": shards().filter(|shard| shard["wanted_leader"] == of).count(),
            "offences": 0,
        });
        same("a member", &form, &should)?;
        if *is_gone {
            holds(unreached.is_string(), || format!("node {of} is unreached: {unreached}"))?;
            let link = json!([reached_at, path]);
            return same("a link to one that is away", &link, &json!([null, null]));
        }
        same("why it is unreached", &unreached, &Value::Null)?;
        self.check_told(of, told, groups)?;
        if of == answers.node {
            let link = json!([heard_ms, reached_at, path, known]);
            return same("a link to itself", &link, &json!([0, null, null, []]));
        }
        holds(heard_ms.is_u64(), || format!("node {of} was heard {heard_ms} ms ago"))?;
        let is_there = list(addresses).any(|address| *address == reached_at);
        holds(is_there, || format!("node {of} at {addresses} is reached at {reached_at}"))?;
        check_path(path, &reached_at)?;
        self.check_known(of, &known)
    }

    /// Where a node would look for a member is where it is, and was noted since it is.
    fn check_known(&self, of: u64, known: &Value) -> Checked {
        let mut addresses = BTreeSet::new();
        for entry in list(known) {
            let mut form = entry.clone();
            let [address, source, noted_s] = take(&mut form, ["address", "source", "noted_s"]);
            same("a known address", &form, &json!({}))?;
            let sources = ["ticket", "roster", "gossip", "live"];
            let is_source = source.as_str().is_some_and(|source| sources.contains(&source));
            let is_time = noted_s.as_u64().is_some_and(|at| (self.began_s..=now_s()).contains(&at));
            holds(is_source && is_time, || format!("node {of} is known by {entry}"))?;
            addresses.insert(address.to_string());
        }
        let should = list(&self.members[&of].addresses).map(Value::to_string).collect();
        holds(addresses == should, || format!("node {of} at {should:?} is known at {known}"))
    }

    /// What a member says of itself is as new as its roles, and may be older than its logs.
    fn check_told(&self, of: u64, mut told: Value, groups: &BTreeMap<u64, Value>) -> Checked {
        holds(told.is_object(), || format!("node {of} has told nothing"))?;
        let [age_ms, writes, free, parts] =
            take(&mut told, ["age_ms", "writes_per_second", "free_percent", "groups"]);
        same("what it told", &told, &json!({ "version": VERSION }))?;
        let is_sound = age_ms.is_u64() && writes.is_u64() && free.as_u64() <= Some(100);
        holds(is_sound, || format!("node {of} told {age_ms}, {writes}, {free}"))?;
        let is_in = |form: &Value| {
            let members = [numbers(&form["voters"]), numbers(&form["learners"])].concat();
            members.contains(&of)
        };
        let mut should: BTreeMap<u64, &Value> =
            groups.iter().filter(|(_, form)| is_in(form)).map(|(id, form)| (*id, form)).collect();
        for part in list(&parts) {
            let mut form = part.clone();
            let [id, applied] = take(&mut form, ["id", "applied_index"]);
            let Some(group) = id.as_u64().and_then(|id| should.remove(&id)) else {
                return Err(format!("node {of} tells of group {id}"));
            };
            same("a part", &form, &json!({ "role": role_in(group, of, "voter") }))?;
            let is_past = applied.as_u64() <= group["last_log_index"].as_u64();
            holds(applied.is_u64() && is_past, || format!("{part} is ahead of {group}"))?;
        }
        holds(should.is_empty(), || format!("node {of} does not tell of {:?}", should.keys()))
    }
}

/// What a node is to a group, with this word for one that votes and does not lead.
fn role_in(group: &Value, node: u64, voter: &'static str) -> &'static str {
    match numbers(&group["voters"]).contains(&node) {
        true if group["leader"] == node => "leader",
        true => voter,
        false => "learner",
    }
}

fn check_path(mut path: Value, address: &Value) -> Checked {
    holds(path.is_object(), || format!("the path is {path}"))?;
    let [round_trip_ms, packets, lost] = take(&mut path, ["round_trip_ms", "packets", "lost"]);
    same("a path", &path, &json!({"kind": "direct", "address": address}))?;
    let is_sound = round_trip_ms.as_f64() > Some(0.0)
        && packets.as_u64() > Some(0)
        && lost.as_u64() <= packets.as_u64()
        && lost.is_u64();
    holds(is_sound, || format!("a path of {round_trip_ms} ms, {packets} packets, {lost} lost"))
}

/// Four nodes, of which the third takes twice as much as the others.
fn four() -> (Nodes, Done) {
    let began_s = now_s();
    let dir = tempfile::tempdir().expect("a directory");
    let flags = ["--name", "lab", "--node-name", "one", "--shards", "4"];
    let first = Node::start(dir.path(), &flags);
    let (ticket, cluster_id) = (first.ticket(), first.ready()["cluster_id"].clone());
    let default = Keyspace { shards: 4, replicas: 3, first_group: 1, made_s: began_s..=now_s() };
    let mut members = BTreeMap::from([(1, Member::of(&first, "one", 100))]);
    let mut nodes = Nodes(BTreeMap::from([(1, (dir, first))]));
    for (number, name, capacity) in [(2, "two", 100), (3, "three", 200), (4, "four", 100)] {
        let dir = tempfile::tempdir().expect("a directory");
        let flags = ["--node-name", name, "--capacity", &capacity.to_string()];
        let flags = if capacity == 100 { &flags[..2] } else { &flags };
        let node = Node::join(dir.path(), &ticket, flags);
        assert_eq!(node.id(), number);
        members.insert(number, Member::of(&node, name, capacity));
        nodes.0.insert(number, (dir, node));
    }
    let keyspaces = BTreeMap::from([("default", default)]);
    (nodes, Done { cluster_id, began_s, members, keyspaces, settings: BTreeMap::new() })
}

/// Makes a keyspace through a node.
fn make(node: &Node, name: &str, shards: u64, replicas: usize, first_group: u64) -> Keyspace {
    let made_at_s = now_s();
    let (shards_text, replicas_text) = (shards.to_string(), replicas.to_string());
    let numbers = ["--shards", &shards_text, "--replicas", &replicas_text];
    node.printed(&[&["keyspace", "create", name], &numbers[..]].concat());
    Keyspace { shards, replicas, first_group, made_s: made_at_s..=now_s() }
}

#[test]
fn every_field_of_the_cluster_is_what_was_done_through_every_node() {
    let (mut nodes, mut done) = four();
    let asking = Asking::new();
    done.is_told_by_all(&nodes, &asking);

    nodes.node(2).printed(&["drain", "4"]);
    done.members.get_mut(&4).expect("a member").draining = true;
    done.keyspaces.insert("logs", make(nodes.node(3), "logs", 6, 1, 5));
    nodes.node(1).printed(&["settings", "set", "moves-at-once", "8"]);
    done.settings.insert("moves-at-once", "8");
    done.is_told_by_all(&nodes, &asking);

    nodes.node(4).printed(&["maintenance", "on", "2"]);
    done.members.get_mut(&2).expect("a member").maintenance = true;
    done.is_told_by_all(&nodes, &asking);

    nodes.node(2).printed(&["keyspace", "delete", "logs"]);
    done.keyspaces.remove("logs");
    nodes.node(3).printed(&["maintenance", "off", "2"]);
    done.members.get_mut(&2).expect("a member").maintenance = false;
    nodes.node(1).printed(&["drain", "4", "--off"]);
    done.members.get_mut(&4).expect("a member").draining = false;
    nodes.node(4).printed(&["settings", "reset", "moves-at-once"]);
    done.settings.remove("moves-at-once");
    done.is_told_by_all(&nodes, &asking);

    // Numbers of groups are not used again.
    done.keyspaces.insert("more", make(nodes.node(4), "more", 2, 3, 11));
    done.is_told_by_all(&nodes, &asking);

    let (dir, node) = nodes.take(2);
    node.kill();
    done.members.get_mut(&2).expect("a member").is_gone = true;
    done.is_told_by_all(&nodes, &asking);
    let back = Node::start(dir.path(), &["--node-name", "two"]);
    done.members.insert(2, Member::of(&back, "two", 100));
    nodes.0.insert(2, (dir, back));
    done.is_told_by_all(&nodes, &asking);
}

const KEYS: usize = 1_000;

fn path_of(key: usize) -> String {
    format!("/v1/kv/key/{key}?keyspace=even")
}

/// Where each key lives, as a node says, and who leads there.
async fn places(node: &Node) -> Vec<(Value, Value)> {
    let mut http = Http::to(node.url());
    let mut places = Vec::new();
    for key in 0..KEYS {
        let path = path_of(key) + "&explain";
        let (status, mut form) = send(&mut http, Method::GET, &path, "").await;
        assert_eq!(status, StatusCode::OK, "{form}");
        let [leader] = take(&mut form, ["leader"]);
        places.push((form, leader));
    }
    places
}

/// Writes one of three keys, from this one on.
async fn write_from(node: &Node, first: usize) {
    let mut http = Http::to(node.url());
    for key in (first..KEYS).step_by(3) {
        let (status, answer) = send(&mut http, Method::PUT, &path_of(key), "v").await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
    }
}

#[test]
fn a_thousand_keys_are_spread_evenly_and_each_is_always_in_the_same_shard() {
    let nodes = Nodes::start(3, &[]);
    let runtime = Runtime::new().expect("a runtime");
    nodes.any().printed(&["keyspace", "create", "even", "--shards", "4"]);
    let before: Vec<Value> =
        runtime.block_on(places(nodes.any())).into_iter().map(|(place, _)| place).collect();
    let mut counts: BTreeMap<u64, u64> = (0..4).map(|shard| (shard, 0)).collect();
    for place in &before {
        let shard = place["shard"].as_u64().expect("a number");
        *counts.get_mut(&shard).expect("one of the four") += 1;
    }
    let is_even = |count: &u64| (200..=300).contains(count);
    assert!(counts.values().all(is_even), "{counts:?}");

    let writes = nodes.all().zip(0..).map(|(node, first)| write_from(node, first));
    runtime.block_on(join_all(writes));
    // Each key is one more revision of the shard in which it is said to be.
    let after = |before: &Value| {
        let [shard, revision] = ["shard", "revision"].map(|name| before[name].as_u64());
        let (shard, revision) = (shard.expect("a number"), revision.expect("a number"));
        json!({
            "keyspace": "even", "shard": shard, "group": shard + 2,
            "revision": revision + counts[&shard],
        })
    };
    let should: Vec<Value> = before.iter().map(after).collect();
    let (leaders, told) =
        while_leads_stay(&nodes, "even", || runtime.block_on(join_all(nodes.all().map(places))));
    for (node, places) in nodes.all().zip(told) {
        let should = should.iter().map(|place| (place, &leaders[&place["group"].to_string()]));
        let mut told = places.iter().map(|(place, leader)| (place, leader)).zip(should);
        assert_eq!(told.find(|(told, should)| told != should), None, "through node {}", node.id());
    }
}

/// Does something while the shards of a keyspace are led by whom they are to be led, as the leaders
/// say themselves; again if another leads one afterwards. Gives who leads each group.
#[track_caller]
fn while_leads_stay<T>(
    nodes: &Nodes,
    keyspace: &str,
    mut act: impl FnMut() -> T,
) -> (BTreeMap<String, Value>, T) {
    let asking = Asking::new();
    let leaders = || {
        let led = led(nodes, &asking, keyspace).into_iter();
        let shards = led.map(|(mut shard, _)| {
            let (group, wanted) = (shard["group"].take(), shard["wanted_leader"].take());
            let node = wanted.as_u64().filter(|node| nodes.0.contains_key(node))?;
            let cluster = asking.get(nodes.node(node), "/v1/cluster");
            let itself = list(&cluster["groups"]).find(|form| form["id"] == group)?;
            (itself["role"] == "leader").then(|| (group.to_string(), wanted))
        });
        shards.collect::<Option<BTreeMap<String, Value>>>()
    };
    let mut done = None;
    let stayed = until(|| {
        let Some(before) = leaders() else { return false };
        let acted = act();
        done = Some((before, acted)).filter(|(before, _)| leaders().as_ref() == Some(before));
        done.is_some()
    });
    assert!(stayed, "leads do not stay: {:?}", leaders());
    done.expect("they stayed")
}

/// The groups of the keyspace's shards with who is to lead each, and what its holders say of it.
fn led(nodes: &Nodes, asking: &Asking, keyspace: &str) -> Vec<(Value, Value)> {
    let shards = asking.get(nodes.any(), &format!("/v1/shards?keyspace={keyspace}"));
    let shard = |shard: &Value| {
        let Some(holder) = nodes_of(shard).into_iter().find(|node| nodes.0.contains_key(node))
        else {
            return (shard.clone(), json!(null));
        };
        let groups = asking.get(nodes.node(holder), "/v1/cluster")["groups"].take();
        let group = list(&groups).find(|group| group["id"] == shard["group"]);
        (shard.clone(), group.cloned().unwrap_or_default())
    };
    list(&shards["shards"]).map(shard).collect()
}

fn of_two() -> (Nodes, Asking) {
    let nodes = Nodes::start(3, &[]);
    nodes.any().printed(&["keyspace", "create", "two", "--shards", "6", "--replicas", "2"]);
    let asking = Asking::new();
    let is_settled = || {
        led(&nodes, &asking, "two").iter().all(|(shard, group)| {
            shard["stage"] == "settled" && numbers(&group["voters"]).len() == 1
        })
    };
    assert!(until(is_settled));
    (nodes, asking)
}

#[test]
fn a_shard_of_two_replicas_is_led_by_whom_it_is_to_be_led() {
    let (nodes, asking) = of_two();
    let is_led = || {
        let led = led(&nodes, &asking, "two");
        led.iter().all(|(shard, group)| shard["wanted_leader"] == group["leader"])
    };
    assert!(until(is_led), "{:?}", led(&nodes, &asking, "two"));
}

#[test]
fn of_two_replicas_the_one_under_maintenance_need_not_be_there() {
    let (mut nodes, asking) = of_two();
    nodes.node(3).printed(&["maintenance", "on", "1"]);
    let is_free = || led(&nodes, &asking, "two").iter().all(|(_, group)| group["leader"] != 1);
    assert!(until(is_free), "{:?}", led(&nodes, &asking, "two"));
    let (_dir, node) = nodes.take(1);
    node.kill();
    for key in 0..24 {
        let key = format!("key/{key}");
        let put = nodes.node(3).run(&["put", &key, "v", "--keyspace", "two", "--timeout", "5s"]);
        assert_eq!(put.code, 0, "{key}: {put:?}");
    }
}
