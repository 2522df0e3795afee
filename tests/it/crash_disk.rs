//! A disk in memory that knows what a crash may do to it.
//!
//! It keeps, for every file, what was synced and the ordered writes since, and the same for the
//! names in directories. From any moment it makes crash images, chosen by a seed: each write that
//! was not synced is kept, lost or torn at sectors of 512 bytes, independently of the others, and
//! each change of a name is kept or lost. What a sector holds is what it held in the system's
//! cache after some write, as on real machines.
//!
//! A disk can keep its history, so that images can be made later from every moment of a run
//! ([`CrashDisk::replay`]). It can crash in place, after which old handles fail. Errors can be
//! made to happen ([`CrashDisk::fail`]) and bits flipped.
//!
//! Directories are durable when they are made; there is no limit of space.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use aspen::seams::Random;
use aspen::seams::disk::{Disk, File, OpenMode, Space};

/// What a disk writes as one.
pub const SECTOR: usize = 512;
/// The error of a disk that fails.
pub const EIO: i32 = 5;
/// The error of a disk that is full.
pub const ENOSPC: i32 = 28;

/// A disk; clones are the same disk.
#[derive(Clone)]
pub struct CrashDisk(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    state: State,
    /// Counts crashes: a handle of an earlier epoch fails.
    epoch: u64,
    history: Option<Vec<Op>>,
    /// What was there before the history.
    recorded_from: State,
    fault: Option<Fault>,
    locks: BTreeSet<PathBuf>,
}

/// Everything on the disk and in the system's cache.
#[derive(Clone, Default)]
struct State {
    inodes: Vec<Inode>,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Changes of names that are not durable.
    renaming: Vec<NameOp>,
}

#[derive(Clone, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync.
    dirty: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Arc<[u8]>),
    SetLen(usize),
}

#[derive(Clone)]
enum NameOp {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

/// One thing that was done to the disk.
#[derive(Clone)]
pub enum Op {
    /// A file was created.
    Create(PathBuf),
    /// Bytes were written to a file.
    Write(usize, usize, Arc<[u8]>),
    /// A file's length was set.
    SetLen(usize, usize),
    /// A file was synced.
    Sync(usize),
    /// A file was renamed.
    Rename(PathBuf, PathBuf),
    /// A file was removed.
    Remove(PathBuf),
    /// A directory was synced.
    SyncDir(PathBuf),
    /// A directory was made.
    MakeDir(PathBuf),
}

/// The kinds of operations that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reading from a file.
    Read,
    /// Writing to a file or setting its length.
    Write,
    /// Syncing a file.
    Sync,
    /// Creating, renaming or removing a file, or syncing a directory.
    Name,
}

/// An operation that will fail.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Of which kind.
    pub kind: Kind,
    /// How many of that kind succeed before.
    pub after: u64,
    /// The system's error number.
    pub error: i32,
}

impl fmt::Debug for CrashDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CrashDisk")
    }
}

impl Default for CrashDisk {
    fn default() -> Self {
        CrashDisk::new()
    }
}

impl CrashDisk {
    /// An empty disk.
    pub fn new() -> Self {
        CrashDisk(Arc::default())
    }

    /// An empty disk that keeps its history.
    pub fn recording() -> Self {
        CrashDisk::new().recorded()
    }

