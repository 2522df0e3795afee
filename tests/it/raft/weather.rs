//! A network that a test can make worse: real links whose bytes stand still while two nodes are
//! parted, and streams of snapshots that are damaged or cut.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use aspen::seams::network::{
    CloseCode, Link, LinkLost, Network, Priority, Protocol, StreamIn, StreamOut,
};
use aspen::types::{Address, EndpointId};
use aspen::wire::{PREFACE_BYTES, StreamKind};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

/// What befalls the next stream of a snapshot that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// The byte at this place of the stream is another one.
    Flip(usize),
    /// It breaks off here.
    Cut(usize),
}

/// What is wrong between all nodes of a test; clones are the same.
#[derive(Clone, Debug)]
pub struct Weather {
    parted: Arc<watch::Sender<BTreeSet<(EndpointId, EndpointId)>>>,
    mishaps: Arc<Mutex<Vec<Mishap>>>,
    /// Bytes written to streams of each kind.
    written: Arc<Mutex<BTreeMap<StreamKind, u64>>>,
}

impl Default for Weather {
    fn default() -> Self {
        let parted = Arc::new(watch::Sender::default());
        Weather { parted, mishaps: Arc::default(), written: Arc::default() }
    }
}

impl Weather {
    /// Lets nothing through between two nodes.
    pub fn part(&self, a: EndpointId, b: EndpointId) {
        self.parted.send_modify(|parted| parted.extend([(a, b), (b, a)]));
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.parted.send_modify(|parted| parted.clear());
    }

    /// Lets these befall the next streams of snapshots, one each, the last one first.
    pub fn spoil(&self, mishaps: impl IntoIterator<Item = Mishap>) {
        self.mishaps.lock().unwrap().extend(mishaps);
    }

    /// Mishaps that have not befallen a stream yet.
    pub fn mishaps_left(&self) -> usize {
        self.mishaps.lock().unwrap().len()
    }

    /// How many bytes were written to streams of a kind.
    pub fn written(&self, kind: StreamKind) -> u64 {
        self.written.lock().unwrap().get(&kind).copied().unwrap_or(0)
    }

    pub fn over(&self, network: Arc<dyn Network>) -> Arc<dyn Network> {
        Arc::new(Exposed { network, weather: self.clone() })
    }

    fn valve(&self, a: EndpointId, b: EndpointId) -> Valve {
        Valve { parted: self.parted.subscribe(), between: (a, b), waiting: Mutex::default() }
    }
}

#[derive(Debug)]
struct Exposed {
    network: Arc<dyn Network>,
    weather: Weather,
}

impl Exposed {
    fn expose(&self, link: Arc<dyn Link>) -> Arc<dyn Link> {
        Arc::new(ExposedLink { link, me: self.network.id(), weather: self.weather.clone() })
    }
}

impl Network for Exposed {
    fn id(&self) -> EndpointId {
        self.network.id()
    }

    fn addresses(&self) -> Vec<Address> {
        self.network.addresses()
    }

    fn connect<'a>(
        &'a self,
        peer: EndpointId,
        addresses: &'a [Address],
        protocol: Protocol,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkLost>> {
        Box::pin(async move {
            self.weather.valve(self.id(), peer).open().await;
            Ok(self.expose(self.network.connect(peer, addresses, protocol).await?))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        Box::pin(async move { Some(self.expose(self.network.accept().await?)) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.network.close()
    }
}

#[derive(Debug)]
struct ExposedLink {
    link: Arc<dyn Link>,
    me: EndpointId,
    weather: Weather,
}

impl ExposedLink {
    /// Only who opens a stream says at its beginning what it is for.
    fn streams(
        &self,
        (out, input): (StreamOut, StreamIn),
        head: Option<Vec<u8>>,
    ) -> (StreamOut, StreamIn) {
        let valve = || self.weather.valve(self.me, self.link.peer());
        let out = Out {
            out,
            valve: valve(),
            weather: self.weather.clone(),
            head,
            at: 0,
            kind: None,
            mishap: None,
        };
        (Box::new(out), Box::new(In { input, valve: valve() }))
    }
}

impl Link for ExposedLink {
    fn peer(&self) -> EndpointId {
        self.link.peer()
    }

    fn protocol(&self) -> Protocol {
        self.link.protocol()
    }

    fn address(&self) -> Option<Address> {
        self.link.address()
    }

    fn open(&self, priority: Priority) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(async move { Ok(self.streams(self.link.open(priority).await?, Some(Vec::new()))) })
    }

    fn accept(&self) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(async move { Ok(self.streams(self.link.accept().await?, None)) })
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.link.close(code, reason);
    }

    fn closed(&self) -> BoxFuture<'_, LinkLost> {
        self.link.closed()
    }
}

/// Open unless the two nodes are parted.
struct Valve {
    parted: watch::Receiver<BTreeSet<(EndpointId, EndpointId)>>,
    between: (EndpointId, EndpointId),
    waiting: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl fmt::Debug for Valve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Valve({:?})", self.between)
    }
}

