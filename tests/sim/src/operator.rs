//! What operators do while all else goes on: hosts come and go, members are drained and taken back,
//! keyspaces are made and deleted, leads are given away, tickets are made, revoked and left to expire.
//!
//! Whatever they ask may be refused, or be cut off at any point. What must hold is that data and
//! clients do not notice, and that in the end each shard is where the roster wants it.

use std::time::Duration;

use aspen::node::ClusterError;
use aspen::types::{GroupId, NodeId};
use aspen::{KvService, MemberRole};
use aspen_sim::dice::Dice;
use aspen_sim::shrink::Numbers;
use tokio::time::sleep;

use crate::cluster::{Cluster, WALL_OFF_MS_MAX};
use crate::faults::Fault;
use crate::network::HostId;
use crate::node::Entrance;

/// The longest pause between acts.
const PAUSE_MS_MAX: u64 = 5_000;
/// How often what an operator wants in the end is asked for.
const END_MS: u64 = 5_000;
/// Most hosts of a run, those that have gone included.
const HOSTS_MAX: HostId = 9;
/// Fewest members that an operator leaves a cluster with.
const MEMBERS_MIN: usize = 3;

/// How long a ticket lives that is left to expire.
const BRIEF: Duration = Duration::from_secs(1);
/// When its time is up by every node's clock: they may be apart, and count in seconds.
const OVER: Duration =
    BRIEF.saturating_mul(2).saturating_add(Duration::from_millis(WALL_OFF_MS_MAX));

/// What settings of the cluster are set to.
const SETTINGS: [(&str, &str); 6] = [
    ("lost-after", "3s"),
    ("lost-after", "10s"),
    ("moves-at-once", "1"),
    ("moves-at-once", "16"),
    ("snapshot-rate", "4MiB"),
    ("snapshot-rate", "100MiB"),
];

/// Something that an operator does.
#[derive(Clone, Debug)]
enum Act {
    /// Has a host come, by the ticket of the time.
    Come(HostId),
    /// Asks a node for something, after this has befallen another.
    Ask { asked: HostId, request: Request, after: Option<Fault> },
}

/// Something that an operator asks of a node.
#[derive(Clone, Debug)]
enum Request {
    Drain(NodeId, bool),
    Leave,
    Remove(NodeId),
    Transfer(GroupId, NodeId),
    Make(String, u32, u8),
    Delete(String),
    Set(&'static str, &'static str),
    /// Makes the ticket by which hosts come from now on.
    Invite,
    /// Makes one that is revoked before somebody comes with it.
    InviteAndRevoke,
    /// Makes one whose time is up before somebody comes with it.
    InviteBriefly,
}

/// Chooses what is done, and when, and numbers it.
pub(crate) struct Operator {
    dice: Dice,
    next_ms: u64,
    /// How many acts were chosen.
    pub(crate) count: u64,
    /// Those that are chosen and not done, as with faults.
    left_out: Numbers,
    last_host: HostId,
    last_stranger: HostId,
    keyspaces: u64,
}

impl Operator {
    pub(crate) fn new(dice: Dice, hosts: HostId, left_out: Numbers) -> Self {
        Operator {
            dice,
            next_ms: 0,
            count: 0,
            left_out,
            last_host: hosts,
            last_stranger: HOSTS_MAX,
            keyspaces: 0,
        }
    }

    /// Does something, if it is time to.
    pub(crate) fn look(&mut self, cluster: &mut Cluster) {
        if cluster.now_ms() < self.next_ms {
            return;
        }
        self.next_ms = cluster.now_ms() + self.dice.between(300, PAUSE_MS_MAX);
        let void = cluster.entrance.void().pop();
        if let Some(ticket) = void {
            self.last_stranger += 1;
            cluster.add(self.last_stranger, Some(ticket));
        }
        let members: Vec<(HostId, NodeId)> = cluster.members().collect();
        if members.len() < MEMBERS_MIN {
            return;
        }
        let Some(act) = self.choose(&members) else { return };
        self.count += 1;
        if self.left_out.contains(self.count) {
            return;
        }
        let number = format!("act {}", self.count);
        match act {
            Act::Come(host) => {
                cluster.trace.note(&number, format_args!("host {host} comes"));
                cluster.add(host, None);
            }
            Act::Ask { asked, request, after } => {
                if let Some(fault) = after {
                    cluster.fault(format_args!("{number}"), fault);
                }
                ask(cluster, number, asked, request);
            }
        }
    }

