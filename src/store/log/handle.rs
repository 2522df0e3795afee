//! The handles on a log, and the drivers that put its writer to work.
//!
//! Owns the queue between callers and writer. An operation takes its place in the queue first
//! (and waits for one if it is full), then changes the readable state and is queued in one step,
//! so that the order of both is the same. Reports come from the driver, outside all locks, after
//! the sync.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::core::{LogCore, Op, What, lacks_room};
use super::format::{self, RECORD_HEADER_BYTES, Record, RecordHeader};
use super::index::{Found, Index, Place};
use super::{Counts, EntryId, Failure, GroupMarks, Hunger, LogEntry, LogError, Options, Vote};
use crate::error::Corrupt;
use crate::limits::{LOG_QUEUE_BYTES_MAX, LOG_QUEUE_OPS_MAX, LOG_ROOM_LOOK};
use crate::seams::failpoint::Failpoint;
use crate::seams::{Tasks, disk::File, runs_in_place, spawn_thread};
use crate::types::GroupId;

/// Called once, after the sync that covers an operation or with the error that prevents it; by
/// the driver, in the order of the operations. It must not block.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// The least that an operation takes of the queue: both limits in one count.
const PLACE_BYTES_MIN: usize = LOG_QUEUE_BYTES_MAX / LOG_QUEUE_OPS_MAX;
/// Most bytes read from a file at once.
const SPAN_BYTES_MAX: u64 = 1024 * 1024;
/// Entries that are this close to each other are read at once.
const SPAN_GAP_BYTES_MAX: u64 = 4096;

/// What handles and writer share.
pub(super) struct Shared {
    state: Mutex<State>,
    room: Arc<Semaphore>,
    frame_bytes_max: usize,
    groups_max: usize,
    failed: watch::Sender<Option<Failure>>,
    pub(super) counts: Arc<Counts>,
    starved: watch::Sender<bool>,
    pub(super) ended: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) index: Index,
    /// Bounded by the places in [`Shared::room`].
    pub(super) queue: Vec<Op>,
    /// The newest committed mark of each group, to go with the next batch.
    pub(super) committed: BTreeMap<GroupId, EntryId>,
    pub(super) waker: Option<Waker>,
    pub(super) closed: bool,
    pub(super) failure: Option<Failure>,
    /// Why nothing is taken at the moment.
    pub(super) hunger: Option<Hunger>,
}

/// What a log that begins to wait for room, or still does, leaves to be told.
pub(super) struct Starving {
    pub(super) hunger: Hunger,
    pub(super) is_new: bool,
    /// Those who wait for what is queued.
    pub(super) waiting: Vec<Done>,
}

