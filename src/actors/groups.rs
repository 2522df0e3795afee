//! The groups of this node: one supervised part for each replica, and the handles to them.
//!
//! Which groups the node holds follows from the roster alone ([`Roster::part`]): those that it is
//! given are opened, those that it has no part in any longer are stopped and then erased. A node
//! that has just started may know an older roster than the one by which it opened a group; that
//! group goes on until the roster has caught up.
//!
//! A group's part opens its replica, publishes it in the group's slot and ends when the replica
//! can't go on, so that the supervisor starts it again. Operations never pass through the part:
//! they take the replica from the slot. A replica that is put away leaves in its slot what was known
//! of it; whoever asks for it has it opened again.
//!
//! Damage does not heal by a restart: a part that finds it stays, stopped, and says what is damaged.
//! A replica that is repaired ([`crate::roster::repairs`]) runs as long as it can, and is erased when its
//! group has let go of it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::health::HealthBoard;
use super::roster::Members;
use super::service::{service_part, until_stopped};
use super::supervisor::{ChildSpec, Family};
use crate::error::{Corrupt, Error, Result};
use crate::health::Part;
use crate::limits::{
    GROUP_ERASE_RETRY, OPENED_FREELY_MAX, OPENED_TURN, OPENED_UNNEEDED_MAX, REPLICA_OPEN_WAIT,
    SPACE_WAIT, UNLED_MAX,
};
use crate::raft::Replica;
use crate::roster::records::RepairStage;
use crate::roster::{Roster, keyspaces};
use crate::seams::failpoint::Failpoint;
use crate::seams::{self, Here};
use crate::status::{GroupStatus, Role};
use crate::store::space::{Room, SpaceGuard};
use crate::types::{GroupId, NodeId, Revision};

const STOPPING: &str = "the node is stopping";
const HELD_NO_LONGER: &str = "this node holds it no longer";
const NO_ROOM: &str = "it waits for room on the disk";
/// How often a group that does looks for it.
const ROOM_LOOK: Duration = Duration::from_millis(500);

/// Where the replicas of this node are kept.
pub trait Holdings: Send + Sync + 'static {
    /// Makes a group's replica ready to be opened, as the part that it has by a roster; it is held as
    /// of that roster's revision. One that begins with nothing waits here until the others have said
    /// how far they are, and one that was made ready before until the roster is as late as it was then.
    fn prepare(&self, group: GroupId) -> BoxFuture<'static, Result<keyspaces::Part>>;

    /// Opens a group's replica, which is ready, at each start of the group.
    fn open(&self, group: GroupId, part: keyspaces::Part) -> BoxFuture<'static, Result<Replica>>;

    /// Gives up all that is kept of a group, whose replica has stopped.
    fn erase(&self, group: GroupId) -> BoxFuture<'static, Result<()>>;

    /// The groups of which something is kept, each with the revision by which it was opened.
    fn held(&self) -> BoxFuture<'static, BTreeMap<GroupId, Revision>>;
}

type Slots = BTreeMap<GroupId, watch::Sender<Place>>;

/// Handles to the node's groups, good across restarts of the groups; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    /// Where each group's running replica is found.
    slots: Arc<RwLock<Slots>>,
    /// Those led here that are where the record of a revision wanted them.
    reached: watch::Sender<BTreeMap<GroupId, Revision>>,
    /// Those led here that have let go of the replica that a record of a revision has repaired.
    let_go: watch::Sender<BTreeMap<GroupId, Revision>>,
    /// Told when a group's part has ended for good.
    ended: Arc<Notify>,
    /// Cancelled when the groups stop for good.
    stopped: CancellationToken,
}

#[derive(Clone, Debug)]
enum Place {
    /// It is opened when it is its turn, or when somebody needs it, which this is told.
    Waiting(Arc<Notify>),
    Starting,
    Running(Replica),
    PutAway(Arc<PutAway>),
    /// It failed and is started again in a while, or the node stops.
    Down(Error),
}

impl Place {
    /// Tells it that somebody needs the replica.
    fn needed(&self) -> &Self {
        match self {
            Place::Waiting(needed) => needed.notify_one(),
            Place::PutAway(put_away) => put_away.needed.notify_one(),
            Place::Starting | Place::Running(_) | Place::Down(_) => {}
        }
        self
    }
}