    /// What is done with these members, if anything is.
    fn choose(&mut self, members: &[(HostId, NodeId)]) -> Option<Act> {
        let (host, node) = *self.dice.pick(members);
        let may_shrink = members.len() > MEMBERS_MIN;
        let mut after = None;
        let request = match self.dice.below(100) {
            0..15 if self.last_host < HOSTS_MAX => {
                self.last_host += 1;
                return Some(Act::Come(self.last_host));
            }
            0..15 => return None,
            15..30 => Request::Drain(node, true),
            30..45 => Request::Drain(node, false),
            45..53 if may_shrink => Request::Leave,
            53..61 if may_shrink => {
                if self.dice.percent(50) {
                    after = Some(Fault::Kill { host, down_ms: self.dice.between(500, 8_000) });
                }
                Request::Remove(node)
            }
            45..70 => Request::Transfer(GroupId(self.dice.below(4)), node),
            70..82 => {
                self.keyspaces += 1;
                let (shards, replicas) = (self.dice.between(1, 4), self.dice.between(1, 5));
                Request::Make(format!("k{}", self.keyspaces), shards as u32, replicas as u8)
            }
            82..90 => Request::Delete(format!("k{}", self.dice.below(self.keyspaces + 1))),
            94..96 => {
                let (name, value) = *self.dice.pick(&SETTINGS);
                Request::Set(name, value)
            }
            90..94 => Request::Invite,
            96..98 => Request::InviteBriefly,
            _ => Request::InviteAndRevoke,
        };
        // Whoever is to leave is asked itself; all else may be asked of anybody.
        let (asked, _) = match request {
            Request::Leave => (host, node),
            _ => *self.dice.pick(members),
        };
        Some(Act::Ask { asked, request, after })
    }

    /// All members are to be used again, and whoever is about to join is told where to.
    pub(crate) fn end(&mut self, cluster: &mut Cluster) {
        if !cluster.now_ms().is_multiple_of(END_MS) {
            return;
        }
        let members: Vec<(HostId, NodeId)> = cluster.members().collect();
        for (_, node) in &members {
            let asked = self.dice.pick(&members).0;
            ask(cluster, "operator".into(), asked, Request::Drain(*node, false));
        }
        let asked = self.dice.pick(&members).0;
        ask(cluster, "operator".into(), asked, Request::Invite);
    }
}

/// Asks, and notes for whom what came of it.
fn ask(cluster: &Cluster, whose: String, host: HostId, request: Request) {
    let (trace, entrance) = (cluster.trace.clone(), cluster.entrance.clone());
    let asked = cluster.asked.clone();
    trace.note(&whose, format_args!("asks host {host}: {request:?}"));
    cluster.ask(host, move |service| async move {
        let _waits = asked;
        match request.of(&service, &entrance).await {
            Ok(()) => trace.note(&whose, format_args!("was told that it is done: {request:?}")),
            Err(error) => trace.note(&whose, format_args!("was told: {error}; {request:?}")),
        }
    });
}

impl Request {
    async fn of(&self, service: &KvService, entrance: &Entrance) -> Result<(), ClusterError> {
        let cluster = service.cluster();
        let invite = |life| cluster.invite(MemberRole::Voter, life, None);
        match self {
            Request::Drain(node, on) => cluster.drain(*node, *on).await,
            Request::Leave => cluster.leave().await,
            Request::Remove(node) => cluster.remove(*node).await,
            Request::Transfer(group, node) => cluster.transfer(*group, *node).await,
            Request::Make(name, shards, replicas) => {
                cluster.create_keyspace(name, *shards, *replicas).await.map(drop)
            }
            Request::Delete(name) => cluster.delete_keyspace(name).await,
            Request::Set(name, value) => cluster.set(name, Some(value)).await.map(drop),
            Request::Invite => {
                *entrance.ticket() = Some(invite(Duration::from_secs(24 * 3_600)).await?);
                Ok(())
            }
            Request::InviteAndRevoke => {
                let ticket = invite(Duration::from_secs(60)).await?;
                cluster.revoke(ticket.invitation().id).await?;
                entrance.void().push(ticket);
                Ok(())
            }
            Request::InviteBriefly => {
                let ticket = invite(BRIEF).await?;
                sleep(OVER).await;
                entrance.void().push(ticket);
                Ok(())
            }
        }
    }
}