impl Shared {
    pub(super) fn new(index: Index, options: &Options, groups_max: usize) -> Self {
        Shared {
            state: Mutex::new(State {
                index,
                queue: Vec::new(),
                committed: BTreeMap::new(),
                waker: None,
                closed: false,
                failure: None,
                hunger: None,
            }),
            room: Arc::new(Semaphore::new(LOG_QUEUE_BYTES_MAX)),
            frame_bytes_max: options.frame_bytes_max,
            groups_max,
            failed: watch::Sender::new(None),
            counts: Arc::default(),
            starved: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the log failed and gives what was queued.
    pub(super) fn fail(&self, failure: &Failure) -> Vec<Op> {
        let mut state = self.state();
        state.failure.get_or_insert_with(|| failure.clone());
        state.committed.clear();
        let queued = std::mem::take(&mut state.queue);
        drop(state);
        self.room.close();
        self.failed.send_if_modified(|seen| {
            let first = seen.is_none();
            seen.get_or_insert_with(|| failure.clone());
            first
        });
        queued
    }

    /// The log waits for room: nobody else gets in. `None` if it is closed, or has failed.
    pub(super) fn starve(&self, error: &io::Error) -> Option<Starving> {
        let mut state = self.state();
        if state.closed || state.failure.is_some() {
            return None;
        }
        let is_new = state.hunger.is_none();
        let hunger = state.hunger.get_or_insert_with(|| Hunger::new(error)).clone();
        let waiting = state.queue.iter_mut().filter_map(|op| op.done.take()).collect();
        drop(state);
        self.starved.send_if_modified(|starved| !std::mem::replace(starved, true));
        Some(Starving { hunger, is_new, waiting })
    }

    /// A batch is durable: if that is all there was, the log waits for nothing.
    pub(super) fn relieve(&self) {
        let mut state = self.state();
        if state.hunger.is_none() || !state.queue.is_empty() {
            return;
        }
        state.hunger = None;
        drop(state);
        tracing::info!("the log has room again");
        self.starved.send_if_modified(|starved| std::mem::replace(starved, false));
    }

    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let waker = state.waker.take();
        drop(state);
        self.room.close();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn room(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let places = bytes.clamp(PLACE_BYTES_MIN, LOG_QUEUE_BYTES_MAX) as u32;
        let mut starved = self.starved.subscribe();
        tokio::select! {
            biased;
            permit = self.room.clone().acquire_many_owned(places) => match permit {
                Ok(permit) => Ok(permit),
                Err(_) => Err(self.state().refusal().unwrap_or_else(closed)),
            },
            // Nobody knows when a place will be free.
            _ = starved.wait_for(|starved| *starved) => {
                Err(self.state().refusal().unwrap_or_else(|| io::ErrorKind::StorageFull.into()))
            }
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the log is closed")
}

impl State {
    fn refusal(&self) -> Option<io::Error> {
        match &self.failure {
            Some(failure) => Some(failure.to_io()),
            None if self.closed => Some(closed()),
            None => self.hunger.as_ref().map(Hunger::to_io),
        }
    }
}

/// Closes the log when the last handle goes.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A handle on the log; clones are the same log. When the last handle goes, what was queued is
/// written and the driver ends.
#[derive(Clone)]
pub struct Log(Arc<Open>);

/// A handle on one group's log.
#[derive(Clone)]
pub struct GroupLog {
    log: Log,
    group: GroupId,
}

/// How much a group's log holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Its entries.
    pub entries: u64,
    /// The bytes of their records.
    pub bytes: u64,
    /// How many segments were begun since the one that its first entry stands in, which it keeps on
    /// the disk with all that others wrote there.
    pub age_segments: u32,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Log")
    }
}

impl fmt::Debug for GroupLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupLog({})", self.group)
    }
}

impl Log {
    /// Puts the core to work on a thread of its own; where all runs in place, as a task.
    pub fn start(core: LogCore) -> io::Result<Log> {
        if runs_in_place() {
            let disk = core.disk.clone();
            let pause = move || tokio::time::sleep(disk.lag());
            let (log, ()) = Log::with_driver(core, |core| Tasks::new().spawn(drive(core, pause)));
            return Ok(log);
        }
        let (log, started) = Log::with_driver(core, |core| {
            spawn_thread("aspen-log".to_owned(), move || work(core)).map(drop)
        });
        started.map(|()| log)
    }

