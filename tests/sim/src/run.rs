//! One run: a cluster comes together, faults for a time, then none, then the verdict.
//!
//! - Nodes found a cluster and join it, and its shards get their places within [`GATHER_MS_MAX`].
//! - While faults come, clients work on every node.
//! - Then all is healed, and within [`PROGRESS_MS_MAX`] clients on every node must have been
//!   answered again, reads and writes; and members that were to come, leave or be drained have, and
//!   all shards their places. Clients that are told to stop have stopped within [`END_MS_MAX`].
//! - Then what clients were told must be what can be (`aspen_sim::check`), and every replica must
//!   come to hold the same.
//! - Throughout, [`Invariants`] hold and nothing may panic.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aspen::roster::records::{Keyspace, Member, Shard, Stage, State};
use aspen::status::{GroupStatus, Role};
use aspen::types::NodeId;
use aspen_sim::dice::Dice;
use aspen_sim::shrink::Numbers;
use aspen_sim::work::{Alive, Client};
use clap::Args;

use crate::cluster::Cluster;
use crate::faults::Faults;
use crate::invariants::{Invariants, digests};
use crate::network::HostId;
use crate::node::{Field, Placed};
use crate::operator::Operator;
use crate::trace::Trace;

/// How long nodes may take to become a cluster while nothing goes wrong.
const GATHER_MS_MAX: u64 = 60_000;
/// How soon after the last fault every node's clients are answered again: broken links and the
/// breakers of clients take their time, and processes that are started again.
const PROGRESS_MS_MAX: u64 = 30_000;
/// How soon clients that are told to stop have stopped: the last leases have ended, the last
/// watchers were shown everything. Each call has a shorter limit of its own.
const END_MS_MAX: u64 = 30_000;
/// How soon members that leave have left, newcomers have joined, and all shards have their places.
const REST_MS_MAX: u64 = 120_000;
/// How soon all replicas hold the same once nothing is written.
const EQUAL_MS_MAX: u64 = 30_000;

/// How often it is looked whether they do.
const COMPARE_MS: u64 = 200;

/// How a run is set. Whatever is left out of it, all else may go another way from there on.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// How many seconds faults come.
    #[arg(long, default_value_t = 20)]
    pub(crate) seconds: u64,
    /// How many nodes; by the seed if it is not said.
    #[arg(long)]
    pub(crate) nodes: Option<HostId>,
    /// How many clients, all nodes together.
    #[arg(long, default_value_t = CLIENTS)]
    pub(crate) clients: u64,
    /// Faults to leave out, by their numbers in what a seed prints, such as 1-9,11.
    #[arg(long, default_value_t, hide_default_value = true)]
    pub(crate) skip: Numbers,
    /// What operators do to leave out, the same way.
    #[arg(long, default_value_t, hide_default_value = true)]
    pub(crate) skip_acts: Numbers,
}

/// How many clients there are if it is not said.
const CLIENTS: u64 = 18;

/// As arguments, where they are not what they would be anyway.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { seconds, nodes, clients, skip, skip_acts } = self;
        write!(f, "--seconds {seconds}")?;
        if let Some(nodes) = nodes {
            write!(f, " --nodes {nodes}")?;
        }
        if *clients != CLIENTS {
            write!(f, " --clients {clients}")?;
        }
        for (name, numbers) in [("skip", skip), ("skip-acts", skip_acts)] {
            if !numbers.is_empty() {
                write!(f, " --{name} {numbers}")?;
            }
        }
        Ok(())
    }
}

const PURPOSE_FAULTS: u64 = 4 << 32;
const PURPOSE_SHAPE: u64 = 6 << 32;
const PURPOSE_OPERATOR: u64 = 7 << 32;
const PURPOSE_CLOSING: u64 = 9 << 32;

/// How many nodes a run has.
const NODES: [HostId; 8] = [3, 3, 3, 3, 4, 5, 5, 7];

