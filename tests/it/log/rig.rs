//! A log under test: driven by hand, beside a model of what it should hold.
//!
//! Every change is a [`Step`] in the one order of the log. What a log holds after a crash must be
//! the model after some number of steps: at least those that were acknowledged, at most those
//! that were issued.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use aspen::seams::Random;
use aspen::seams::disk::Disk;
use aspen::store::log::{EntryId, Log, LogCore, LogEntry, Options, Recovery, Vote, open};
use aspen::types::GroupId;
use bytes::Bytes;

use crate::crash_disk::{CrashDisk, below};

pub(crate) const DIR: &str = "data/log";

/// The smallest change that is written whole or not at all.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Entry(GroupId, LogEntry),
    Vote(GroupId, Vote),
    Truncate(GroupId, Option<u64>),
    Purge(GroupId, EntryId),
    Remove(GroupId),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModelGroup {
    pub(crate) vote: Option<Vote>,
    pub(crate) purged: Option<EntryId>,
    pub(crate) first: u64,
    pub(crate) entries: Vec<LogEntry>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) groups: BTreeMap<GroupId, ModelGroup>,
}

impl ModelGroup {
    fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn last(&self) -> Option<EntryId> {
        self.entries.last().map(|entry| entry.id).or(self.purged)
    }
}

impl Model {
    pub(crate) fn apply(&mut self, step: &Step) {
        match step {
            Step::Entry(group, entry) => {
                self.groups.entry(*group).or_default().entries.push(entry.clone());
            }
            Step::Vote(group, vote) => {
                self.groups.entry(*group).or_default().vote = Some(*vote);
            }
            Step::Truncate(group, after) => {
                let group = self.groups.entry(*group).or_default();
                let end = after.map_or(0, |after| after + 1);
                group.entries.truncate((end - group.first) as usize);
            }
            Step::Purge(group, through) => {
                let group = self.groups.entry(*group).or_default();
                let gone = (through.index + 1 - group.first).min(group.entries.len() as u64);
                group.entries.drain(..gone as usize);
                group.first = through.index + 1;
                group.purged = Some(*through);
            }
            Step::Remove(group) => {
                self.groups.remove(group);
            }
        }
    }

    /// What differs between a log and this model, in a group or at all. A group that is reported
    /// damaged is left to the caller.
    pub(crate) fn compare(&self, log: &Log, random: &Random) -> Result<(), String> {
        let known: Vec<GroupId> = log.groups();
        for id in self.groups.keys().chain(&known) {
            if log.group(*id).is_ok() {
                self.compare_group(log, *id, random)?;
            }
        }
        Ok(())
    }

    fn compare_group(&self, log: &Log, id: GroupId, random: &Random) -> Result<(), String> {
        let empty = ModelGroup::default();
        let expected = self.groups.get(&id).unwrap_or(&empty);
        let group = log.group(id).map_err(|corrupt| corrupt.to_string())?;
        let marks = group.marks();
        let found = (marks.vote, marks.purged, group.first_index(), group.last_id());
        let wanted = (expected.vote, expected.purged, expected.first, expected.last());
        if found != wanted {
            return Err(format!("group {id}: found {found:?}, expected {wanted:?}"));
        }
        let mut at = expected.first;
        while at < expected.end() {
            let bytes = below(random, 10_000) as usize;
            let read = group.read(at..expected.end(), bytes).map_err(|error| error.to_string())?;
            if read.is_empty() {
                return Err(format!("group {id}: nothing at {at}"));
            }
            for entry in read {
                if entry != expected.entries[(at - expected.first) as usize] {
                    return Err(format!("group {id}: another entry at {at}"));
                }
                at += 1;
            }
        }
        let beyond = group.read(expected.end()..u64::MAX, 1).map_err(|error| error.to_string())?;
        if beyond.is_empty() { Ok(()) } else { Err(format!("group {id}: an entry too many")) }
    }
}

/// Polls a future that is ready unless the queue is full.
pub(crate) fn now<F: Future>(future: F) -> F::Output {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("the queue is full"),
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// How many steps were issued and acknowledged when the disk's history had some length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) position: usize,
    pub(crate) issued: usize,
    pub(crate) acknowledged: usize,
}