    /// Gives the core to a driver of the caller's, such as a task that runs [`drive`].
    pub fn with_driver<T>(core: LogCore, run: impl FnOnce(LogCore) -> T) -> (Log, T) {
        let log = Log(Arc::new(Open(core.shared.clone())));
        (log, run(core))
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// The log of one group, or what is known of its damage. A group begins with its first
    /// operation.
    pub fn group(&self, group: GroupId) -> Result<GroupLog, Corrupt> {
        let state = self.shared().state();
        let damage = match (state.index.groups.get(&group), &state.index.tainted) {
            (Some(known), _) => known.damage.clone(),
            (None, Some(what)) => Some(Corrupt { group, index: None, what: what.clone() }),
            (None, None) => None,
        };
        match damage {
            Some(corrupt) => Err(corrupt),
            None => Ok(GroupLog { log: self.clone(), group }),
        }
    }

    /// The groups that the log knows, damaged ones included.
    pub fn groups(&self) -> Vec<GroupId> {
        self.shared().state().index.groups.keys().copied().collect()
    }

    /// Forgets a group and its damage; returns when that is durable. The group may begin anew.
    pub async fn remove_group(&self, group: GroupId) -> io::Result<()> {
        let room = self.shared().room(0).await?;
        let flushed = {
            let mut state = self.shared().state();
            state.refusal().map_or(Ok(()), Err)?;
            state.index.remove(group);
            state.committed.remove(&group);
            let (done, flushed) = report();
            self.queue(state, Op { group, what: What::Remove, done: Some(done), _room: room });
            flushed
        };
        self.wait(flushed).await
    }

    /// Returns when all that was queued before is durable.
    pub async fn flush(&self) -> io::Result<()> {
        let room = self.shared().room(0).await?;
        let flushed = {
            let state = self.shared().state();
            state.refusal().map_or(Ok(()), Err)?;
            let (done, flushed) = report();
            let group = GroupId(0);
            self.queue(state, Op { group, what: What::Flush, done: Some(done), _room: room });
            flushed
        };
        self.wait(flushed).await
    }

    /// What its writer has done.
    pub fn counts(&self) -> Arc<Counts> {
        self.shared().counts.clone()
    }

    /// The error that ended the log, once there is one.
    pub fn failure(&self) -> watch::Receiver<Option<Failure>> {
        self.shared().failed.subscribe()
    }

    /// Whether the log waits for room on the disk. What it was given before is durable when it does
    /// so no longer, though those who gave it were told that it is not.
    pub fn starved(&self) -> watch::Receiver<bool> {
        self.shared().starved.subscribe()
    }

    /// Takes nothing more, writes what is queued and the committed marks, and returns when the
    /// driver has ended.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.shared().close();
        let mut ended = self.shared().ended.subscribe();
        // The sender lives in what this handle holds, so the wait can only end by the value.
        let _ = ended.wait_for(|ended| *ended).await;
        match &self.shared().state().failure {
            Some(failure) => Err(failure.to_io()),
            None => Ok(()),
        }
    }

    fn queue(&self, mut state: MutexGuard<'_, State>, op: Op) {
        state.queue.push(op);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn wait(&self, flushed: oneshot::Receiver<io::Result<()>>) -> io::Result<()> {
        match flushed.await {
            Ok(result) => result,
            Err(_) => Err(self.shared().state().refusal().unwrap_or_else(closed)),
        }
    }
}

fn report() -> (Done, oneshot::Receiver<io::Result<()>>) {
    let (sender, receiver) = oneshot::channel();
    // Who no longer waits needs no answer.
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

impl GroupLog {
    /// Whose log it is.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The marks as last called; what was called may still be on its way to disk.
    pub fn marks(&self) -> GroupMarks {
        let state = self.log.shared().state();
        state.index.groups.get(&self.group).map(|group| group.marks).unwrap_or_default()
    }

    /// The index of the first entry, or of the one that comes next if there is none.
    pub fn first_index(&self) -> u64 {
        let state = self.log.shared().state();
        state.index.groups.get(&self.group).map_or(0, |group| group.first())
    }

    /// The last entry, or the purge point if there is none.
    pub fn last_id(&self) -> Option<EntryId> {
        let state = self.log.shared().state();
        state.index.groups.get(&self.group)?.last()
    }

    /// The name of an entry, if it is there.
    pub fn entry_id(&self, index: u64) -> Option<EntryId> {
        let state = self.log.shared().state();
        state.index.groups.get(&self.group)?.entry_id(index)
    }

    /// How much it holds.
    pub fn stats(&self) -> Stats {
        let state = self.log.shared().state();
        state.index.groups.get(&self.group).map_or(Stats::default(), |group| Stats {
            entries: group.len(),
            bytes: group.body_bytes() + group.len() * RECORD_HEADER_BYTES as u64,
            age_segments: state.index.age(group),
        })
    }

    /// Adds entries at the end. Returns once they can be read and are queued; `done` is called
    /// once they and all before them are durable. Waits while the queue is full. If this returns
    /// an error, nothing was added and `done` is not called.
    pub async fn append(&self, entries: Vec<LogEntry>, done: Done) -> io::Result<()> {
        let shared = self.log.shared();
        let mut bytes = 0;
        for entry in &entries {
            let record_bytes = format::entry_record_bytes_max(entry.payload.len());
            if format::FRAME_HEADER_BYTES + record_bytes > shared.frame_bytes_max {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("an entry of {} bytes does not fit in a frame", entry.payload.len()),
                ));
            }
            bytes += record_bytes;
        }
        let room = shared.room(bytes).await?;
        let mut state = self.begin()?;
        let stamp = state.index.append(self.group, &entries)?;
        let what = What::Append(entries, stamp);
        self.log.queue(state, Op { group: self.group, what, done: Some(done), _room: room });
        Ok(())
    }

