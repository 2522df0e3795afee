//! A file for redb that knows when one of its blocks is damaged.
//!
//! redb checks its pages' checksums when it repairs, not when it reads. [`CheckedFile`] keeps a
//! CRC32 of every block of 4 KiB and checks it whenever a block is read from disk; a mismatch is
//! an error of kind `InvalidData` that carries a [`DamagedBlock`].
//!
//! ```text
//! file    group, group, …
//! group   1 block of checksums: 1,024 u32, little-endian; then 1,024 blocks of data
//! ```
//!
//! A checksum of 0 means that the block was never written and is zeros; a block whose CRC32 is 0
//! has 1 instead.
//!
//! Block 0 is redb's header, which redb rewrites in place: after a crash it may be of any version
//! since the last sync, and so must its checksum be. Both therefore stand in one sector of 512
//! bytes, which a disk writes whole or not at all: 508 bytes, of which redb uses 320, and their
//! CRC32. The rest of block 0 is zeros and can't be written. Block 0's place among the checksums
//! holds the mark and version of this layout.
//!
//! Checksums are kept in memory (4 bytes a block) and written before each sync of the file. What
//! was not synced may be lost or torn in a crash, data and checksum apart from each other, so
//! only blocks that were synced may be read after one. That holds for redb if **every durable
//! commit is two-phase** (`WriteTransaction::set_two_phase_commit` or `set_quick_repair`): then a
//! root is published only after a sync that covers all blocks it reaches, redb never tries a root
//! whose blocks may be torn, and it overwrites no block that the published root reaches. With
//! one-phase commits redb does try, and what it should pass over would be reported as damage.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use redb::StorageBackend;
use thiserror::Error;

use crate::seams::disk::File;

/// The bytes of a block: redb's page size, so that a page is whole blocks.
const BLOCK: u64 = 4096;
/// The blocks that one block of checksums covers.
const GROUP_BLOCKS: u64 = BLOCK / 4;
/// The bytes of a group: its checksums and its blocks.
const GROUP: u64 = BLOCK + GROUP_BLOCKS * BLOCK;
/// What block 0 can hold: a sector without its checksum.
const HEADER: usize = 508;
/// Mark and version, in the place of block 0's checksum.
const MARK: u32 = u32::from_le_bytes(*b"ACF1");

/// A block whose bytes are not those that were written.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("block at byte {offset} of {} is damaged", .file.display())]
pub struct DamagedBlock {
    /// The file.
    pub file: PathBuf,
    /// Where the block begins in the file.
    pub offset: u64,
}

impl DamagedBlock {
    /// The damage that an error reports, if it does.
    pub fn of(error: &io::Error) -> Option<&DamagedBlock> {
        error.get_ref()?.downcast_ref()
    }
}

/// A file whose blocks are checked when they are read.
#[derive(Debug)]
pub struct CheckedFile {
    file: Arc<dyn File>,
    path: PathBuf,
    sums: RwLock<Sums>,
    first_damage: Arc<OnceLock<DamagedBlock>>,
}

/// The checksums of one group.
type Group = Box<[u32]>;

#[derive(Debug)]
struct Sums {
    /// The length that the user sees.
    len: u64,
    /// The groups that were needed so far.
    groups: Vec<Option<Group>>,
    /// Those that differ from disk.
    dirty: BTreeSet<usize>,
}

/// A part of a read or write that lies in one group.
struct Run {
    /// The first block.
    block: u64,
    /// Where the part begins in that block.
    skip: usize,
    /// How long it is.
    bytes: usize,
}