/// A replica that is closed while nobody needs it.
#[derive(Debug)]
struct PutAway {
    /// As it was then.
    status: GroupStatus,
    /// Told when somebody needs it.
    needed: Notify,
    /// Told when it is to be opened in its turn.
    woken: Notify,
}

/// The right to be open without being needed, for a while.
struct Turn {
    _permit: OwnedSemaphorePermit,
    ends: Instant,
}

impl Turn {
    /// Resolves when it is over; never for who has none.
    async fn over(turn: Option<&Turn>) {
        match turn {
            Some(turn) => sleep_until(turn.ends).await,
            None => std::future::pending().await,
        }
    }
}

impl Groups {
    fn read<T>(&self, read: impl FnOnce(&Slots) -> T) -> T {
        read(&self.slots.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, write: impl FnOnce(&mut Slots) -> T) -> T {
        write(&mut self.slots.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the node holds a group, or is about to.
    pub fn holds(&self, group: GroupId) -> bool {
        self.read(|slots| slots.contains_key(&group))
    }

    /// How many the node holds.
    pub fn count(&self) -> usize {
        self.read(|slots| slots.len())
    }

    /// The group's replica, waiting until a deadline for one that is starting. An error is final:
    /// the deadline has passed, or waiting does not help.
    pub async fn replica(&self, group: GroupId, deadline: Instant) -> Result<Replica> {
        let unavailable = |reason: &str| Error::Unavailable { group, reason: reason.into() };
        let Some(mut place) = self.read(|slots| slots.get(&group).map(watch::Sender::subscribe))
        else {
            return Err(unavailable("it is not on this node"));
        };
        loop {
            if self.stopped.is_cancelled() {
                return Err(unavailable(STOPPING));
            }
            let waiting_for = match place.borrow_and_update().needed() {
                Place::Running(replica) => return Ok(replica.clone()),
                // Damage does not heal by waiting; anything else may.
                Place::Down(error @ Error::Corrupt(_)) => return Err(error.clone()),
                Place::Down(error) => error.clone(),
                Place::Waiting(_) | Place::Starting | Place::PutAway(_) => {
                    unavailable("it is still starting")
                }
            };
            let moved = self.stopped.run_until_cancelled(place.changed());
            match timeout_at(deadline, moved).await {
                Err(_) => return Err(waiting_for),
                Ok(Some(Err(_))) => return Err(unavailable("it is no longer on this node")),
                Ok(Some(Ok(())) | None) => {}
            }
        }
    }

    /// Whether they have stopped for good.
    pub fn are_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// The replica of a group, if it runs at the moment.
    pub fn get(&self, group: GroupId) -> Option<Replica> {
        self.read(|slots| running(&slots.get(&group)?.borrow()))
    }

    /// The replica of a group for what another node says to it, waiting a moment if it is being
    /// opened, for which this is a reason.
    pub fn find(&self, group: GroupId) -> BoxFuture<'static, Option<Replica>> {
        if let Some(replica) = self.get(group) {
            return Box::pin(ready(Some(replica)));
        }
        let groups = self.clone();
        let wait =
            async move { groups.replica(group, Instant::now() + REPLICA_OPEN_WAIT).await.ok() };
        Box::pin(wait)
    }

    /// Whether a replica waits for its turn to be opened.
    pub fn are_awaited(&self) -> bool {
        let waits = |slot: &watch::Sender<Place>| matches!(*slot.borrow(), Place::Waiting(_));
        self.read(|slots| slots.values().any(waits))
    }

    /// The groups whose replicas are put away, as they were then.
    pub fn put_away(&self) -> Vec<GroupStatus> {
        self.read(|slots| {
            let put_away = |slot: &watch::Sender<Place>| match &*slot.borrow() {
                Place::PutAway(put_away) => Some(put_away.status.clone()),
                _ => None,
            };
            slots.values().filter_map(put_away).collect()
        })
    }

    /// Has a group's replica opened again in its turn, if it is put away.
    pub fn wake(&self, group: GroupId) {
        self.read(|slots| {
            if let Some(Place::PutAway(put_away)) =
                slots.get(&group).map(|slot| slot.borrow().clone())
            {
                put_away.woken.notify_one();
            }
        });
    }

    /// The replicas that run at the moment.
    pub fn running(&self) -> Vec<(GroupId, Replica)> {
        self.read(|slots| {
            let replica = |(group, slot): (&GroupId, &watch::Sender<Place>)| {
                Some((*group, running(&slot.borrow())?))
            };
            slots.iter().filter_map(replica).collect()
        })
    }

    /// What they do.
    pub fn statuses(&self) -> Vec<GroupStatus> {
        let status = |(group, slot): (&GroupId, &watch::Sender<Place>)| match &*slot.borrow() {
            Place::Running(replica) => replica.status(),
            Place::PutAway(put_away) => put_away.status.clone(),
            Place::Waiting(_) | Place::Starting => {
                GroupStatus::without_replica(*group, Role::Starting)
            }
            Place::Down(_) => GroupStatus::without_replica(*group, Role::Stopped),
        };
        self.read(|slots| slots.iter().map(status).collect())
    }

    /// The damage that stopped a group, if any did.
    pub fn damage(&self, group: GroupId) -> Option<Corrupt> {
        self.read(|slots| match &*slots.get(&group)?.borrow() {
            Place::Down(Error::Corrupt(corrupt)) => Some(corrupt.clone()),
            _ => None,
        })
    }

    pub(super) fn show_reached(&self, reached: BTreeMap<GroupId, Revision>) {
        show(&self.reached, reached);
    }

    pub(super) fn show_let_go(&self, let_go: BTreeMap<GroupId, Revision>) {
        show(&self.let_go, let_go);
    }

    /// The groups led here that have let go of the replica whose repair the roster's record of a
    /// revision asks for.
    pub fn let_go(&self) -> watch::Receiver<BTreeMap<GroupId, Revision>> {
        self.let_go.subscribe()
    }

    /// The groups led here that are where the roster's record of a revision wanted them.
    pub fn reached(&self) -> watch::Receiver<BTreeMap<GroupId, Revision>> {
        self.reached.subscribe()
    }

    fn put(&self, group: GroupId, place: Place) {
        self.read(|slots| slots.get(&group).map(|slot| slot.send_replace(place)));
    }

    fn begin(&self, group: GroupId) {
        self.write(|slots| {
            slots.entry(group).or_insert_with(|| watch::Sender::new(Place::Starting));
        });
    }

    fn end(&self, group: GroupId) {
        self.write(|slots| slots.remove(&group));
        self.ended.notify_one();
    }
}

fn show(watched: &watch::Sender<BTreeMap<GroupId, Revision>>, groups: BTreeMap<GroupId, Revision>) {
    watched.send_if_modified(|shown| {
        let is_news = *shown != groups;
        *shown = groups;
        is_news
    });
}

fn running(place: &Place) -> Option<Replica> {
    match place {
        Place::Running(replica) => Some(replica.clone()),
        Place::Waiting(_) | Place::Starting | Place::PutAway(_) | Place::Down(_) => None,
    }
}

/// What the parts of this file share.
#[derive(Clone)]
struct Shared {
    me: NodeId,
    members: Members,
    groups: Groups,
    holdings: Arc<dyn Holdings>,
    space: SpaceGuard,
    board: HealthBoard,
    /// The turns of replicas that are opened without being needed.
    turns: Arc<Semaphore>,
    /// Replicas are put away one after the other, for each writes.
    putting_away: Arc<Semaphore>,
}

/// The supervised parts that run all groups: one that follows which they are, and their family.
pub(super) fn groups_parts(
    me: NodeId,
    members: &Members,
    groups: &Groups,
    holdings: Arc<dyn Holdings>,
    space: &SpaceGuard,
    board: &HealthBoard,
) -> [ChildSpec; 2] {
    let (members, groups, board) = (members.clone(), groups.clone(), board.clone());
    let space = space.clone();
    let stopped = groups.stopped.clone();
    let [turns, putting_away] =
        [OPENED_UNNEEDED_MAX, 1].map(|count| Arc::new(Semaphore::new(count)));
    let board_too = board.clone();
    let shared =
        Shared { me, members, groups, holdings, space, board: board_too, turns, putting_away };
    shared.groups.begin(GroupId::META);
    let wanted = watch::Sender::new(vec![shared.spec(GroupId::META)]);
    let (lost, children) = (watch::Sender::new(None), wanted.subscribe());
    let family = Family { children, independent: true, board, lost, stopped };
    // What is being erased is erased by the next start.
    let run = until_stopped(move || shared.clone().follow(wanted.clone()));
    [family.spec("groups"), service_part("holdings", run)]
}

fn part_name(group: GroupId) -> String {
    format!("group {group}")
}

impl Shared {
    fn spec(&self, group: GroupId) -> ChildSpec {
        let part = GroupPart { group, shared: self.clone() };
        let run = move |stop| {
            let part = part.clone();
            Box::pin(Here::at_group(part.group).scope(async move { part.run(stop).await })) as _
        };
        let groups = self.groups.clone();
        let spec = service_part(part_name(group), Arc::new(run)).reports_itself();
        spec.when_dismissed(move || groups.end(group))
    }

    /// Holds what the roster says, for as long as it changes.
    async fn follow(self, wanted: watch::Sender<Vec<ChildSpec>>) {
        let mut changes = self.members.changes();
        loop {
            let roster = changes.borrow_and_update().clone();
            let held = self.holdings.held().await;
            let repaired = repaired(&roster, self.me, &held);
            let mut now = assigned(&roster, self.me, &held);
            now.retain(|group| !repaired.contains(group));
            now.iter().for_each(|group| self.groups.begin(*group));
            wanted.send_if_modified(|children| {
                let specs: Vec<_> = now.iter().map(|group| self.spec(*group)).collect();
                let is_new =
                    !specs.iter().map(ChildSpec::name).eq(children.iter().map(ChildSpec::name));
                *children = specs;
                is_new
            });
            let (mut failed, mut begins_anew) = (false, false);
            for group in held.into_keys().filter(|group| !now.contains(group)) {
                if !self.groups.holds(group) {
                    let is_erased = self.erase(group).await;
                    failed |= !is_erased;
                    begins_anew |= is_erased && repaired.contains(&group);
                }
            }
            if begins_anew {
                continue;
            }
            tokio::select! {
                biased;
                changed = changes.changed() => if changed.is_err() { return },
                () = self.groups.ended.notified() => {}
                () = sleep(GROUP_ERASE_RETRY), if failed => {}
            }
        }
    }

    /// Gives up what is left of a group; true if nothing is.
    async fn erase(&self, group: GroupId) -> bool {
        tracing::info!(
            group = group.0,
            "this node holds the group no longer, and erases its replica"
        );
        Failpoint::BeforeErased.pass();
        let erased = self.holdings.erase(group).await;
        Failpoint::AfterErased.pass();
        match erased {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(group = group.0, %error, "a replica can't be erased yet");
                false
            }
        }
    }
}

/// The groups that a node is to hold. What it holds already by a later roster than this one it goes
/// on to hold, and so what a roster from before there were keyspaces does not know.
fn assigned(roster: &Roster, me: NodeId, held: &BTreeMap<GroupId, Revision>) -> BTreeSet<GroupId> {
    let shards = roster.shards().map(|(group, ..)| group);
    let given = shards.filter(|group| roster.part(*group, me).is_some());
    let unjudged = held
        .iter()
        .filter(|(group, as_of)| **as_of > roster.revision() || !roster.has_numbered(**group));
    given.chain(unjudged.map(|(group, _)| *group)).chain([GroupId::META]).collect()
}

/// The replicas of a node that are to be erased for their repair: those that their groups have let go
/// of, and that were opened before. What was opened by the record that says so, or later, is there anew.
fn repaired(roster: &Roster, me: NodeId, held: &BTreeMap<GroupId, Revision>) -> BTreeSet<GroupId> {
    let is_over = |(group, stage, at): &(GroupId, RepairStage, Revision)| {
        *stage == RepairStage::LetGo && held.get(group).is_some_and(|as_of| as_of < at)
    };
    roster.repairs_of(me).filter(is_over).map(|(group, ..)| group).collect()
}

/// One group's part of the tree.
#[derive(Clone)]
struct GroupPart {
    group: GroupId,
    shared: Shared,
}

impl GroupPart {
    /// Says that the group serves, or why it does not.
    fn say(&self, trouble: Option<&str>) {
        let name = part_name(self.group);
        self.shared.board.say(match trouble {
            None => Part::healthy(name),
            Some(why) => Part::unhealthy(name, why),
        });
    }