pub(crate) struct Rig {
    pub(crate) disk: CrashDisk,
    pub(crate) log: Log,
    pub(crate) core: LogCore,
    pub(crate) model: Model,
    pub(crate) steps: Vec<Step>,
    pub(crate) moments: Vec<Moment>,
    acknowledged: Arc<AtomicUsize>,
    waiting: Vec<(usize, Waiting)>,
    random: Random,
}

pub(crate) fn open_on(
    disk: &CrashDisk,
    options: Options,
) -> Result<(Log, LogCore, Recovery), aspen::store::log::LogError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (core, recovery) = open(disk, Path::new(DIR), options)?;
    let (log, core) = Log::with_driver(core, |core| core);
    Ok((log, core, recovery))
}

/// Writes, syncs and finishes all that is queued.
pub(crate) fn drive(core: &mut LogCore) -> io::Result<()> {
    let mut cx = Context::from_waker(Waker::noop());
    while let Poll::Ready(true) = core.poll_batch(&mut cx) {
        core.write()?;
        core.sync()?;
        core.finish()?;
    }
    Ok(())
}

impl Rig {
    pub(crate) fn new(disk: CrashDisk, random: Random) -> Rig {
        let (log, core, _) = open_on(&disk, super::small()).unwrap();
        Rig {
            disk,
            log,
            core,
            model: Model::default(),
            steps: Vec::new(),
            moments: Vec::new(),
            acknowledged: Arc::default(),
            waiting: Vec::new(),
            random,
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Relaxed)
    }

    fn below(&self, bound: u64) -> u64 {
        below(&self.random, bound)
    }

    fn issue(&mut self, steps: Vec<Step>) {
        for step in &steps {
            self.model.apply(step);
        }
        self.steps.extend(steps);
    }

    fn note(&mut self) {
        self.moments.push(Moment {
            position: self.disk.position(),
            issued: self.steps.len(),
            acknowledged: self.acknowledged(),
        });
    }

    /// Does some random thing that the log's interface offers.
    pub(crate) fn act(&mut self) -> io::Result<()> {
        let group = GroupId(self.below(4));
        let known = self.model.groups.get(&group).cloned().unwrap_or_default();
        match self.below(100) {
            0..45 => self.append(group, &known)?,
            45..52 => self.vote(group),
            52..58 => {
                if let Some(last) = known.last() {
                    self.log.group(group).unwrap().save_committed(last);
                }
            }
            58..63 => self.truncate(group, &known)?,
            63..73 => self.purge(group, &known)?,
            73 => self.remove(group),
            _ => self.drive()?,
        }
        self.note();
        Ok(())
    }

    /// Payloads of all kinds: small, large, zeros, and copies of what stands on disk.
    fn payload(&self) -> Bytes {
        let len = match self.below(10) {
            0 => 0,
            1..6 => self.below(200) as usize,
            _ => self.below(3000) as usize,
        };
        let mut bytes = vec![0; len];
        match self.below(6) {
            0 => {}
            1 => {
                let files = self.disk.files();
                let file = self.disk.bytes(&files[self.below(files.len() as u64) as usize].0);
                let from = self.below(file.len() as u64) as usize / 512 * 512;
                let copy = len.min(file.len() - from);
                bytes[..copy].copy_from_slice(&file[from..from + copy]);
            }
            _ => self.random.fill(&mut bytes),
        }
        bytes.into()
    }

    fn append(&mut self, group: GroupId, known: &ModelGroup) -> io::Result<()> {
        let term = known.last().map_or(1, |last| last.term) + self.below(2);
        let ids = (known.end()..).take(1 + self.below(4) as usize);
        let entries: Vec<LogEntry> = ids
            .map(|index| LogEntry {
                id: EntryId { term, node: 1 + self.below(3), index },
                payload: self.payload(),
            })
            .collect();
        let steps: Vec<Step> =
            entries.iter().map(|entry| Step::Entry(group, entry.clone())).collect();
        let end = self.steps.len() + steps.len();
        let acknowledged = self.acknowledged.clone();
        let done = move |result: io::Result<()>| {
            if result.is_ok() {
                let before = acknowledged.fetch_max(end, Ordering::Relaxed);
                assert!(before <= end, "reports come in order");
            }
        };
        now(self.log.group(group).unwrap().append(entries, Box::new(done)))?;
        self.issue(steps);
        Ok(())
    }