    /// Waits until all that was queued before is durable.
    pub async fn flush(&self) -> io::Result<()> {
        self.log.flush().await
    }

    /// Saves the vote; returns when it is durable.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let room = self.log.shared().room(0).await?;
        let flushed = {
            let mut state = self.begin()?;
            state.index.groups.entry(self.group).or_default().marks.vote = Some(vote);
            let (done, flushed) = report();
            let what = What::Vote(vote);
            self.log.queue(state, Op { group: self.group, what, done: Some(done), _room: room });
            flushed
        };
        self.log.wait(flushed).await
    }

    /// Notes what is committed. It is written with the next operation of any group, or at
    /// shutdown; only the newest is kept.
    pub fn save_committed(&self, id: EntryId) {
        let mut state = self.log.shared().state();
        if let Some(group) = state.index.groups.get_mut(&self.group) {
            group.marks.committed = Some(id);
            state.committed.insert(self.group, id);
        }
    }

    /// Takes back all entries after an index, or all if none. The entries are gone when this
    /// returns, and that is durable when a later operation is.
    pub async fn truncate_after(&self, index: Option<u64>) -> io::Result<()> {
        let room = self.log.shared().room(0).await?;
        let mut state = self.begin()?;
        let last = state.index.truncate(self.group, index)?;
        let what = What::Truncate(last);
        self.log.queue(state, Op { group: self.group, what, done: None, _room: room });
        Ok(())
    }

    /// Gives up all entries up to one, which need not be there: the log then goes on after it.
    /// The entries are gone when this returns, and that is durable when a later operation is.
    pub async fn purge(&self, through: EntryId) -> io::Result<()> {
        let room = self.log.shared().room(0).await?;
        let mut state = self.begin()?;
        if state.index.purge(self.group, through) {
            let what = What::Purge(through);
            self.log.queue(state, Op { group: self.group, what, done: None, _room: room });
        }
        Ok(())
    }

    /// The entries of a range that are there, up to a count of bytes but at least one. What comes
    /// from disk is checked.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, LogError> {
        let found = self.log.shared().state().index.find(self.group, range, bytes_max);
        let mut entries = Vec::with_capacity(found.len());
        let mut span = Vec::new();
        for found in found {
            match found {
                Found::Here(entry) => {
                    read_span(self.group, &mut span, &mut entries)?;
                    entries.push(entry);
                }
                Found::At(id, place, file) => {
                    if !continues(&span, &place) {
                        read_span(self.group, &mut span, &mut entries)?;
                    }
                    span.push((id, place, file));
                }
            }
        }
        read_span(self.group, &mut span, &mut entries)?;
        Ok(entries)
    }

    /// The state, if an operation may begin on it.
    fn begin(&self) -> io::Result<MutexGuard<'_, State>> {
        let shared = self.log.shared();
        let state = shared.state();
        state.refusal().map_or(Ok(()), Err)?;
        let groups = &state.index.groups;
        if groups.len() >= shared.groups_max && !groups.contains_key(&self.group) {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                format!("the log has {} groups and takes no more", groups.len()),
            ));
        }
        Ok(state)
    }
}

/// Entries that are read from a file at once.
type Span = Vec<(EntryId, Place, Arc<dyn File>)>;

fn end_of(place: &Place) -> u64 {
    u64::from(place.offset) + RECORD_HEADER_BYTES as u64 + u64::from(place.body_bytes)
}