    /// Says since when the group has no leader, if it has none. Elections are had at any time, and what
    /// is asked meanwhile waits for them.
    fn say_led(&self, unled: Option<Instant>) {
        let (name, why) = (part_name(self.group), "it has no leader at the moment");
        self.shared.board.say(match unled {
            None => Part::healthy(name),
            Some(since) if since.elapsed() < UNLED_MAX => Part::degraded(name, why),
            Some(_) => Part::unhealthy(name, why),
        });
    }

    fn put(&self, place: Place) {
        self.shared.groups.put(self.group, place);
        self.shared.board.groups_changed();
    }

    /// `None` if it is to stop before it began.
    async fn open(&self, stop: &CancellationToken) -> Result<Option<Replica>> {
        let holdings = &self.shared.holdings;
        Failpoint::BeforeOpened.pass();
        let prepare = holdings.prepare(self.group);
        let Some(ready) = stop.run_until_cancelled(prepare).await else { return Ok(None) };
        // Not cut short by a stop: a Raft that is half open would have no owner.
        let opened = holdings.open(self.group, ready?).await;
        Failpoint::AfterOpened.pass();
        opened.map(Some)
    }

    /// Runs the replica until it is told to stop or fails. One that fails on a full disk is begun
    /// again when there is room, and that counts for nothing: it is not the replica's fault.
    async fn run(self, stop: CancellationToken) -> Result<(), String> {
        let mut before = None;
        let Some(mut turn) = stop.run_until_cancelled(self.turn()).await else { return Ok(()) };
        loop {
            self.put(Place::Starting);
            let error = match self.run_once(before.take(), turn.take(), &stop).await {
                Ended::Stopped => return Ok(()),
                Ended::PutAway(status, next) => {
                    (before, turn) = (Some(status), next);
                    continue;
                }
                Ended::Failed(Error::Corrupt(corrupt)) => {
                    self.stay_stopped(corrupt, &stop).await;
                    return Ok(());
                }
                Ended::Failed(error) => error,
            };
            if self.has_room().await {
                return Err(error.to_string());
            }
            tracing::warn!(group = self.group.0, %error, "{NO_ROOM}");
            self.say(Some(NO_ROOM));
            let waiting = timeout(SPACE_WAIT, async {
                while !self.has_room().await {
                    sleep(ROOM_LOOK).await;
                }
            });
            if stop.run_until_cancelled(waiting).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Waits until it is the replica's turn to be opened, or somebody needs it, who waits for nobody's
    /// turn. A node with many groups would otherwise have them all open at once, and none of them
    /// would come to anything for the elections of the others.
    async fn turn(&self) -> Option<Turn> {
        let held = self.shared.groups.read(|slots| slots.len());
        if self.group == GroupId::META || held <= OPENED_FREELY_MAX {
            return None;
        }
        let turns = &self.shared.turns;
        let permit = match turns.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let needed = Arc::new(Notify::new());
                self.put(Place::Waiting(needed.clone()));
                self.say(None);
                tokio::select! {
                    biased;
                    () = needed.notified() => return None,
                    permit = turns.clone().acquire_owned() => permit.ok()?,
                }
            }
        };
        Some(Turn { _permit: permit, ends: Instant::now() + OPENED_TURN })
    }