impl CheckedFile {
    /// Checks a file; an empty one is a new one. The path is for errors only.
    pub fn new(file: Arc<dyn File>, path: &Path) -> io::Result<Self> {
        let physical = file.len()?;
        let len = physical.saturating_sub(physical.div_ceil(GROUP) * BLOCK);
        let sums = Sums { len, groups: Vec::new(), dirty: BTreeSet::new() };
        let checked = CheckedFile {
            file,
            path: path.to_owned(),
            sums: RwLock::new(sums),
            first_damage: Arc::default(),
        };
        {
            let mut sums = checked.write_sums();
            let first = &mut checked.group(&mut sums, 0)?[0];
            match *first {
                MARK => {}
                // Nothing of it was ever synced.
                0 => {
                    *first = MARK;
                    sums.dirty.insert(0);
                }
                other if other.to_le_bytes()[..3] == MARK.to_le_bytes()[..3] => {
                    let text = format!(
                        "{} is of a version that this program does not know",
                        path.display()
                    );
                    return Err(io::Error::new(io::ErrorKind::Unsupported, text));
                }
                _ => return Err(checked.damaged(0)),
            }
            // The file may have been cut without its checksums being so.
            if let Some(last) = blocks(len).checked_sub(1) {
                checked.forget_from(&mut sums, last + 1)?;
            }
        }
        Ok(checked)
    }

    /// Where the first damage that is found will be told, for those who hand the file to redb.
    pub fn first_damage(&self) -> Arc<OnceLock<DamagedBlock>> {
        self.first_damage.clone()
    }