    fn with(state: State) -> Self {
        CrashDisk(Arc::new(Mutex::new(Inner { state, ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// How many operations its history holds.
    pub fn position(&self) -> usize {
        self.inner().history.as_ref().map_or(0, Vec::len)
    }

    /// The same disk, keeping its history from now on.
    pub fn recorded(self) -> CrashDisk {
        {
            let mut inner = self.inner();
            inner.history = Some(Vec::new());
            inner.recorded_from = inner.state.clone();
        }
        self
    }

    /// Its history from the beginning.
    pub fn replay(&self) -> Replay {
        let inner = self.inner();
        let ops = inner.history.clone().expect("the disk keeps its history");
        Replay { state: inner.recorded_from.clone(), ops, at: 0 }
    }

    /// Another disk, as a crash now might leave this one.
    pub fn image(&self, random: &Random) -> CrashDisk {
        CrashDisk::with(self.inner().state.image(random))
    }

    /// Another disk, with only what is durable.
    pub fn copy_of_durable(&self) -> CrashDisk {
        let mut state = self.inner().state.clone();
        for inode in &mut state.inodes {
            inode.cached.clone_from(&inode.durable);
            inode.dirty.clear();
        }
        state.names.clone_from(&state.durable_names);
        state.renaming.clear();
        CrashDisk::with(state)
    }

    /// Crashes in place: what was not synced is lost or torn, and old handles fail.
    pub fn crash(&self, random: &Random) {
        let mut inner = self.inner();
        inner.state = inner.state.image(random);
        inner.epoch += 1;
        inner.locks.clear();
        inner.fault = None;
    }

    /// The process dies and the system does not: old handles fail, and nothing that was written
    /// is lost or becomes durable.
    pub fn kill(&self) {
        let mut inner = self.inner();
        inner.epoch += 1;
        inner.locks.clear();
        inner.fault = None;
    }

    /// Lets one later operation fail.
    pub fn fail(&self, fault: Fault) {
        self.inner().fault = Some(fault);
    }

    /// The files and their lengths.
    pub fn files(&self) -> Vec<(PathBuf, usize)> {
        let inner = self.inner();
        let names = inner.state.names.iter();
        names.map(|(path, inode)| (path.clone(), inner.state.inodes[*inode].cached.len())).collect()
    }

    /// What a file holds.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        let inner = self.inner();
        inner.state.inodes[inner.state.names[path]].cached.clone()
    }

    /// Flips a bit of a file, on disk and in the cache.
    pub fn flip(&self, path: &Path, byte: usize, bit: u8) {
        let mut inner = self.inner();
        let at = inner.state.names[path];
        let inode = &mut inner.state.inodes[at];
        inode.cached[byte] ^= 1 << bit;
        if let Some(byte) = inode.durable.get_mut(byte) {
            *byte ^= 1 << bit;
        }
    }

    /// Changes bytes of a file, on disk and in the cache.
    pub fn put(&self, path: &Path, offset: usize, bytes: &[u8]) {
        let mut inner = self.inner();
        let at = inner.state.names[path];
        let Inode { cached, durable, .. } = &mut inner.state.inodes[at];
        cached[offset..offset + bytes.len()].copy_from_slice(bytes);
        let end = durable.len().min(offset + bytes.len());
        durable[offset..end].copy_from_slice(&bytes[..end - offset]);
    }

    /// Another disk with the same contents, all of it durable.
    pub fn copy(&self) -> CrashDisk {
        let mut state = self.inner().state.clone();
        for inode in &mut state.inodes {
            inode.durable.clone_from(&inode.cached);
            inode.dirty.clear();
        }
        state.durable_names.clone_from(&state.names);
        state.renaming.clear();
        CrashDisk::with(state)
    }
}

/// A history that is gone through again, operation by operation.
pub struct Replay {
    state: State,
    ops: Vec<Op>,
    at: usize,
}

impl Replay {
    /// Does the next operation; none at the end.
    pub fn step(&mut self) -> Option<&Op> {
        let op = self.ops.get(self.at)?;
        self.at += 1;
        self.state.apply(op);
        Some(op)
    }

    /// How many operations were done.
    pub fn position(&self) -> usize {
        self.at
    }

    /// A disk, as a crash at this moment might leave it.
    pub fn image(&self, random: &Random) -> CrashDisk {
        CrashDisk::with(self.state.image(random))
    }
}

impl State {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create(path) => {
                let inode = self.inodes.len();
                self.inodes.push(Inode::default());
                self.names.insert(path.clone(), inode);
                self.renaming.push(NameOp::Create(path.clone(), inode));
            }
            Op::Write(inode, offset, data) => {
                self.inodes[*inode].change(Change::Write(*offset, data.clone()));
            }
            Op::SetLen(inode, len) => self.inodes[*inode].change(Change::SetLen(*len)),
            Op::Sync(inode) => {
                let Inode { durable, dirty, .. } = &mut self.inodes[*inode];
                for change in dirty.drain(..) {
                    change.apply(durable);
                }
            }
            Op::Rename(from, to) => {
                if let Some(inode) = self.names.remove(from) {
                    self.names.insert(to.clone(), inode);
                    self.renaming.push(NameOp::Rename(from.clone(), to.clone(), inode));
                }
            }
            Op::Remove(path) => {
                self.names.remove(path);
                self.renaming.push(NameOp::Remove(path.clone()));
            }
            Op::SyncDir(dir) => {
                let renaming = std::mem::take(&mut self.renaming);
                let (done, rest) =
                    renaming.into_iter().partition(|op| op.path().parent() == Some(dir));
                self.renaming = rest;
                let done: Vec<NameOp> = done;
                for op in done {
                    op.apply(&mut self.durable_names);
                }
            }
            Op::MakeDir(dir) => self.dirs.extend(dir.ancestors().map(Path::to_owned)),
        }
    }

    fn image(&self, random: &Random) -> State {
        let inodes = self.inodes.iter().map(|inode| Inode::new(inode.image(random))).collect();
        let mut names = self.durable_names.clone();
        let fate = Fate::choose(random);
        for op in &self.renaming {
            if fate.is_kept(random) {
                op.apply(&mut names);
            }
        }
        State {
            inodes,
            dirs: self.dirs.clone(),
            durable_names: names.clone(),
            names,
            renaming: Vec::new(),
        }
    }
}

impl Inode {
    fn new(bytes: Vec<u8>) -> Self {
        Inode { cached: bytes.clone(), durable: bytes, dirty: Vec::new() }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.dirty.push(change);
    }

    fn image(&self, random: &Random) -> Vec<u8> {
        let mut image = self.durable.clone();
        let mut cached = self.durable.clone();
        let fate = Fate::choose(random);
        // Lengths become durable in order; what lies behind the length is lost.
        let lengths = below(random, self.dirty.len() as u64 + 1) as usize;
        for (at, change) in self.dirty.iter().enumerate() {
            change.apply(&mut cached);
            let settled = at < lengths || matches!(fate, Fate::Kept);
            if settled && (cached.len() > image.len() || matches!(change, Change::SetLen(_))) {
                image.resize(cached.len(), 0);
            }
            let Change::Write(offset, data) = change else { continue };
            let torn = fate.is_torn(random);
            let kept = fate.is_kept(random);
            let first = offset / SECTOR * SECTOR;
            for begin in (first..offset + data.len()).step_by(SECTOR) {
                let keep = if torn { below(random, 2) == 0 } else { kept };
                let end = (begin + SECTOR).min(cached.len()).min(image.len());
                if keep && begin < end {
                    image[begin..end].copy_from_slice(&cached[begin..end]);
                }
            }
        }
        image
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => {
                let end = offset + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(data);
            }
            Change::SetLen(len) => bytes.resize(*len, 0),
        }
    }
}

impl NameOp {
    fn path(&self) -> &Path {
        match self {
            NameOp::Create(path, _) | NameOp::Rename(path, ..) | NameOp::Remove(path) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameOp::Create(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            NameOp::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
            NameOp::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

/// What befalls the changes of one file in one crash.
enum Fate {
    /// All is kept: the process died, the system did not.
    Kept,
    /// All is lost.
    Lost,
    /// Each change for itself.
    Mixed,
}

impl Fate {
    fn choose(random: &Random) -> Fate {
        match below(random, 6) {
            0 => Fate::Kept,
            1 => Fate::Lost,
            _ => Fate::Mixed,
        }
    }

    fn is_kept(&self, random: &Random) -> bool {
        match self {
            Fate::Kept => true,
            Fate::Lost => false,
            Fate::Mixed => below(random, 2) == 0,
        }
    }

    fn is_torn(&self, random: &Random) -> bool {
        matches!(self, Fate::Mixed) && below(random, 2) == 0
    }
}

/// A number below a bound.
pub fn below(random: &Random, bound: u64) -> u64 {
    random.next_u64() % bound
}

impl Inner {
    /// Fails if it is this operation's turn to fail.
    fn attempt(&mut self, kind: Kind) -> io::Result<()> {
        match &mut self.fault {
            Some(fault) if fault.kind == kind => {
                if let Some(left) = fault.after.checked_sub(1) {
                    fault.after = left;
                    return Ok(());
                }
                let error = fault.error;
                self.fault = None;
                Err(io::Error::from_raw_os_error(error))
            }
            _ => Ok(()),
        }
    }

    fn done(&mut self, op: Op) {
        self.state.apply(&op);
        if let Some(history) = &mut self.history {
            history.push(op);
        }
    }

    fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<usize> {
        match (self.state.names.get(path), mode) {
            (Some(inode), OpenMode::Existing | OpenMode::Create) => Ok(*inode),
            (None, OpenMode::Existing) => Err(io::ErrorKind::NotFound.into()),
            (Some(_), _) => Err(io::ErrorKind::AlreadyExists.into()),
            (None, _) => {
                self.attempt(Kind::Name)?;
                self.done(Op::Create(path.to_owned()));
                Ok(self.state.names[path])
            }
        }
    }
}

impl Disk for CrashDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut inner = self.inner();
        let inode = inner.open(path, mode)?;
        Ok(Arc::new(CrashFile { disk: self.clone(), inode, epoch: inner.epoch }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner().done(Op::MakeDir(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.inner();
        let all = inner.state.names.keys().chain(&inner.state.dirs);
        let mut names: Vec<String> = all
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
            .collect();
        names.sort();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let inner = self.inner();
        Ok(inner.state.names.contains_key(path) || inner.state.dirs.contains(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.attempt(Kind::Name)?;
        if !inner.state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.done(Op::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.attempt(Kind::Name)?;
        if !inner.state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.done(Op::Remove(path.to_owned()));
        Ok(())
    }

    /// That it comes back after a crash harms nobody, so it goes when it is asked to.
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.attempt(Kind::Name)?;
        inner.state.dirs.remove(path);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.attempt(Kind::Name)?;
        inner.done(Op::SyncDir(dir.to_owned()));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        let mut inner = self.inner();
        if !inner.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (disk, epoch) = (self.clone(), inner.epoch);
        Ok(Box::new(CrashLock { disk, epoch, path: path.to_owned() }))
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { total: u64::MAX, free: u64::MAX })
    }
}

#[derive(Debug)]
struct CrashLock {
    disk: CrashDisk,
    epoch: u64,
    path: PathBuf,
}

impl Drop for CrashLock {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.epoch == self.epoch {
            inner.locks.remove(&self.path);
        }
    }
}

#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    inode: usize,
    epoch: u64,
}

impl CrashFile {
    fn begin(&self, kind: Kind) -> io::Result<MutexGuard<'_, Inner>> {
        let mut inner = self.disk.inner();
        if inner.epoch != self.epoch {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the machine has crashed"));
        }
        inner.attempt(kind)?;
        Ok(inner)
    }
}

impl File for CrashFile {
    fn len(&self) -> io::Result<u64> {
        let inner = self.begin(Kind::Read)?;
        Ok(inner.state.inodes[self.inode].cached.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.begin(Kind::Read)?;
        let bytes = &inner.state.inodes[self.inode].cached;
        let start = offset as usize;
        match bytes.get(start..start + buffer.len()) {
            Some(found) => {
                buffer.copy_from_slice(found);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.begin(Kind::Write)?;
        inner.done(Op::Write(self.inode, offset as usize, data.into()));
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.begin(Kind::Write)?;
        inner.done(Op::SetLen(self.inode, len as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.begin(Kind::Sync)?;
        inner.done(Op::Sync(self.inode));
        Ok(())
    }
}

#[test]
fn a_crash_keeps_what_was_synced_and_any_part_of_the_rest() {
    let path = Path::new("dir/file");
    let mut seen = BTreeSet::new();
    for seed in 0..200 {
        let disk = CrashDisk::new();
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        file.write_at(&[1; 3 * SECTOR], 0).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir(Path::new("dir")).unwrap();
        file.write_at(&[2; 2 * SECTOR], SECTOR as u64).unwrap();
        disk.crash(&Random::from_seed(seed));
        assert!(file.write_at(&[3], 0).is_err(), "the handle is of another epoch");
        let bytes = disk.bytes(path);
        let sectors: Vec<u8> = bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(SECTOR).all(|sector| sector.iter().all(|b| *b == sector[0])));
        seen.insert(sectors);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen.iter().all(|sectors| sectors[0] == 1), "{seen:?}");
}

#[test]
fn a_name_is_durable_when_its_directory_was_synced() {
    let [old, new] = ["dir/old", "dir/new"].map(Path::new);
    let mut seen = BTreeSet::new();
    for seed in 0..50 {
        let disk = CrashDisk::new();
        disk.open(old, OpenMode::CreateNew).unwrap();
        disk.sync_dir(Path::new("dir")).unwrap();
        disk.rename(old, new).unwrap();
        disk.crash(&Random::from_seed(seed));
        seen.insert((disk.exists(old).unwrap(), disk.exists(new).unwrap()));
    }
    assert_eq!(seen, BTreeSet::from([(true, false), (false, true)]));
}