/// What a run came to.
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    /// Of everything that happened.
    pub(crate) digest: String,
    pub(crate) calls: usize,
    pub(crate) faults: u64,
    pub(crate) acts: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) failure: Option<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { seed, digest, calls, faults, acts, simulated_ms, failure } = self;
        write!(f, "seed {seed}: {calls} calls, {faults} faults, {acts} acts of operators")?;
        write!(f, " in {} s, trace {digest}", simulated_ms / 1_000)?;
        match failure {
            Some(why) => write!(f, ", FAILED: {why}"),
            None => f.write_str(", all well"),
        }
    }
}

/// The first panic: none may happen, whoever catches it.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn panicked() -> MutexGuard<'static, Option<String>> {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a seed.
pub(crate) fn run(seed: u64, settings: &Settings, prints: bool) -> Verdict {
    std::panic::set_hook(Box::new(|info| {
        panicked().get_or_insert_with(|| info.to_string());
    }));
    let trace = Trace::new(prints);
    let nodes = settings.nodes.unwrap_or(*Dice::of(seed, PURPOSE_SHAPE).pick(&NODES));
    let hosts: Vec<HostId> = (1..=nodes).collect();
    let faults = Faults::new(Dice::of(seed, PURPOSE_FAULTS), settings.skip.clone());
    let cluster =
        Cluster::new(seed, trace.clone(), &hosts, settings.clients.div_ceil(nodes.into()));
    let operator =
        Operator::new(Dice::of(seed, PURPOSE_OPERATOR), nodes, settings.skip_acts.clone());
    let (invariants, leaders) = (Invariants::default(), Vec::new());
    let closing = Dice::of(seed, PURPOSE_CLOSING);
    let mut run = Run { cluster, faults, operator, invariants, leaders, closing };
    let judged = run
        .gather()
        .and_then(|()| run.suffer(settings.seconds * 1_000))
        .and_then(|()| run.recover())
        .and_then(|()| run.judge());
    let failure = judged.err();
    if let Some(why) = &failure {
        trace.note("violation", format_args!("{why}"));
    }
    Verdict {
        seed,
        digest: trace.digest(),
        calls: run.cluster.fields.iter().map(|field| field.works.calls()).sum(),
        faults: run.faults.count,
        acts: run.operator.count,
        simulated_ms: run.cluster.now_ms(),
        failure,
    }
}

struct Run {
    cluster: Cluster,
    faults: Faults,
    operator: Operator,
    invariants: Invariants,
    /// Hosts that lead something, once for each group.
    leaders: Vec<HostId>,
    closing: Dice,
}

type Judged = Result<(), String>;

impl Run {
    /// Lets a step's time pass; an error if something happened that must not.
    fn step(&mut self) -> Judged {
        self.cluster.step();
        if let Some(leaders) = self.invariants.look(&self.cluster)? {
            self.leaders = leaders;
        }
        let panic = panicked().take();
        panic.or_else(|| self.cluster.stage.failure()).map_or(Ok(()), Err)
    }

    /// Waits until all are one cluster, then lets clients begin.
    fn gather(&mut self) -> Judged {
        self.until("the nodes did not become a cluster", GATHER_MS_MAX, is_whole)?;
        self.cluster.trace.note("cluster", format_args!("is whole"));
        self.cluster.entrance.open();
        Ok(())
    }

    fn suffer(&mut self, for_ms: u64) -> Judged {
        let until_ms = self.cluster.now_ms() + for_ms;
        while self.cluster.now_ms() < until_ms {
            let hosts = self.cluster.hosts();
            if let Some(fault) = self.faults.next(self.cluster.now_ms(), &hosts, &self.leaders) {
                self.cluster.fault(format_args!("fault {}", self.faults.count), fault);
            }
            self.operator.look(&mut self.cluster);
            self.step()?;
        }
        Ok(())
    }

