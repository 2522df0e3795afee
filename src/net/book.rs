//! The address book: where peers were last known to be.
//!
//! Its pure part keeps, for a bounded number of peers, a bounded number of addresses each, the one
//! noted last first. It is kept in a file so that a node that restarts finds its peers; the file is
//! written as a whole under another name and renamed. It holds nothing that can't be learned again:
//! a book that is lost or damaged is an empty book and a line in the log.
//!
//! ```text
//! peers    version u8 · crc32 u32 · postcard of the entries
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use aspen_tickets::ADDRESSES_BYTES_MAX;
use serde::{Deserialize, Serialize};

use crate::limits::{PEER_ADDRESSES_MAX, PEERS_MAX};
use crate::seams::disk::{Disk, OpenMode};
use crate::seams::failpoint::Failpoint;
use crate::seams::{Seams, WallClock};
use crate::types::{Address, EndpointId, Form, Spelt};

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 5;
const FILE_BYTES_MAX: u64 = (PEERS_MAX * ENTRY_BYTES_MAX) as u64;
const ENTRY_BYTES_MAX: usize = 1_024;

const _: () = {
    // The head and the number of entries have their place in what the entries leave.
    let (key, source, number) = (32, 1, 10);
    let around = PEER_ADDRESSES_MAX * (source + number);
    assert!(key + ADDRESSES_BYTES_MAX + around + number < ENTRY_BYTES_MAX);
};

/// Who said where a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AddressSource {
    /// A ticket.
    Ticket,
    /// The committed membership.
    Roster,
    /// A link to it that lived.
    Live,
    /// The peer itself, on this node's link of the network.
    Mdns,
    /// The peer itself, to all members.
    Gossip,
    /// The mainline DHT.
    Dht,
    /// A directory of nodes.
    Dns,
}

impl AddressSource {
    /// As it is printed and sent.
    pub fn as_str(self) -> &'static str {
        match self {
            AddressSource::Ticket => "ticket",
            AddressSource::Roster => "roster",
            AddressSource::Live => "live",
            AddressSource::Mdns => "mdns",
            AddressSource::Gossip => "gossip",
            AddressSource::Dht => "dht",
            AddressSource::Dns => "dns",
        }
    }
}

/// One address of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownAddress {
    /// Where.
    pub address: Address,
    /// Who said so last.
    pub source: AddressSource,
    /// When, in seconds since 1970; for people.
    pub noted_s: u64,
}

impl AsRef<Address> for KnownAddress {
    fn as_ref(&self) -> &Address {
        &self.address
    }
}

/// What is known of one peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    /// The address noted last first.
    addresses: Vec<KnownAddress>,
    /// Counts notes of the whole book; the least is the peer noted longest ago.
    noted: u64,
}

/// Where peers were last known to be, and the file that this is kept in.
pub struct AddressBook {
    entries: BTreeMap<EndpointId, Entry>,
    notes: u64,
    wall: Arc<dyn WallClock>,
    file: Option<(Arc<dyn Disk>, PathBuf)>,
}

/// The book, for all who look into it.
pub type SharedBook = Arc<Mutex<AddressBook>>;

impl fmt::Debug for AddressBook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AddressBook({} peers)", self.entries.len())
    }
}

impl AddressBook {
    /// Reads the book from a file, and keeps it there. Blocks.
    pub fn open(seams: &Seams, path: &Path) -> Self {
        let mut book = AddressBook::in_memory(seams);
        match load(seams.disk.as_ref(), path) {
            Ok(entries) => book.entries = entries,
            Err(error) => tracing::warn!(
                path = %path.display(), %error,
                "the addresses of peers could not be read and are learned anew"
            ),
        }
        book.notes = book.entries.values().map(|entry| entry.noted).max().unwrap_or(0);
        book.file = Some((seams.disk.clone(), path.to_owned()));
        book
    }

    /// An empty book that is kept nowhere.
    pub fn in_memory(seams: &Seams) -> Self {
        AddressBook { entries: BTreeMap::new(), notes: 0, wall: seams.wall.clone(), file: None }
    }