    fn read_sums(&self) -> RwLockReadGuard<'_, Sums> {
        self.sums.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_sums(&self) -> RwLockWriteGuard<'_, Sums> {
        self.sums.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The checksums of a group, read from disk if need be.
    fn group<'a>(&self, sums: &'a mut Sums, at: usize) -> io::Result<&'a mut Group> {
        if sums.groups.len() <= at {
            sums.groups.resize(at + 1, None);
        }
        let slot = &mut sums.groups[at];
        if slot.is_none() {
            let mut bytes = [0; BLOCK as usize];
            let begin = at as u64 * GROUP;
            let there = self.file.len()?.saturating_sub(begin).min(BLOCK) as usize;
            if there > 0 {
                self.file.read_at(&mut bytes[..there], begin)?;
            }
            let numbers = bytes.chunks_exact(4).map(|chunk| {
                let mut number = [0; 4];
                number.copy_from_slice(chunk);
                u32::from_le_bytes(number)
            });
            *slot = Some(numbers.collect());
        }
        slot.as_mut().ok_or_else(|| io::Error::other("a group that was loaded is there"))
    }

    /// Marks the blocks of a group from one on as never written; later groups are loaded from
    /// what is on disk when they are needed, and there is nothing.
    fn forget_from(&self, sums: &mut Sums, block: u64) -> io::Result<()> {
        let at = (block / GROUP_BLOCKS) as usize;
        sums.groups.truncate(at + 1);
        sums.dirty.retain(|dirty| *dirty <= at);
        // The first place holds the mark.
        let from = if at == 0 { block.max(1) } else { block % GROUP_BLOCKS } as usize;
        let group = self.group(sums, at)?;
        if group[from..].iter().any(|sum| *sum != 0) {
            group[from..].fill(0);
            sums.dirty.insert(at);
        }
        Ok(())
    }

    /// The sums, with those of a range of blocks in memory.
    fn loaded(&self, first: u64, last: u64) -> io::Result<RwLockReadGuard<'_, Sums>> {
        let range = (first / GROUP_BLOCKS) as usize..=(last / GROUP_BLOCKS) as usize;
        loop {
            let sums = self.read_sums();
            let missing = |at: &usize| sums.groups.get(*at).is_none_or(Option::is_none);
            if !range.clone().any(|at| missing(&at)) {
                return Ok(sums);
            }
            drop(sums);
            let mut sums = self.write_sums();
            for at in range.clone() {
                self.group(&mut sums, at)?;
            }
        }
    }

    fn damaged(&self, offset: u64) -> io::Error {
        let damaged = DamagedBlock { file: self.path.clone(), offset };
        self.first_damage.get_or_init(|| damaged.clone());
        io::Error::new(io::ErrorKind::InvalidData, damaged)
    }

    fn check(&self, sums: &Sums, block: u64, bytes: &[u8]) -> io::Result<()> {
        let group = sums.groups.get((block / GROUP_BLOCKS) as usize).and_then(Option::as_ref);
        let known = group.map(|group| group[(block % GROUP_BLOCKS) as usize]);
        let whole = match known {
            Some(0) => bytes.iter().all(|byte| *byte == 0),
            Some(known) => known == sum(bytes),
            None => return Err(io::Error::other("checksums are loaded before blocks are read")),
        };
        if whole { Ok(()) } else { Err(self.damaged(physical(block))) }
    }

    /// Reads one block and checks it. Behind the end of the file it is zeros.
    fn read_block(&self, sums: &Sums, block: u64, bytes: &mut [u8]) -> io::Result<()> {
        let there = sums.len.saturating_sub(block * BLOCK).min(BLOCK) as usize;
        bytes.fill(0);
        if there > 0 {
            self.file.read_at(&mut bytes[..there], physical(block))?;
        }
        self.check(sums, block, bytes)
    }

    /// Reads block 0 and checks it: its sector, then zeros.
    fn read_header(&self) -> io::Result<[u8; BLOCK as usize]> {
        let mut bytes = [0; BLOCK as usize];
        let (header, crc) = bytes[..HEADER + 4].split_at_mut(HEADER);
        let mut sector = [0; HEADER + 4];
        self.file.read_at(&mut sector, physical(0))?;
        header.copy_from_slice(&sector[..HEADER]);
        crc.copy_from_slice(&sum(header).to_le_bytes());
        if *crc != sector[HEADER..] && sector.iter().any(|byte| *byte != 0) {
            return Err(self.damaged(physical(0)));
        }
        crc.fill(0);
        Ok(bytes)
    }

    fn write_header(&self, sums: &Sums, skip: usize, data: &[u8]) -> io::Result<()> {
        let beyond = data.iter().skip(HEADER.saturating_sub(skip)).any(|byte| *byte != 0);
        if beyond || sums.len < BLOCK {
            let text = "the first block holds a header of up to 508 bytes, in a file of a block";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut block = self.read_header()?;
        block[skip..skip + data.len()].copy_from_slice(data);
        let crc = sum(&block[..HEADER]).to_le_bytes();
        block[HEADER..HEADER + 4].copy_from_slice(&crc);
        self.file.write_at(&block[..HEADER + 4], physical(0))
    }

    fn read_run(&self, sums: &Sums, run: &Run, out: &mut [u8]) -> io::Result<()> {
        if run.block == 0 {
            out.copy_from_slice(&self.read_header()?[run.skip..run.skip + run.bytes]);
            return Ok(());
        }
        if run.skip != 0 || run.bytes < BLOCK as usize {
            let mut bytes = [0; BLOCK as usize];
            self.read_block(sums, run.block, &mut bytes)?;
            out.copy_from_slice(&bytes[run.skip..run.skip + run.bytes]);
            return Ok(());
        }
        self.file.read_at(out, physical(run.block))?;
        for (bytes, block) in out.chunks_exact(BLOCK as usize).zip(run.block..) {
            self.check(sums, block, bytes)?;
        }
        Ok(())
    }

    fn write_run(&self, sums: &mut Sums, run: &Run, data: &[u8]) -> io::Result<()> {
        if run.block == 0 {
            return self.write_header(sums, run.skip, data);
        }
        let at = (run.block / GROUP_BLOCKS) as usize;
        let within = (run.block % GROUP_BLOCKS) as usize;
        let begin = physical(run.block) + run.skip as u64;
        if run.skip != 0 || run.bytes < BLOCK as usize {
            let mut bytes = [0; BLOCK as usize];
            self.group(sums, at)?;
            self.read_block(sums, run.block, &mut bytes)?;
            bytes[run.skip..run.skip + run.bytes].copy_from_slice(data);
            self.file.write_at(data, begin)?;
            self.group(sums, at)?[within] = sum(&bytes);
        } else {
            self.file.write_at(data, begin)?;
            let group = self.group(sums, at)?;
            for (bytes, known) in data.chunks_exact(BLOCK as usize).zip(&mut group[within..]) {
                *known = sum(bytes);
            }
        }
        sums.dirty.insert(at);
        sums.len = sums.len.max(run.block * BLOCK + (run.skip + run.bytes) as u64);
        Ok(())
    }
}