    /// Steps until a condition holds.
    fn until(
        &mut self,
        what: &str,
        within_ms: u64,
        holds: impl Fn(&mut Cluster) -> bool,
    ) -> Judged {
        let end_ms = self.cluster.now_ms() + within_ms;
        while !holds(&mut self.cluster) {
            if self.cluster.now_ms() >= end_ms {
                return Err(format!("within {within_ms} ms without faults, {what}"));
            }
            self.step()?;
        }
        Ok(())
    }

    /// The same while an operator brings all to an end that was begun.
    fn until_ended(&mut self, what: &str, holds: impl Fn(&mut Cluster) -> bool) -> Judged {
        let end_ms = self.cluster.now_ms() + REST_MS_MAX;
        while !holds(&mut self.cluster) {
            if self.cluster.now_ms() >= end_ms {
                let known = |(host, placed): (HostId, &Placed)| {
                    let roster = placed.roster();
                    let present = roster.iter().flat_map(|roster| roster.present());
                    let states = present.map(|member| (member.node.0, member.state));
                    format!("\n    host {host}: {:?}", states.collect::<Vec<_>>())
                };
                let known: String = self.cluster.placed().map(known).collect();
                let stuck = stuck(&self.cluster);
                return Err(format!(
                    "within {REST_MS_MAX} ms without faults, {what}{known}{stuck}"
                ));
            }
            self.operator.end(&mut self.cluster);
            self.step()?;
        }
        Ok(())
    }

    fn recover(&mut self) -> Judged {
        self.cluster.heal();
        self.until_ended("the members did not come to rest", is_at_rest)?;
        self.until_ended("the shards did not get their places", is_whole)?;
        self.cluster.stage.calm();
        for host in self.cluster.hosts() {
            let what = format!("no client of node {host} was answered a read and a write");
            self.until(&what, PROGRESS_MS_MAX, |cluster| {
                let answered = cluster.stage.answered(host.into());
                answered.reads > 0 && answered.writes > 0
            })?;
        }
        self.send_closers();
        self.step()?;
        self.cluster.stage.finish();
        let what = "some clients did not come to an end";
        self.until(what, END_MS_MAX, |cluster| cluster.stage.clients() == 0)
    }

    /// Sends one client to each workload, to be there in the end: those of a node that died may have
    /// been the last, and whoever leaves last looks at what is there.
    fn send_closers(&self) {
        let Cluster { stage, fields, .. } = &self.cluster;
        let host = self.cluster.hosts()[0];
        for &Field { keyspace, ref works } in fields {
            for work in works.each() {
                let (stage, work, dice) = (stage.clone(), work.clone(), self.closing.clone());
                self.cluster.ask(host, move |service| async move {
                    match service.client().keyspace(keyspace) {
                        Ok(kv) => {
                            let alive = Alive::begin();
                            let client = Client::new(&stage, host.into(), alive, kv, dice);
                            drop(work.spawn(client));
                        }
                        Err(error) => stage.fail(error.to_string()),
                    }
                });
            }
        }
    }

    fn judge(&mut self) -> Judged {
        // What clients were told comes first: it is what counts.
        let mut fields = self.cluster.fields.iter();
        fields.try_for_each(|field| field.works.judge()).map_err(|found| found.to_string())?;
        let equal = self.until("replicas did not come to hold the same", EQUAL_MS_MAX, |cluster| {
            cluster.now_ms().is_multiple_of(COMPARE_MS) && are_equal(cluster).is_ok()
        });
        let why = || are_equal(&self.cluster).err().unwrap_or_default();
        equal.map_err(|error| format!("{error}: {}", why()))
    }
}