    fn vote(&mut self, group: GroupId) {
        let vote =
            Vote { term: self.below(1000), node: self.below(3), committed: self.below(2) == 0 };
        let handle = self.log.group(group).unwrap();
        self.wait(Box::pin(async move { handle.save_vote(vote).await }));
        self.issue(vec![Step::Vote(group, vote)]);
    }

    fn remove(&mut self, group: GroupId) {
        let log = self.log.clone();
        self.wait(Box::pin(async move { log.remove_group(group).await }));
        self.issue(vec![Step::Remove(group)]);
    }

    /// Queues an operation that answers when it is durable.
    fn wait(&mut self, mut waiting: Waiting) {
        let mut cx = Context::from_waker(Waker::noop());
        if waiting.as_mut().poll(&mut cx).is_pending() {
            self.waiting.push((self.steps.len() + 1, waiting));
        }
    }

    fn truncate(&mut self, group: GroupId, known: &ModelGroup) -> io::Result<()> {
        let end = known.first + self.below(known.entries.len() as u64 + 1);
        let after = end.checked_sub(1);
        now(self.log.group(group).unwrap().truncate_after(after))?;
        self.issue(vec![Step::Truncate(group, after)]);
        Ok(())
    }

    fn purge(&mut self, group: GroupId, known: &ModelGroup) -> io::Result<()> {
        let len = known.entries.len() as u64;
        let through = match self.below(20) {
            0 => EntryId { term: 9, node: 9, index: known.end() + self.below(5) },
            1..10 if len > 0 => known.entries[len as usize - 1].id,
            _ if len > 0 => known.entries[self.below(len) as usize].id,
            _ => return Ok(()),
        };
        now(self.log.group(group).unwrap().purge(through))?;
        self.issue(vec![Step::Purge(group, through)]);
        Ok(())
    }

    pub(crate) fn drive(&mut self) -> io::Result<()> {
        drive(&mut self.core)?;
        self.collect();
        Ok(())
    }

    /// Collects the answers of what waits.
    pub(crate) fn collect(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        let acknowledged = self.acknowledged.clone();
        self.waiting.retain_mut(|(end, waiting)| match waiting.as_mut().poll(&mut cx) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                if result.is_ok() {
                    acknowledged.fetch_max(*end, Ordering::Relaxed);
                }
                false
            }
        });
    }

    /// How many operations wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Closes the log and opens it again on the same disk.
    pub(crate) fn reopen(&mut self) -> Recovery {
        self.drive().unwrap();
        let (log, core, recovery) = open_on(&self.disk, super::small()).unwrap();
        // Old handles go first: they close their log, not this one.
        self.core = core;
        self.log = log;
        recovery
    }

    /// The bounds of what a crash at a position of the history may leave.
    pub(crate) fn bounds(&self, position: usize) -> (usize, usize) {
        let before = self.moments.partition_point(|moment| moment.position <= position);
        let acknowledged = before.checked_sub(1).map_or(0, |at| self.moments[at].acknowledged);
        // A step is issued before it is written, and its moment is noted after.
        let issued = self.moments.get(before).or(self.moments.last());
        (acknowledged, issued.map_or(0, |moment| moment.issued))
    }
}

/// Finds the number of steps after which a model is what a log holds.
pub(crate) fn matching(
    steps: &[Step],
    (least, most): (usize, usize),
    log: &Log,
    random: &Random,
) -> Result<usize, String> {
    let mut model = Model::default();
    steps[..least].iter().for_each(|step| model.apply(step));
    let mut first_difference = None;
    for count in least..=most {
        match model.compare(log, random) {
            Ok(()) => return Ok(count),
            Err(difference) => first_difference.get_or_insert(difference),
        };
        if count < most {
            model.apply(&steps[count]);
        }
    }
    Err(format!(
        "no state between {least} and {most} steps: {}",
        first_difference.unwrap_or_default()
    ))
}

impl Rig {
    /// The same run on another disk, where only some of its steps came to be.
    pub(crate) fn continued(self, disk: CrashDisk, log: Log, core: LogCore, count: usize) -> Rig {
        let mut model = Model::default();
        let steps = self.steps[..count].to_vec();
        steps.iter().for_each(|step| model.apply(step));
        let moment = Moment { position: disk.position(), issued: count, acknowledged: count };
        Rig {
            disk,
            log,
            core,
            model,
            steps,
            moments: vec![moment],
            acknowledged: Arc::new(AtomicUsize::new(count)),
            waiting: Vec::new(),
            random: self.random,
        }
    }
}
