//! A network in one thread: hosts, links between them, and what goes wrong on the way.
//!
//! The model is QUIC's, seen from above. A link carries ordered streams of bytes; a packet takes
//! some milliseconds, sometimes many, as one that was sent again; what a stream carries is read in
//! order all the same, and streams don't wait for each other. While a direction is cut its packets
//! wait, as they would be sent again. A side that hears nothing for [`SILENCE_MS_MAX`] gives its link up, without
//! the other being told; so both notice a partition, each in its time, and short ones only delay.
//! A host that crashed says nothing, and once it is up again it knows nothing of its old links and
//! says so. What a stream holds unread is bounded by a window, as is what a host lets wait.
//!
//! What it refuses: to limit how many streams a link has at once, and to lose or reorder anything
//! within one.
//!
//! - `Fabric` is the whole network, which the simulator steps; `Host` a node's place on it.
//! - `link` is what the node sees: the seam's traits.
//! - `gossip` is messages that are passed on from host to host, each a packet of its own.
//! - `stream` is the bytes.

mod gossip;
mod link;
mod stream;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use aspen::limits::{DIAL_MAX, LINK_SILENCE_MAX};
use aspen::seams::Random;
use aspen::seams::network::{CloseCode, Gate, LinkLost, Protocol};
use aspen::types::{Address, EndpointId};
use aspen_sim::dice::Dice;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use self::gossip::Swarms;
use self::stream::Pipe;
use crate::trace::Trace;

use self::link::Host;
pub(crate) use self::link::Socket;

/// After how much silence a side gives up its link.
pub(crate) const SILENCE_MS_MAX: u64 = LINK_SILENCE_MAX.as_millis() as u64;
/// How often silence is looked for.
const LOOK_MS: u64 = 50;
/// How long a dial waits for an answer.
const DIAL_MS_MAX: u64 = DIAL_MAX.as_millis() as u64;
/// Most bytes of one direction of a stream that were sent and not read.
const WINDOW_BYTES: usize = 256 * 1024;
/// Most bytes of one packet.
const PACKET_BYTES_MAX: usize = 64 * 1024;
/// Most links that wait to be accepted by a host; further ones are not answered.
const INCOMING_MAX: usize = 64;

/// The number of a host; its address follows from it.
pub(crate) type HostId = u8;

/// The address of a host.
pub(super) fn address_of(host: HostId) -> Address {
    SocketAddr::from(([127, 0, 0, host], 4_433)).into()
}

/// How packets travel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// The longest that a packet takes when nothing is wrong.
    pub(crate) delay_ms_max: u64,
    /// How many packets in a thousand are lost and sent again.
    pub(crate) lost_permille: u64,
    /// The longest that sending again takes.
    pub(crate) again_ms_max: u64,
}

/// The whole network; clones are the same.
#[derive(Clone)]
pub(crate) struct Fabric(Arc<Mutex<State>>);

struct State {
    now_ms: u64,
    dice: Dice,
    trace: Trace,
    weather: Weather,
    hosts: BTreeMap<HostId, HostState>,
    links: BTreeMap<u64, LinkState>,
    dials: BTreeMap<u64, oneshot::Sender<u64>>,
    /// What travels, by when it arrives.
    packets: BTreeMap<(u64, u64), Packet>,
    /// What waits for a direction that is cut.
    held: BTreeMap<Way, VecDeque<Packet>>,
    cuts: BTreeSet<Way>,
    last_number: u64,
    /// Woken once the lock is released.
    wakers: Vec<Waker>,
    gossip: Swarms,
}

/// A direction between two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) from: HostId,
    pub(crate) to: HostId,
}

struct HostState {
    /// Counts starts: what belongs to an earlier one is dead.
    epoch: u64,
    key: EndpointId,
    is_up: bool,
    gate: Arc<dyn Gate>,
    /// Links that were made and not accepted yet.
    incoming: VecDeque<u64>,
    arrived: Arc<Notify>,
}

/// Which end of a link: 0 dialled.
type End = usize;

struct LinkState {
    protocol: Protocol,
    sides: [Side; 2],
    streams: BTreeMap<u64, StreamState>,
}

struct Side {
    host: HostId,
    key: EndpointId,
    lost: Option<LinkLost>,
    /// The host died: nobody is there to be told anything.
    is_dead: bool,
    silent_since_ms: Option<u64>,
    /// Streams that the peer opened and that were not accepted yet.
    opened: VecDeque<u64>,
    changed: Arc<Notify>,
}

