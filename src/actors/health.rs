//! How well each part is, and the part that looks at what nobody reports.
//!
//! Parts say how they are on the [`HealthBoard`]; supervisors say it for parts that can't. What
//! is said is published at once; free space and how far the groups are is sampled.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::groups::Groups;
use super::mailbox::MailboxCounts;
use super::service::{service_part, until_stopped};
use super::supervisor::ChildSpec;
use crate::health::{HealthReport, Part, PartState};
use crate::seams;
use crate::status::GroupStatus;
use crate::store::space::{Room, SpaceGuard};

/// How often free space is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// The shortest pause between two looks at the node's own files.
const MEASURED_GAP_MIN: Duration = Duration::from_millis(900);
/// What each group adds to that: of many groups these are many names.
const MEASURED_GAP: Duration = Duration::from_millis(10);
/// How often the groups' counters are: often enough for a person who watches a node catch up.
const GROUPS_EVERY: Duration = Duration::from_millis(100);
/// The shortest pause between two looks.
const GROUPS_GAP_MIN: Duration = Duration::from_millis(5);
/// What each group adds to that.
const GROUPS_GAP: Duration = Duration::from_micros(500);
const DISK: &str = "disk";
const LOG_STARVES: &str = "the disk has no room for the log: until it has, the node writes nothing, \
                           leads nothing and is given nothing";

/// What each part last said; clones are the same board.
#[derive(Clone, Debug)]
pub struct HealthBoard {
    /// In the order in which they first spoke.
    parts: Arc<Mutex<Vec<Part>>>,
    report: watch::Sender<HealthReport>,
    groups: watch::Sender<Vec<GroupStatus>>,
    /// Whether the node has begun to serve.
    has_begun: Arc<AtomicBool>,
    /// Told when a group starts, stops, or has another leader.
    groups_changed: Arc<Notify>,
    mailboxes: Arc<MailboxCounts>,
    /// How often parts were started again, by the first word of their names.
    restarts: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Default for HealthBoard {
    fn default() -> Self {
        HealthBoard {
            parts: Arc::default(),
            report: watch::Sender::new(HealthReport::default()),
            groups: watch::Sender::new(Vec::new()),
            has_begun: Arc::default(),
            groups_changed: Arc::default(),
            mailboxes: Arc::default(),
            restarts: Arc::default(),
        }
    }
}

impl HealthBoard {
    /// A part says how it is.
    pub fn say(&self, part: Part) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match parts.iter_mut().find(|said| said.name == part.name) {
            Some(said) if *said == part => return,
            Some(said) => *said = part,
            None => parts.push(part),
        }
        self.publish(&parts);
    }

    /// A part starts, and will say how it is. Before that it is as it was, if it was there: what fails
    /// again and again is not well in between.
    pub(super) fn starts(&self, name: &str) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        if parts.iter().all(|part| part.name != name) {
            parts.push(Part::degraded(name, "it is starting"));
            self.publish(&parts);
        }
    }

    /// The node has begun to serve: what starts from now on, such as a group that it is given, keeps it
    /// from nothing.
    pub fn begin(&self) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_begun.store(true, Ordering::SeqCst);
        self.publish(&parts);
    }

    /// There is no such part any more.
    pub(super) fn forget(&self, name: &str) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.retain(|part| part.name != name);
        self.publish(&parts);
    }

    /// A part is started again.
    pub(super) fn restarts(&self, name: &str) {
        let mut restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        *restarts.entry(first_word(name).to_owned()).or_default() += 1;
    }

    /// How often parts were started again; all groups are one.
    pub fn restarted(&self) -> BTreeMap<String, u64> {
        let restarts = self.restarts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = restarts.clone();
        for part in &self.report.borrow().parts {
            all.entry(first_word(&part.name).to_owned()).or_default();
        }
        all
    }

    /// Where the mailboxes count.
    pub fn mailboxes(&self) -> Arc<MailboxCounts> {
        self.mailboxes.clone()
    }

    fn publish(&self, parts: &[Part]) {
        // A nearly full disk refuses writes and serves reads: that is ready.
        let well = parts.iter().all(|part| part.state < PartState::Unhealthy || part.name == DISK);
        let ready = well && self.has_begun.load(Ordering::SeqCst);
        // Under the lock, so that the last report published is of the last word said.
        self.report.send_replace(HealthReport { ready, parts: parts.to_vec() });
    }

    /// The latest report, and each that follows.
    pub fn reports(&self) -> watch::Receiver<HealthReport> {
        self.report.subscribe()
    }

    /// What the groups do: told at once when a group's leader changes, and now and then how far
    /// it is.
    pub fn groups(&self) -> watch::Receiver<Vec<GroupStatus>> {
        self.groups.subscribe()
    }

    /// A group starts, stops, or has another leader.
    pub(super) fn groups_changed(&self) {
        self.groups_changed.notify_one();
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
    let run = until_stopped(move || sample(board.clone(), space.clone(), groups.clone()));
    service_part("health", run)
}

async fn sample(board: HealthBoard, space: SpaceGuard, groups: Groups) {
    let held = groups.clone();
    tokio::join!(sample_disk(&board, space, held), sample_groups(&board, groups));
}

async fn sample_disk(board: &HealthBoard, space: SpaceGuard, groups: Groups) {
    let mut measured: Option<Instant> = None;
    loop {
        let guard = space.clone();
        let pause = MEASURED_GAP_MIN + MEASURED_GAP * groups.count() as u32;
        let measures = measured.is_none_or(|measured| measured.elapsed() >= pause);
        let sampled = move || {
            if measures {
                guard.measure();
            }
            guard.sample().map(|room| (room, guard.free_percent()))
        };
        let room = seams::blocking(sampled).await;
        if measures {
            measured = Some(Instant::now());
        }
        board.say(match space.log_starves() {
            true => Part::unhealthy(DISK, LOG_STARVES),
            false => disk_part(room),
        });
        sleep(EVERY).await;
    }
}

async fn sample_groups(board: &HealthBoard, groups: Groups) {
    loop {
        let statuses = groups.statuses();
        // The more there are, the less often: a look costs about a microsecond a group.
        let pause = GROUPS_GAP * statuses.len() as u32;
        board.show_groups(statuses);
        // Of many that change at once, all are shown in one look.
        sleep(GROUPS_GAP_MIN + pause).await;
        let _ = timeout(GROUPS_EVERY, board.groups_changed.notified()).await;
    }
}

/// There are many groups, and `group 7` is one of them.
fn first_word(name: &str) -> &str {
    name.split(' ').next().unwrap_or(name)
}

fn disk_part(room: std::io::Result<(Room, u64)>) -> Part {
    match room {
        Ok((Room::Enough, _)) => Part::healthy(DISK),
        Ok((Room::Low, percent)) => {
            Part::degraded(DISK, format!("{percent} % of the disk is free"))
        }
        Ok((Room::Full, percent)) => Part::unhealthy(
            DISK,
            format!(
                "{percent} % of the disk is free: until there is more, writes are refused, and the \
                 node leads nothing if others can and is given nothing"
            ),
        ),
        Err(error) => Part::degraded(DISK, format!("free space is not known: {error}")),
    }
}