impl Valve {
    fn is_shut(&self) -> bool {
        self.parted.borrow().contains(&self.between)
    }

    async fn open(&mut self) {
        std::future::poll_fn(|context| self.poll_open(context)).await;
    }

    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let waiting = self.waiting.get_mut().unwrap();
            if let Some(future) = waiting {
                std::task::ready!(future.as_mut().poll(context));
                *waiting = None;
            }
            if !self.is_shut() {
                return Poll::Ready(());
            }
            let (mut parted, between) = (self.parted.clone(), self.between);
            let opens = async move {
                // The sender lives as long as the test.
                let _ = parted.wait_for(|parted| !parted.contains(&between)).await;
            };
            self.waiting = Mutex::new(Some(Box::pin(opens)));
        }
    }
}

struct In {
    input: StreamIn,
    valve: Valve,
}

impl AsyncRead for In {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        std::task::ready!(self.valve.poll_open(context));
        Pin::new(&mut self.input).poll_read(context, buffer)
    }
}

struct Out {
    out: StreamOut,
    valve: Valve,
    weather: Weather,
    /// The first bytes, if they say what the stream is for.
    head: Option<Vec<u8>>,
    at: usize,
    kind: Option<StreamKind>,
    mishap: Option<Mishap>,
}

impl Out {
    fn note(&mut self, bytes: &[u8]) {
        self.at += bytes.len();
        if let Some(head) = &mut self.head
            && head.len() < PREFACE_BYTES
        {
            head.extend(bytes.iter().take(PREFACE_BYTES - head.len()));
            if let [_, kind] = head[..] {
                self.kind = StreamKind::from_number(kind);
                if self.kind == Some(StreamKind::Snapshot) {
                    self.mishap = self.weather.mishaps.lock().unwrap().pop();
                }
            }
        }
        if let Some(kind) = self.kind {
            *self.weather.written.lock().unwrap().entry(kind).or_default() += bytes.len() as u64;
        }
    }
}

/// What did not befall this stream befalls the next: a sending may be given up before it comes that
/// far.
impl Drop for Out {
    fn drop(&mut self) {
        self.weather.mishaps.lock().unwrap().extend(self.mishap.take());
    }
}

impl AsyncWrite for Out {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        std::task::ready!(self.valve.poll_open(context));
        let here = self.at..self.at + bytes.len();
        let spoiled = match self.mishap {
            Some(Mishap::Cut(at)) if here.contains(&at) => {
                self.mishap = None;
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            Some(Mishap::Flip(at)) if here.contains(&at) => {
                let mut spoiled = bytes.to_vec();
                spoiled[at - here.start] ^= 0x10;
                Some(spoiled)
            }
            _ => None,
        };
        let bytes = spoiled.as_deref().unwrap_or(bytes);
        let written = std::task::ready!(Pin::new(&mut self.out).poll_write(context, bytes))?;
        if let Some(Mishap::Flip(at)) = self.mishap
            && (here.start..here.start + written).contains(&at)
        {
            self.mishap = None;
        }
        self.note(&bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.out).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(self.valve.poll_open(context));
        Pin::new(&mut self.out).poll_shutdown(context)
    }
}