struct StreamState {
    is_seen: bool,
    /// What each end sent.
    pipes: [Pipe; 2],
    /// How many of the four halves are in use, or may still be.
    halves: u8,
}

struct Packet {
    way: Way,
    what: What,
}

enum What {
    Dial {
        dial: u64,
        protocol: Protocol,
        epoch: u64,
        /// Who is meant to be there.
        whom: EndpointId,
    },
    Answer {
        dial: u64,
        link: u64,
    },
    /// The next of what `from` sends on a stream, by its place; none is the end.
    Next {
        link: u64,
        stream: u64,
        from: End,
        place: u64,
        bytes: Option<Bytes>,
    },
    /// The reader of what `from` sends has read so many bytes.
    Room {
        link: u64,
        stream: u64,
        from: End,
        bytes: usize,
    },
    /// The reader of what `from` sends is gone.
    Stop {
        link: u64,
        stream: u64,
        from: End,
    },
    Close {
        link: u64,
        to: End,
        lost: LinkLost,
    },
    /// A message of a topic.
    Whisper(gossip::Passed),
}

impl Fabric {
    pub(crate) fn new(random: Random, trace: Trace, weather: Weather) -> Self {
        Fabric(Arc::new(Mutex::new(State {
            now_ms: 0,
            dice: Dice::new(random),
            trace,
            weather,
            hosts: BTreeMap::new(),
            links: BTreeMap::new(),
            dials: BTreeMap::new(),
            packets: BTreeMap::new(),
            held: BTreeMap::new(),
            cuts: BTreeSet::new(),
            last_number: 0,
            wakers: Vec::new(),
            gossip: Swarms::default(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the network, then wakes whom it concerns.
    fn with<R>(&self, run: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = run(&mut state);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// A host comes up, with nothing of what it knew before.
    fn plug(&self, host: HostId, key: EndpointId, gate: Arc<dyn Gate>) -> Host {
        let epoch = self.with(|state| state.plug(host, key, gate));
        Host::new(self.clone(), host, key, epoch)
    }

    /// The network as the node of a host has it.
    pub(crate) fn socket(&self, host: HostId) -> Socket {
        Socket { fabric: self.clone(), host }
    }

    /// A host dies: it sends and hears nothing more.
    pub(crate) fn unplug(&self, host: HostId) {
        self.with(|state| state.unplug(host));
    }

    /// Time goes on to this millisecond, and what is due arrives.
    pub(crate) fn step(&self, now_ms: u64) {
        self.with(|state| {
            state.now_ms = now_ms;
            while let Some(first) = state.packets.first_entry()
                && first.key().0 <= now_ms
            {
                let packet = first.remove();
                state.deliver(packet);
            }
            if now_ms.is_multiple_of(LOOK_MS) {
                state.look_for_silence();
            }
        });
    }

    /// Nothing gets through in this direction from now on.
    pub(crate) fn cut(&self, way: Way) {
        self.with(|state| state.cuts.insert(way));
    }

    /// Packets get through in this direction again, also those that waited.
    pub(crate) fn mend(&self, way: Way) {
        self.with(|state| {
            state.cuts.remove(&way);
            for Packet { way, what } in state.held.remove(&way).unwrap_or_default() {
                state.send(way, what);
            }
        });
    }

    /// How packets travel from now on.
    pub(crate) fn set_weather(&self, weather: Weather) {
        self.with(|state| state.weather = weather);
    }

    /// Both sides lose all links between two hosts, each in its time.
    pub(crate) fn break_links(&self, one: HostId, other: HostId) {
        self.with(|state| state.break_links(one, other));
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn plug(&mut self, host: HostId, key: EndpointId, gate: Arc<dyn Gate>) -> u64 {
        let epoch = self.hosts.get(&host).map_or(1, |host| host.epoch + 1);
        let (incoming, arrived) = (VecDeque::new(), Arc::default());
        self.hosts.insert(host, HostState { epoch, key, is_up: true, gate, incoming, arrived });
        // Whoever still speaks on a link of before is told.
        let forgotten: Vec<(u64, End)> = self
            .links
            .iter()
            .flat_map(|(number, link)| [(*number, 0, link), (*number, 1, link)])
            .filter(|(_, end, link)| link.sides[*end].host == host && link.sides[*end].is_dead)
            .map(|(number, end, _)| (number, end))
            .collect();
        for (link, end) in forgotten {
            let lost = LinkLost::silently("the peer was restarted");
            self.send_close(link, 1 - end, lost);
        }
        epoch
    }

    fn unplug(&mut self, host: HostId) {
        let Some(state) = self.hosts.get_mut(&host) else { return };
        state.is_up = false;
        state.epoch += 1;
        state.incoming.clear();
        for side in self.links.values_mut().flat_map(|link| &mut link.sides) {
            if side.host == host && !side.is_dead {
                side.is_dead = true;
                side.lost.get_or_insert_with(|| LinkLost::silently("this host has crashed"));
            }
        }
        self.sweep_links();
        self.leave_topics(host);
    }

    /// Links that are lost on both sides are not looked at again.
    fn sweep_links(&mut self) {
        self.links.retain(|_, link| link.sides.iter().any(|side| side.lost.is_none()));
    }

    fn is_up(&self, host: HostId, epoch: u64) -> bool {
        self.hosts.get(&host).is_some_and(|state| state.is_up && state.epoch == epoch)
    }

    // --- packets ---

    /// How long a packet that is sent now takes.
    fn travel_ms(&mut self) -> u64 {
        let Weather { delay_ms_max, lost_permille, again_ms_max } = self.weather;
        let delay = self.dice.between(1, delay_ms_max);
        let is_lost = self.dice.below(1_000) < lost_permille;
        delay + if is_lost { self.dice.between(1, again_ms_max) } else { 0 }
    }

    fn send(&mut self, way: Way, what: What) {
        let due_ms = self.now_ms + self.travel_ms();
        let number = self.number();
        self.packets.insert((due_ms, number), Packet { way, what });
    }

    /// The direction from an end of a link to the other.
    fn way(&self, link: u64, from: End) -> Option<Way> {
        let sides = &self.links.get(&link)?.sides;
        Some(Way { from: sides[from].host, to: sides[1 - from].host })
    }

    fn deliver(&mut self, packet: Packet) {
        let Way { from, to } = packet.way;
        if self.cuts.contains(&packet.way) {
            self.held.entry(packet.way).or_default().push_back(packet);
            return;
        }
        match packet.what {
            What::Dial { dial, protocol, epoch, whom } => {
                self.trace.mix(&[1, from.into(), to.into(), dial], &[]);
                self.dialled(packet.way, dial, protocol, epoch, whom);
            }
            What::Answer { dial, link } => {
                self.trace.mix(&[2, from.into(), to.into(), dial, link], &[]);
                self.answered(dial, link);
            }
            What::Next { link, stream, from, place, bytes } => {
                let shown = bytes.as_deref().unwrap_or_default();
                self.trace.mix(&[3, link, stream, from as u64, place], shown);
                self.arrived(link, stream, from, place, bytes);
            }
            What::Room { link, stream, from, bytes } => {
                self.with_pipe(link, stream, from, |pipe, wakers| pipe.make_room(bytes, wakers));
            }
            What::Stop { link, stream, from } => {
                self.trace.mix(&[5, link, stream, from as u64], &[]);
                self.with_pipe(link, stream, from, |pipe, wakers| pipe.stop(wakers));
            }
            What::Close { link, to, lost } => {
                self.trace.mix(&[6, link, to as u64], lost.reason.as_bytes());
                self.lose(link, to, lost);
            }
            What::Whisper(passed) => {
                self.trace.mix(&[8, from.into(), to.into()], &passed.bytes);
                self.whispered(packet.way, passed);
            }
        }
    }

    // --- links ---

    /// A host is dialled; one that is down does not answer, nor one that has another key.
    fn dialled(&mut self, way: Way, dial: u64, protocol: Protocol, epoch: u64, whom: EndpointId) {
        let (Some(from), Some(host)) = (self.hosts.get(&way.from), self.hosts.get(&way.to)) else {
            return;
        };
        let takes = host.is_up && host.key == whom && host.incoming.len() < INCOMING_MAX;
        if !takes || !self.is_up(way.from, epoch) {
            return;
        }
        let side = |host, key| Side {
            host,
            key,
            lost: None,
            is_dead: false,
            silent_since_ms: None,
            opened: VecDeque::new(),
            changed: Arc::default(),
        };
        let sides = [side(way.from, from.key), side(way.to, host.key)];
        let link = self.number();
        self.links.insert(link, LinkState { protocol, sides, streams: BTreeMap::new() });
        if let Some(host) = self.hosts.get_mut(&way.to) {
            host.incoming.push_back(link);
            host.arrived.notify_one();
        }
        self.send(Way { from: way.to, to: way.from }, What::Answer { dial, link });
    }

    fn answered(&mut self, dial: u64, link: u64) {
        let taken = self.dials.remove(&dial).is_some_and(|dialler| dialler.send(link).is_ok());
        if !taken {
            // Who dialled has given up.
            self.close(link, 0, CloseCode::Done, "the dial took too long");
        }
    }

    /// One side closes its link and tells the other.
    fn close(&mut self, link: u64, end: End, code: CloseCode, reason: &str) {
        let is_open = self.links.get(&link).is_some_and(|link| link.sides[end].lost.is_none());
        if is_open {
            let told = LinkLost { code: Some(code), reason: reason.into() };
            self.send_close(link, 1 - end, told);
            self.lose(link, end, LinkLost::silently("closed here"));
        }
    }

    fn send_close(&mut self, link: u64, to: End, lost: LinkLost) {
        if let Some(way) = self.way(link, 1 - to) {
            self.send(way, What::Close { link, to, lost });
        }
    }

    /// One side loses its link.
    fn lose(&mut self, number: u64, end: End, lost: LinkLost) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let side = &mut link.sides[end];
        if side.lost.is_some() {
            return;
        }
        side.lost = Some(lost);
        side.changed.notify_waiters();
        for stream in link.streams.values_mut() {
            stream.pipes[end].wake_writer(&mut self.wakers);
            stream.pipes[1 - end].wake_reader(&mut self.wakers);
        }
    }

    /// Gives up links whose other side is gone or can't be heard.
    fn look_for_silence(&mut self) {
        let mut lost = Vec::new();
        for (number, link) in &mut self.links {
            for end in [0, 1] {
                let way = Way { from: link.sides[1 - end].host, to: link.sides[end].host };
                let is_silent = link.sides[1 - end].lost.is_some() || self.cuts.contains(&way);
                let side = &mut link.sides[end];
                if !is_silent {
                    side.silent_since_ms = None;
                    continue;
                }
                let since_ms = *side.silent_since_ms.get_or_insert(self.now_ms);
                if side.lost.is_none() && self.now_ms - since_ms >= SILENCE_MS_MAX {
                    lost.push((*number, end));
                }
            }
        }
        for (link, end) in lost {
            self.trace.mix(&[7, link, end as u64], &[]);
            self.lose(link, end, LinkLost::silently("nothing was heard for too long"));
        }
        self.sweep_links();
    }

    fn break_links(&mut self, one: HostId, other: HostId) {
        let joins = |link: &LinkState| {
            let hosts = [link.sides[0].host, link.sides[1].host];
            hosts == [one, other] || hosts == [other, one]
        };
        let links: Vec<u64> =
            self.links.iter().filter(|(_, link)| joins(link)).map(|(number, _)| *number).collect();
        for link in links {
            for to in [0, 1] {
                self.send_close(link, to, LinkLost::silently("the link broke"));
            }
        }
    }

    // --- streams ---

    fn with_pipe(
        &mut self,
        link: u64,
        stream: u64,
        from: End,
        run: impl FnOnce(&mut Pipe, &mut Vec<Waker>),
    ) {
        let stream = self.links.get_mut(&link).and_then(|link| link.streams.get_mut(&stream));
        if let Some(stream) = stream {
            run(&mut stream.pipes[from], &mut self.wakers);
        }
    }

    /// Bytes arrive; the first of a stream show it to the peer.
    fn arrived(
        &mut self,
        number: u64,
        stream_number: u64,
        from: End,
        place: u64,
        bytes: Option<Bytes>,
    ) {
        let Some(link) = self.links.get_mut(&number) else { return };
        let Some(stream) = link.streams.get_mut(&stream_number) else { return };
        if link.sides[1 - from].lost.is_some() {
            return;
        }
        if !stream.is_seen {
            stream.is_seen = true;
            let side = &mut link.sides[1 - from];
            side.opened.push_back(stream_number);
            side.changed.notify_waiters();
        }
        stream.pipes[from].arrive(place, bytes, &mut self.wakers);
    }
}
