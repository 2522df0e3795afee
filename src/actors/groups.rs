//! The groups of this node: one supervised actor for each replica, and the handles to them.
//!
//! A group's actor opens its replica, publishes it in the group's slot and ends when the replica
//! can't go on, so that the supervisor starts it again. Operations never pass through the actor:
//! they take the replica from the slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::health::HealthBoard;
use super::mailbox::{Envelope, Mailbox};
use super::supervisor::{ChildSpec, Family};
use crate::error::{Error, Result};
use crate::health::Part;
use crate::raft::{Replica, ReplicaSpec};
use crate::seams::Tasks;
use crate::status::GroupStatus;
use crate::types::GroupId;

/// Handles to the node's groups, good across restarts of the groups; clones are the same.
#[derive(Clone, Debug)]
pub struct Groups {
    slots: Arc<BTreeMap<GroupId, Slot>>,
}

/// Where a group's running replica is found.
#[derive(Clone, Debug)]
struct Slot {
    place: watch::Sender<Place>,
}

#[derive(Clone, Debug)]
enum Place {
    Starting,
    Running(Replica),
    Down(Error),
}

impl Groups {
    pub(super) fn new(groups: impl IntoIterator<Item = GroupId>) -> Self {
        let slot = |group| (group, Slot { place: watch::Sender::new(Place::Starting) });
        Groups { slots: Arc::new(groups.into_iter().map(slot).collect()) }
    }

    fn slot(&self, group: GroupId) -> Result<&Slot> {
        let unknown = || Error::Unavailable { group, reason: "it is not on this node".into() };
        self.slots.get(&group).ok_or_else(unknown)
    }

    /// The group's replica, waiting until a deadline for one that is starting.
    pub async fn replica(&self, group: GroupId, deadline: Instant) -> Result<Replica> {
        let mut place = self.slot(group)?.place.subscribe();
        loop {
            match &*place.borrow_and_update() {
                Place::Running(replica) => return Ok(replica.clone()),
                // Damage does not heal by waiting; anything else may.
                Place::Down(error @ Error::Corrupt(_)) => return Err(error.clone()),
                Place::Starting | Place::Down(_) => {}
            }
            if timeout_at(deadline, place.changed()).await.is_err() {
                return Err(match &*place.borrow() {
                    Place::Down(error) => error.clone(),
                    _ => Error::Unavailable { group, reason: "it is still starting".into() },
                });
            }
        }
    }

    /// What the running replicas do at the moment.
    pub fn statuses(&self) -> Vec<GroupStatus> {
        let running = self.slots.values().filter_map(|slot| match &*slot.place.borrow() {
            Place::Running(replica) => Some(replica.status()),
            Place::Starting | Place::Down(_) => None,
        });
        running.collect()
    }
}

/// Makes the spec of a group's replica for each start.
pub type MakeSpec = Arc<dyn Fn() -> Result<ReplicaSpec> + Send + Sync>;

/// The supervised part that runs all groups.
pub(super) fn groups_part(
    groups: &Groups,
    specs: Vec<(GroupId, MakeSpec)>,
    board: &HealthBoard,
) -> ChildSpec {
    let children = specs
        .into_iter()
        .filter_map(|(group, spec)| {
            let slot = groups.slots.get(&group)?.clone();
            let board = board.clone();
            Some(ChildSpec::actor(part_name(group), move || {
                (
                    GroupActor,
                    GroupArguments {
                        group,
                        spec: spec.clone(),
                        slot: slot.clone(),
                        board: board.clone(),
                    },
                )
            }))
        })
        .collect();
    let lost = watch::Sender::new(None);
    Family { children, board: board.clone(), lost }.spec("groups")
}

fn part_name(group: GroupId) -> String {
    format!("group {group}")
}

#[derive(Debug)]
struct GroupActor;

struct GroupArguments {
    group: GroupId,
    spec: MakeSpec,
    slot: Slot,
    board: HealthBoard,
}

#[derive(Debug)]
struct GroupState {
    group: GroupId,
    slot: Slot,
    board: HealthBoard,
    mailbox: Mailbox<Msg>,
    tasks: Tasks,
    replica: Option<Replica>,
}

#[derive(Debug)]
enum Msg {
    Opened(Result<Replica>),
    Failed(Error),
}

impl Actor for GroupActor {
    type Msg = Envelope<Msg>;
    type State = GroupState;
    type Arguments = GroupArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: GroupArguments,
    ) -> Result<GroupState, ActorProcessingErr> {
        let GroupArguments { group, spec, slot, board } = arguments;
        slot.place.send_replace(Place::Starting);
        board.say(Part::unhealthy(part_name(group), "it is starting"));
        let mailbox = Mailbox::new(myself);
        let tasks = Tasks::new();
        let opened = mailbox.clone();
        tasks.spawn(async move {
            let replica = match spec() {
                Ok(spec) => Replica::open(spec).await,
                Err(error) => Err(error),
            };
            // If the actor has stopped meanwhile, so has the need for the replica.
            let _ = opened.send(Msg::Opened(replica)).await;
        });
        Ok(GroupState { group, slot, board, mailbox, tasks, replica: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut GroupState,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _place) = envelope.open();
        match message {
            Msg::Opened(Ok(replica)) => state.opened(replica),
            Msg::Opened(Err(error)) | Msg::Failed(error) => return Err(state.down(error)),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut GroupState,
    ) -> Result<(), ActorProcessingErr> {
        let reason = "it is stopping".into();
        let stopping = Error::Unavailable { group: state.group, reason };
        state.slot.place.send_replace(Place::Down(stopping));
        state.tasks.abort();
        if let Some(replica) = state.replica.take() {
            replica.stop().await;
        }
        Ok(())
    }
}

impl GroupState {
    fn opened(&mut self, replica: Replica) {
        self.replica = Some(replica.clone());
        self.board.say(Part::healthy(part_name(self.group)));
        self.slot.place.send_replace(Place::Running(replica.clone()));
        let mailbox = self.mailbox.clone();
        self.tasks.spawn(async move {
            let error = replica.failed().await;
            let _ = mailbox.send(Msg::Failed(error)).await;
        });
    }

    /// Takes the replica out of service; ends the actor with the reason.
    fn down(&mut self, error: Error) -> ActorProcessingErr {
        self.slot.place.send_replace(Place::Down(error.clone()));
        self.tasks.abort();
        if let Some(replica) = self.replica.take() {
            // Its Raft has stopped already; what is left are its own tasks.
            replica.abandon();
        }
        error.into()
    }
}