/// Cuts a range into parts that are part of one block, or whole blocks of one group. Block 0 is a
/// part of its own.
fn runs(offset: u64, bytes: usize) -> impl Iterator<Item = Run> {
    let mut at = offset;
    let end = offset + bytes as u64;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (block, skip) = (at / BLOCK, at % BLOCK);
        let left = end - at;
        let bytes = if block == 0 || skip != 0 || left < BLOCK {
            left.min(BLOCK - skip)
        } else {
            (left / BLOCK * BLOCK).min((GROUP_BLOCKS - block % GROUP_BLOCKS) * BLOCK)
        };
        at += bytes;
        Some(Run { block, skip: skip as usize, bytes: bytes as usize })
    })
}

/// How many blocks a length takes.
fn blocks(len: u64) -> u64 {
    len.div_ceil(BLOCK)
}

/// Where a block stands in the file.
fn physical(block: u64) -> u64 {
    block / GROUP_BLOCKS * GROUP + BLOCK + block % GROUP_BLOCKS * BLOCK
}

/// How long the file is for a length that the user sees.
fn physical_len(len: u64) -> u64 {
    len + blocks(len).div_ceil(GROUP_BLOCKS) * BLOCK
}

fn sum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes).max(1)
}

impl StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.read_sums().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let Some(last) = (out.len() as u64).checked_sub(1).map(|last| offset + last) else {
            return Ok(());
        };
        if last >= self.read_sums().len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let sums = self.loaded(offset / BLOCK, last / BLOCK)?;
        let mut done = 0;
        for run in runs(offset, out.len()) {
            self.read_run(&sums, &run, &mut out[done..done + run.bytes])?;
            done += run.bytes;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if (1..BLOCK).contains(&len) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a file has a block or none"));
        }
        let mut sums = self.write_sums();
        if len < sums.len {
            let rest = (len % BLOCK) as usize;
            if rest != 0 {
                let block = len / BLOCK;
                self.group(&mut sums, (block / GROUP_BLOCKS) as usize)?;
                let mut bytes = [0; BLOCK as usize];
                self.read_block(&sums, block, &mut bytes)?;
                bytes[rest..].fill(0);
                let at = (block / GROUP_BLOCKS) as usize;
                self.group(&mut sums, at)?[(block % GROUP_BLOCKS) as usize] = sum(&bytes);
                sums.dirty.insert(at);
            }
            self.file.set_len(physical_len(len))?;
            self.forget_from(&mut sums, blocks(len))?;
        } else {
            self.file.set_len(physical_len(len))?;
        }
        sums.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        {
            let mut sums = self.write_sums();
            // A group of which the file holds nothing is written once it does.
            let groups = physical_len(sums.len).div_ceil(GROUP) as usize;
            let dirty: Vec<usize> = sums.dirty.range(..groups).copied().collect();
            for at in dirty {
                let mut bytes = [0; BLOCK as usize];
                let group = self.group(&mut sums, at)?;
                for (place, sum) in bytes.chunks_exact_mut(4).zip(group.iter()) {
                    place.copy_from_slice(&sum.to_le_bytes());
                }
                self.file.write_at(&bytes, at as u64 * GROUP)?;
                sums.dirty.remove(&at);
            }
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sums = self.write_sums();
        let mut done = 0;
        for run in runs(offset, data.len()) {
            self.write_run(&mut sums, &run, &data[done..done + run.bytes])?;
            done += run.bytes;
        }
        Ok(())
    }
}