    /// Notes where a peer is; says whether any address is new. Of several, the first is noted as
    /// the newest.
    pub fn note(&mut self, peer: EndpointId, addresses: &[Address], source: AddressSource) -> bool {
        if addresses.is_empty() {
            return false;
        }
        self.make_room_for(peer);
        self.notes += 1;
        let noted_s = self.wall.since_epoch().as_secs();
        let entry = self.entries.entry(peer).or_default();
        entry.noted = self.notes;
        let mut news = false;
        for address in addresses.iter().rev() {
            let known = entry.addresses.iter().position(|known| known.address == *address);
            if let Some(known) = known {
                entry.addresses.remove(known);
            }
            news |= known.is_none();
            let address = address.clone();
            entry.addresses.insert(0, KnownAddress { address, source, noted_s });
        }
        Address::keep_few(&mut entry.addresses, PEER_ADDRESSES_MAX);
        news
    }

    /// Where a peer may be, the address noted last first.
    pub fn addresses(&self, peer: EndpointId) -> &[KnownAddress] {
        self.entries.get(&peer).map_or(&[], |entry| &entry.addresses)
    }

    /// All peers that have an address.
    pub fn peers(&self) -> impl Iterator<Item = EndpointId> {
        self.entries.keys().copied()
    }

    /// Forgets a peer; says whether it was known.
    pub fn forget(&mut self, peer: EndpointId) -> bool {
        self.entries.remove(&peer).is_some()
    }

    fn make_room_for(&mut self, peer: EndpointId) {
        if self.entries.len() < PEERS_MAX || self.entries.contains_key(&peer) {
            return;
        }
        let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.noted);
        if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
            self.entries.remove(&oldest);
        }
    }

    /// What to do, off the async threads, to keep the book as it is now; `None` if it is kept
    /// nowhere.
    pub(super) fn save(&self) -> Option<impl FnOnce() -> io::Result<()> + Send + 'static> {
        let (disk, path) = self.file.clone()?;
        let bytes = encode(&self.entries);
        Some(move || write(disk.as_ref(), &path, &bytes))
    }
}

fn encode(entries: &BTreeMap<EndpointId, Entry>) -> Vec<u8> {
    let body = postcard::to_stdvec(entries).expect("a book of bounded size is encoded");
    let mut bytes = vec![FORMAT];
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The form of a book, without its head.
pub(super) const FORM: Form = Form {
    name: "address book",
    again: |body| {
        let head = [&[FORMAT][..], &crc32fast::hash(body).to_le_bytes()].concat();
        Some(encode(&decode(&[&head, body].concat()).ok()?).split_off(HEAD_BYTES))
    },
    spelt: Spelt::Freely,
};

fn decode(bytes: &[u8]) -> Result<BTreeMap<EndpointId, Entry>, String> {
    let (&[version, a, b, c, d], body) =
        bytes.split_first_chunk::<HEAD_BYTES>().ok_or("the file is cut short")?;
    if version != FORMAT {
        return Err(format!("it has format {version}; this build reads {FORMAT}"));
    }
    if u32::from_le_bytes([a, b, c, d]) != crc32fast::hash(body) {
        return Err("its checksum is wrong".to_owned());
    }
    let mut entries: BTreeMap<EndpointId, Entry> =
        postcard::from_bytes(body).map_err(|error| error.to_string())?;
    if entries.len() > PEERS_MAX {
        return Err(format!("it has {} peers; at most {PEERS_MAX} are kept", entries.len()));
    }
    for entry in entries.values_mut() {
        Address::keep_few(&mut entry.addresses, PEER_ADDRESSES_MAX);
    }
    Ok(entries)
}

fn load(disk: &dyn Disk, path: &Path) -> io::Result<BTreeMap<EndpointId, Entry>> {
    if !disk.exists(path)? {
        return Ok(BTreeMap::new());
    }
    let file = disk.open(path, OpenMode::Existing)?;
    let len = file.len()?;
    if len > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too long"));
    }
    let mut bytes = vec![0; len as usize];
    file.read_at(&mut bytes, 0)?;
    decode(&bytes).map_err(|what| io::Error::new(io::ErrorKind::InvalidData, what))
}

fn write(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    if disk.exists(&unfinished)? {
        disk.remove(&unfinished)?;
    }
    let file = disk.open(&unfinished, OpenMode::CreateNew)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    Failpoint::BeforeBookNamed.check()?;
    disk.rename(&unfinished, path)?;
    Failpoint::AfterBookNamed.pass();
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}
