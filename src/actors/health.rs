//! How well each part is, and the actor that looks at what nobody reports.
//!
//! Parts say how they are on the [`HealthBoard`]; supervisors say it for parts that can't. The
//! actor samples free space and publishes the whole as a report.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::groups::Groups;
use super::mailbox::{Envelope, Mailbox};
use super::supervisor::ChildSpec;
use crate::health::{HealthReport, Part, PartState};
use crate::seams::{self, Tasks};
use crate::status::GroupStatus;
use crate::store::space::{Room, SpaceGuard};

/// How often free space is looked at and the report is refreshed.
const EVERY: Duration = Duration::from_secs(1);
const DISK: &str = "disk";

/// What each part last said; clones are the same board.
#[derive(Clone, Debug)]
pub struct HealthBoard {
    parts: Arc<Mutex<BTreeMap<String, Part>>>,
    report: watch::Sender<HealthReport>,
    groups: watch::Sender<Vec<GroupStatus>>,
}

impl Default for HealthBoard {
    fn default() -> Self {
        HealthBoard {
            parts: Arc::default(),
            report: watch::Sender::new(HealthReport::default()),
            groups: watch::Sender::new(Vec::new()),
        }
    }
}

impl HealthBoard {
    /// A part says how it is.
    pub fn say(&self, part: Part) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(part.name.clone(), part);
        let parts: Vec<Part> = parts.values().cloned().collect();
        // A nearly full disk refuses writes and serves reads: that is ready.
        let ready = parts.iter().all(|part| part.state < PartState::Unhealthy || part.name == DISK);
        self.report.send_replace(HealthReport { ready, parts });
    }

    /// The latest report, and each that follows.
    pub fn reports(&self) -> watch::Receiver<HealthReport> {
        self.report.subscribe()
    }

    /// What the groups do, refreshed with the report.
    pub fn groups(&self) -> watch::Receiver<Vec<GroupStatus>> {
        self.groups.subscribe()
    }

    fn show_groups(&self, groups: Vec<GroupStatus>) {
        self.groups.send_if_modified(|shown| {
            let is_new = *shown != groups;
            *shown = groups;
            is_new
        });
    }
}

/// The supervised part that samples what nobody reports.
pub(super) fn health_part(board: HealthBoard, space: SpaceGuard, groups: Groups) -> ChildSpec {
    ChildSpec::actor("health", move || {
        (
            HealthActor,
            Watched { board: board.clone(), space: space.clone(), groups: groups.clone() },
        )
    })
}

#[derive(Debug)]
struct HealthActor;

#[derive(Debug)]
struct Watched {
    board: HealthBoard,
    space: SpaceGuard,
    groups: Groups,
}

#[derive(Debug)]
struct HealthState {
    board: HealthBoard,
    tasks: Tasks,
}

#[derive(Debug)]
enum Msg {
    Sampled(std::io::Result<(Room, u64)>),
}

impl Actor for HealthActor {
    type Msg = Envelope<Msg>;
    type State = HealthState;
    type Arguments = Watched;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        watched: Watched,
    ) -> Result<HealthState, ActorProcessingErr> {
        let tasks = Tasks::new();
        let mailbox = Mailbox::new(myself);
        let state = HealthState { board: watched.board.clone(), tasks: tasks.clone() };
        tasks.spawn(sample(watched, mailbox));
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut HealthState,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _place) = envelope.open();
        match message {
            Msg::Sampled(room) => state.board.say(disk_part(room)),
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut HealthState,
    ) -> Result<(), ActorProcessingErr> {
        state.tasks.abort();
        Ok(())
    }
}

async fn sample(watched: Watched, mailbox: Mailbox<Msg>) {
    let Watched { board, space, groups } = watched;
    loop {
        board.show_groups(groups.statuses());
        let guard = space.clone();
        let room =
            seams::blocking(move || guard.sample().map(|room| (room, guard.free_percent()))).await;
        if mailbox.send(Msg::Sampled(room)).await.is_err() {
            return;
        }
        sleep_until(Instant::now() + EVERY).await;
    }
}

fn disk_part(room: std::io::Result<(Room, u64)>) -> Part {
    match room {
        Ok((Room::Enough, _)) => Part::healthy(DISK),
        Ok((Room::Low, percent)) => {
            Part::degraded(DISK, format!("{percent} % of the disk is free"))
        }
        Ok((Room::Full, percent)) => Part::unhealthy(
            DISK,
            format!("{percent} % of the disk is free: writes are refused until there is more"),
        ),
        Err(error) => Part::degraded(DISK, format!("free space is not known: {error}")),
    }
}
