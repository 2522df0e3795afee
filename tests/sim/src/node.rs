//! One simulated node: a real one, started as any program starts one, on the simulator's seams.
//!
//! What is not production's is below the seams: the disk, the network, the clock, and that the log's
//! writer is a task instead of a thread. The node founds its cluster or joins it by a ticket, and is
//! started again as whoever watches over a process would, when it ends by itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aspen::node::StartError;
use aspen::raft::Replica;
use aspen::roster::Roster;
use aspen::roster::refused::Refused;
use aspen::seams::{Random, Seams, WallClock};
use aspen::status::Role;
use aspen::types::{GroupId, NodeId};
use aspen::{JoinTicket, KvService, KvServiceBuilder};
use aspen_sim::dice::Dice;
use aspen_sim::work::{Alive, Client, Stage, Works};
use tokio::time::sleep;

use crate::disk::SimDisk;
use crate::network::{Fabric, HostId};

/// When the simulation begins: seconds since 1970.
const EPOCH_S: u64 = 1_800_000_000;

/// The keyspaces that clients work in: one shard that all have, and some that are spread.
pub(crate) const KEYSPACES: [&str; 2] = ["default", "spread"];
const SPREAD_SHARDS: u32 = 3;
const SPREAD_REPLICAS: u8 = 3;

/// The host that founds the cluster.
pub(crate) const FOUNDER: HostId = 1;

/// What all nodes of a run know: how to come in, and whether there is something to do.
#[derive(Default)]
pub(crate) struct Entrance {
    /// Made by the founder as soon as it serves.
    ticket: Mutex<Option<JoinTicket>>,
    /// Tickets that are good no more: revoked, by the word of whoever was asked to, or expired.
    void: Mutex<Vec<JoinTicket>>,
    is_open: AtomicBool,
}

impl Entrance {
    pub(crate) fn ticket(&self) -> MutexGuard<'_, Option<JoinTicket>> {
        self.ticket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn void(&self) -> MutexGuard<'_, Vec<JoinTicket>> {
        self.void.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients begin.
    pub(crate) fn open(&self) {
        self.is_open.store(true, Ordering::Relaxed);
    }

    fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
}

/// What a node starts with.
pub(crate) struct Boot {
    pub(crate) host: HostId,
    /// How many clients it has.
    pub(crate) clients: u64,
    pub(crate) disk: SimDisk,
    pub(crate) clock: Arc<SimClock>,
    pub(crate) random: Random,
    pub(crate) fabric: Fabric,
    pub(crate) alive: Alive,
    pub(crate) placed: Placed,
    pub(crate) stage: Stage,
    pub(crate) fields: Vec<Field>,
    pub(crate) entrance: Arc<Entrance>,
    /// The only ticket that it has, which is no good: it must not get in.
    pub(crate) void_ticket: Option<JoinTicket>,
}

/// A keyspace, and what clients do in it.
#[derive(Clone)]
pub(crate) struct Field {
    pub(crate) keyspace: &'static str,
    pub(crate) works: Works,
}

/// Where the simulator finds what runs on a node; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Placed(Arc<Mutex<Parts>>);

#[derive(Default)]
struct Parts {
    service: Option<Arc<KvService>>,
    ended: Option<Ended>,
}

/// Why a process has ended by itself.
pub(crate) struct Ended {
    pub(crate) why: String,
    /// The node is no member any more: there is nothing to start again.
    pub(crate) is_over: bool,
}

impl Placed {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what ran.
    pub(crate) fn clear(&self) {
        let parts = std::mem::take(&mut *self.parts());
        drop(parts);
    }

    /// The node, once it serves.
    pub(crate) fn service(&self) -> Option<Arc<KvService>> {
        self.parts().service.clone()
    }

    /// Why the process has ended, if it has.
    pub(crate) fn ended(&self) -> Option<Ended> {
        self.parts().ended.take()
    }

    /// The node's number, once it serves.
    pub(crate) fn number(&self) -> Option<NodeId> {
        self.service().map(|service| service.node().node_id)
    }

    /// What it knows of the cluster.
    pub(crate) fn roster(&self) -> Option<Arc<Roster>> {
        self.service().map(|service| service.cluster().roster())
    }

    /// The replicas that run.
    pub(crate) fn replicas(&self) -> Vec<(GroupId, Replica)> {
        self.service().map(|service| service.replicas()).unwrap_or_default()
    }

    /// The groups that the node believes to lead, with the terms.
    pub(crate) fn leads(&self) -> Vec<(GroupId, u64)> {
        let led = self.replicas().into_iter().filter(|(_, replica)| replica.leads());
        let status = led.map(|(_, replica)| replica.status());
        // The two are looked at one after the other.
        let leading = status.filter(|status| status.role == Role::Leader);
        leading.map(|status| (status.group, status.term)).collect()
    }
}