    /// Whether the disk has room, as far as can be seen.
    async fn has_room(&self) -> bool {
        let space = self.shared.space.clone();
        let room = seams::blocking(move || space.sample()).await;
        !room.is_ok_and(|room| room == Room::Full)
    }

    /// Why it ended. One that was put away is needed again; it goes on from how it was then.
    async fn run_once(
        &self,
        before: Option<GroupStatus>,
        mut turn: Option<Turn>,
        stop: &CancellationToken,
    ) -> Ended {
        let opened = {
            let opening = self.open(stop);
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    biased;
                    opened = &mut opening => break opened,
                    () = Turn::over(turn.as_ref()) => turn = None,
                }
            }
        };
        let replica = match opened {
            Ok(Some(replica)) => replica,
            Ok(None) => return Ended::Stopped,
            Err(error) => {
                self.put(Place::Down(error.clone()));
                return Ended::Failed(error);
            }
        };
        self.put(Place::Running(replica.clone()));
        if before.as_ref().is_some_and(|before| before.role == Role::Leader) {
            replica.stand().await;
        }
        let led_by = before.and_then(|before| before.leader);
        let ended = self.attend(&replica, led_by, turn, stop).await;
        match ended {
            Ended::Stopped => {
                self.stops();
                replica.stop().await;
                Ended::Stopped
            }
            Ended::Failed(error) => {
                self.say(Some(&error.to_string()));
                self.put(Place::Down(error.clone()));
                replica.abandon().await;
                Ended::Failed(error)
            }
            Ended::PutAway(status, _) => match self.put_away(replica, status.clone(), stop).await {
                Some(turn) => Ended::PutAway(status, turn),
                None => Ended::Stopped,
            },
        }
    }

    /// It serves no more: because the node stops, or because it is to hold the group no longer, which is
    /// no trouble.
    fn stops(&self) {
        let reason = match self.shared.groups.are_stopped() {
            true => {
                self.say(Some(STOPPING));
                STOPPING
            }
            false => HELD_NO_LONGER,
        };
        let reason = reason.into();
        self.put(Place::Down(Error::Unavailable { group: self.group, reason }));
    }

    /// Serves nothing and counts for nothing until it is to stop: a restart might read around the
    /// damage for a while.
    async fn stay_stopped(&self, corrupt: Corrupt, stop: &CancellationToken) {
        tracing::error!(group = corrupt.group.0, index = corrupt.index, "{corrupt}");
        self.say(Some(&corrupt.to_string()));
        self.put(Place::Down(corrupt.into()));
        stop.cancelled().await;
    }

    /// Reports who leads until the group fails, is to stop, or may be put away.
    async fn attend(
        &self,
        replica: &Replica,
        mut led_by: Option<NodeId>,
        mut turn: Option<Turn>,
        stop: &CancellationToken,
    ) -> Ended {
        let mut leadership = replica.leadership();
        let failed = replica.failed();
        tokio::pin!(failed);
        let mut unled = None;
        loop {
            let status = replica.status();
            if status.leader.is_some() && status.leader != led_by {
                replica.counts().leader_changes.one();
                led_by = status.leader;
            }
            unled = status.leader.is_none().then(|| unled.unwrap_or_else(Instant::now));
            self.say_led(unled);
            self.shared.board.groups_changed();
            let too_long = unled.map(|since| since + UNLED_MAX).filter(|at| *at > Instant::now());
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ended::Stopped,
                error = &mut failed => return Ended::Failed(error),
                () = Turn::over(turn.as_ref()) => turn = None,
                // What sleeps is put away, or costs nothing.
                () = replica.slept(), if turn.is_some() => turn = None,
                _ = leadership.changed() => {}
                () = sleep_until(too_long.unwrap_or_else(Instant::now)), if too_long.is_some() => {}
                () = replica.unneeded() => {
                    let status = replica.status();
                    if replica.take_clock() {
                        return Ended::PutAway(status, None);
                    }
                }
            }
        }
    }

    /// Closes a replica, and waits until somebody needs it, or until it is woken and has its turn;
    /// `None` if it is to stop.
    async fn put_away(
        &self,
        replica: Replica,
        status: GroupStatus,
        stop: &CancellationToken,
    ) -> Option<Option<Turn>> {
        let put_away = Arc::new(PutAway { status, needed: Notify::new(), woken: Notify::new() });
        self.put(Place::PutAway(put_away.clone()));
        {
            // Never closed.
            let _turn = self.shared.putting_away.acquire().await;
            replica.close().await;
            // With it goes the file, which writes once more.
            seams::blocking(move || drop(replica)).await;
        }
        let reopened = stop.run_until_cancelled(async {
            tokio::select! {
                biased;
                () = put_away.needed.notified() => None,
                () = put_away.woken.notified() => self.turn().await,
            }
        });
        let reopened = reopened.await;
        if reopened.is_none() {
            self.stops();
        }
        reopened
    }
}

/// Why a replica is attended no longer.
enum Ended {
    Stopped,
    Failed(Error),
    /// As it was, and with the turn that it has to be opened again.
    PutAway(GroupStatus, Option<Turn>),
}