fn continues(span: &Span, place: &Place) -> bool {
    let (Some((_, first, _)), Some((_, last, _))) = (span.first(), span.last()) else {
        return true;
    };
    let begin = u64::from(place.offset);
    last.segment == place.segment
        && (end_of(last)..=end_of(last) + SPAN_GAP_BYTES_MAX).contains(&begin)
        && end_of(place) - u64::from(first.offset) <= SPAN_BYTES_MAX
}

/// Reads the entries of a span and checks each.
fn read_span(group: GroupId, span: &mut Span, entries: &mut Vec<LogEntry>) -> Result<(), LogError> {
    let (Some((id, first, file)), Some((_, last, _))) = (span.first(), span.last()) else {
        return Ok(());
    };
    let begin = u64::from(first.offset);
    let mut bytes = vec![0; (end_of(last) - begin) as usize];
    match file.read_at(&mut bytes, begin) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let what = format!("log segment {:08x} ends before byte {begin}", first.segment);
            return Err(Corrupt { group, index: Some(id.index), what }.into());
        }
        result => result?,
    }
    let bytes = Bytes::from(bytes);
    for (id, place, _) in span.drain(..) {
        let record = (u64::from(place.offset) - begin) as usize..(end_of(&place) - begin) as usize;
        let payload = check_entry(group, id, &bytes[record.clone()]).map_err(|what| {
            let (segment, offset) = (place.segment, place.offset);
            let what = format!("{what} (log segment {segment:08x}, byte {offset})");
            Corrupt { group, index: Some(id.index), what }
        })?;
        let end = record.end;
        entries.push(LogEntry { id, payload: bytes.slice(end - payload..end) });
    }
    Ok(())
}

/// Checks that a record is the entry it should be; gives the length of its payload, which stands
/// at its end.
fn check_entry(group: GroupId, id: EntryId, record: &[u8]) -> Result<usize, &'static str> {
    let header =
        RecordHeader::decode_healed(record).ok_or("the checksum of the record's head is wrong")?;
    if header.group != group || header.index != id.index {
        return Err("another record stands in the entry's place");
    }
    match format::decode_body(&header, &record[RECORD_HEADER_BYTES..])? {
        Record::Entry(found, payload) if found == id => Ok(payload.len()),
        _ => Err("another record stands in the entry's place"),
    }
}

// --- drivers ---

/// Wakes the writer's thread.
struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The writer's thread: what queues up during a sync goes with the next.
fn work(mut core: LogCore) {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match core.poll_batch(&mut cx) {
            Poll::Ready(true) => {}
            Poll::Ready(false) => {
                Failpoint::AfterSealed.pass();
                return core.await_ahead();
            }
            Poll::Pending => {
                std::thread::park();
                continue;
            }
        }
        let mut written = core.write();
        while let Err(error) = &written
            && lacks_room(error)
            && core.starve(error)
        {
            std::thread::park_timeout(LOG_ROOM_LOOK);
            written = core.write();
        }
        let result = written.and_then(|()| core.sync()).and_then(|()| core.finish());
        if let Err(error) = result {
            core.fail(&error);
            return core.await_ahead();
        }
        if let Some(make) = core.make_ahead() {
            // Without a thread the writer makes the segment itself when it needs it.
            drop(spawn_thread("aspen-log-next".to_owned(), make));
        }
    }
}

/// The writer as a task, which pauses between a write and its sync: the driver of simulations.
pub async fn drive<P, F>(mut core: LogCore, mut pause: P)
where
    P: FnMut() -> F,
    F: Future<Output = ()>,
{
    while std::future::poll_fn(|cx| core.poll_batch(cx)).await {
        let mut result = core.write();
        while let Err(error) = &result
            && lacks_room(error)
            && core.starve(error)
        {
            tokio::time::sleep(LOG_ROOM_LOOK).await;
            result = core.write();
        }
        if result.is_ok() {
            pause().await;
            result = core.sync().and_then(|()| core.finish());
        }
        if let Err(error) = result {
            core.fail(&error);
            return;
        }
    }
}