/// Runs a node until its runtime is dropped.
pub(crate) async fn run(boot: Boot) {
    let ended = live(&boot).await;
    if boot.alive.is() {
        boot.placed.parts().ended = Some(ended);
    }
}

/// From the start of a process to its end, of which it answers the reason.
async fn live(boot: &Boot) -> Ended {
    let service = match start(boot).await {
        Ok(_) if boot.void_ticket.is_some() => {
            let why = format!("host {} was admitted by a ticket that is void", boot.host);
            boot.stage.fail(why.clone());
            return Ended { why, is_over: true };
        }
        Ok(service) => Arc::new(service),
        Err(error) if boot.void_ticket.is_some() => {
            return Ended { why: error.to_string(), is_over: true };
        }
        Err(error) => {
            // It is given another ticket.
            let has_old_ticket = matches!(
                error,
                StartError::NotAdmitted(Refused::IssuerGone | Refused::Leaving { .. })
            );
            let is_odd = !has_old_ticket
                && !matches!(error, StartError::NotJoined(_) | StartError::Removed { .. });
            if is_odd && boot.alive.is() && !boot.disk.take_failed() {
                boot.stage.fail(format!("node {} does not start: {error}", boot.host));
            }
            let is_over = matches!(error, StartError::Removed { .. });
            return Ended { why: error.to_string(), is_over };
        }
    };
    boot.disk.take_failed();
    boot.placed.parts().service = Some(service.clone());
    if boot.host == FOUNDER && boot.entrance.ticket().is_none() {
        invite(boot, &service).await;
    }
    while !boot.entrance.is_open() {
        sleep(Duration::from_millis(20)).await;
    }
    for number in 0..boot.clients {
        let dice = Dice::new(Random::from_seed(boot.random.next_u64()));
        let Field { keyspace, works } = &boot.fields[number as usize % boot.fields.len()];
        match service.client().keyspace(keyspace) {
            Ok(kv) => {
                let client =
                    Client::new(&boot.stage, boot.host.into(), boot.alive.clone(), kv, dice);
                works.next().spawn(client);
            }
            Err(error) => boot.stage.fail(format!("{keyspace} is no name of a keyspace: {error}")),
        }
    }
    Ended { why: service.stopped().await, is_over: false }
}

async fn start(boot: &Boot) -> Result<KvService, StartError> {
    let dice = Dice::new(Random::from_seed(boot.random.next_u64()));
    let disk = Arc::new(boot.disk.of_node(boot.alive.clone(), dice));
    let fabric = Arc::new(boot.fabric.socket(boot.host));
    let (wall, random) = (boot.clock.clone(), boot.random.clone());
    let seams = Seams { disk, wall, random, fabric: Some(fabric) };
    let mut builder = KvServiceBuilder::auto("data").with_seams(seams).with_name("sim");
    if boot.host != FOUNDER {
        let ticket = loop {
            let ticket = boot.void_ticket.clone().or_else(|| boot.entrance.ticket().clone());
            match ticket {
                Some(ticket) => break ticket,
                None => sleep(Duration::from_millis(20)).await,
            }
        };
        builder = builder.join(ticket);
    }
    builder.start().await
}

/// Makes the ticket by which the others come, and the keyspace beside the one that is there.
async fn invite(boot: &Boot, service: &KvService) {
    let cluster = service.cluster();
    let (role, life) = (aspen::MemberRole::Voter, Duration::from_secs(24 * 3_600));
    let made = async {
        cluster.create_keyspace(KEYSPACES[1], SPREAD_SHARDS, SPREAD_REPLICAS).await?;
        cluster.invite(role, life, None).await
    };
    match made.await {
        Ok(ticket) => *boot.entrance.ticket() = Some(ticket),
        Err(error) if boot.alive.is() => {
            boot.stage.fail(format!("the founder can't make a ticket: {error}"));
        }
        Err(_) => {}
    }
}

/// What people say that the time is: it goes on with the simulation, and each host's is off by
/// something.
pub(crate) struct SimClock {
    now_ms: Arc<AtomicU64>,
    ahead_ms: u64,
}

impl SimClock {
    pub(crate) fn new(now_ms: Arc<AtomicU64>, ahead_ms: u64) -> Self {
        SimClock { now_ms, ahead_ms }
    }
}

impl fmt::Debug for SimClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimClock")
    }
}

impl WallClock for SimClock {
    fn since_epoch(&self) -> Duration {
        let ms = self.now_ms.load(Ordering::Relaxed) + self.ahead_ms;
        Duration::from_secs(EPOCH_S) + Duration::from_millis(ms)
    }
}