/// Whether every host that is not gone serves, nobody is about to leave, and no operator waits for an
/// answer: one of them may have a member removed.
fn is_at_rest(cluster: &mut Cluster) -> bool {
    if Arc::strong_count(&cluster.asked) > 1 {
        return false;
    }
    let is_here = |member: &Member| member.state != State::Leaving;
    cluster.placed().all(|(_, placed)| {
        placed.roster().is_some_and(|roster| {
            let me = placed.number().and_then(|node| roster.member(node));
            me.is_some_and(Member::is_present) && roster.present().all(is_here)
        })
    })
}

/// Whether all know the same members, and all shards are where they are to be.
fn is_whole(cluster: &mut Cluster) -> bool {
    if !cluster.now_ms().is_multiple_of(20) {
        return false;
    }
    let nodes = cluster.hosts().len();
    cluster.placed().all(|(_, placed)| {
        placed.roster().is_some_and(|roster| {
            let replicas = |shard: &Shard, keyspace: &Keyspace| {
                shard.stage == Stage::Settled
                    && shard.replicas.len() == nodes.min(usize::from(keyspace.replicas))
            };
            roster.present().count() == nodes
                && roster.shards().all(|(group, shard, _)| {
                    roster.keyspace_of(group).is_some_and(|(_, of)| replicas(shard, of))
                })
        })
    })
}

/// The groups of shards that are not settled, or have members that are none, as each host has them.
fn stuck(cluster: &Cluster) -> String {
    let mut said = String::new();
    for (host, placed) in cluster.placed() {
        let (Some(roster), Some(service)) = (placed.roster(), placed.service()) else { continue };
        for status in service.groups() {
            let holds = &status.voters | &status.learners;
            let is_gone = |node: &NodeId| !roster.member(*node).is_some_and(Member::is_present);
            let shard = roster.shard(status.group).map(|(shard, _)| shard);
            if shard.is_none_or(|shard| shard.stage == Stage::Settled) && !holds.iter().any(is_gone)
            {
                continue;
            }
            let GroupStatus { group, role, term, leader, voters, learners, .. } = status;
            let (last, applied) = (status.last_log_index, status.applied_index);
            said += &format!(
                "\n    host {host}: group {group} {role:?}, term {term}, led by {leader:?}, {last} entries, \
                 {applied} applied, voters {voters:?}, learners {learners:?}"
            );
        }
    }
    said
}

/// Whether those vote, as far as a host knows, that the roster wants: an odd number of the shard's
/// replicas, and nobody else.
fn votes_are_right(host: HostId, placed: &Placed) -> Judged {
    let (Some(service), Some(roster)) = (placed.service(), placed.roster()) else { return Ok(()) };
    for GroupStatus { group, role, voters, .. } in service.groups() {
        let wanted = match roster.shard(group) {
            Some((shard, _)) => shard.replicas.clone(),
            None => roster.present().map(|member| member.node).collect(),
        };
        let is_right = voters.is_subset(&wanted) && voters.len() % 2 == 1;
        if role == Role::Leader && !is_right {
            return Err(format!(
                "group {group}, led by host {host}: {voters:?} vote, where {wanted:?} are to"
            ));
        }
    }
    Ok(())
}

/// Whether replicas are equal and those vote who should; what keeps them from it, if not.
fn are_equal(cluster: &Cluster) -> Judged {
    let mut held = BTreeMap::new();
    for (host, placed) in cluster.placed() {
        votes_are_right(host, placed)?;
        let Some(service) = placed.service() else {
            return Err(format!("host {host} does not serve"));
        };
        let stopped = service.groups().into_iter().find(|group| group.role == Role::Stopped);
        if let Some(GroupStatus { group, .. }) = stopped {
            return Err(format!("the replica of group {group} on host {host} has stopped"));
        }
        for (group, digest) in digests(host, placed).unwrap_or_default() {
            let (first, whose) = *held.entry(group).or_insert((digest, host));
            if first != digest {
                return Err(format!(
                    "of group {group} hosts {whose} and {host} hold what is by {:?} and {:?}",
                    first.0, digest.0
                ));
            }
        }
    }
    Ok(())
}
