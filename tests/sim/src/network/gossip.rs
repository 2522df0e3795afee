//! Gossip as nodes see it: who hears a message for the first time passes it on to all others of its
//! topic, each time in a packet that may be late, lost or held up; and the gate of each decides whom
//! it listens to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use aspen::limits::GOSSIP_WAITING_MAX;
use aspen::seams::network::{Gate, Gossip, Protocol, Topic, Whisper};
use aspen::types::EndpointId;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use super::link::Host;
use super::{HostId, State, Way, What};

type TopicId = [u8; 32];

/// Who is in which topic.
#[derive(Default)]
pub(super) struct Swarms(BTreeMap<TopicId, BTreeMap<HostId, Ear>>);

/// What a host has of a topic.
struct Ear {
    epoch: u64,
    /// What was heard and not taken.
    heard: VecDeque<Whisper>,
    /// More came than was taken.
    lagged: bool,
    /// What came before, so that it is passed on once.
    known: BTreeSet<[u8; 32]>,
    changed: Arc<Notify>,
}

/// A message on its way.
pub(super) struct Passed {
    topic: TopicId,
    pub(super) bytes: Bytes,
}

impl Ear {
    fn hear(&mut self, whisper: Whisper) {
        if self.heard.len() < GOSSIP_WAITING_MAX {
            self.heard.push_back(whisper);
        } else {
            self.lagged = true;
        }
        self.changed.notify_one();
    }

    /// Whether a message is new here.
    fn learn(&mut self, bytes: &[u8]) -> bool {
        self.known.insert(*blake3::hash(bytes).as_bytes())
    }
}

impl State {
    fn enter_topic(&mut self, host: HostId, epoch: u64, topic: TopicId) -> Result<(), String> {
        if !self.is_up(host, epoch) {
            return Err("this node's network is closed".to_owned());
        }
        let (heard, known) = (VecDeque::new(), BTreeSet::new());
        let ear = Ear { epoch, heard, lagged: false, known, changed: Arc::default() };
        self.gossip.0.entry(topic).or_default().insert(host, ear);
        self.tell_neighbours(topic);
        Ok(())
    }

    /// All who are in a topic know how many others are.
    fn tell_neighbours(&mut self, topic: TopicId) {
        let Some(swarm) = self.gossip.0.get_mut(&topic) else { return };
        let count = swarm.len() - 1;
        for ear in swarm.values_mut() {
            ear.hear(Whisper::Neighbours { count });
        }
    }

    /// A host is gone, and what it knew with it.
    pub(super) fn leave_topics(&mut self, host: HostId) {
        let topics: Vec<TopicId> = self.gossip.0.keys().copied().collect();
        for topic in topics {
            let swarm = self.gossip.0.entry(topic).or_default();
            if swarm.remove(&host).is_some() && !swarm.is_empty() {
                self.tell_neighbours(topic);
            }
        }
    }

    fn ear(&mut self, host: HostId, epoch: u64, topic: TopicId) -> Option<&mut Ear> {
        self.gossip.0.get_mut(&topic)?.get_mut(&host).filter(|ear| ear.epoch == epoch)
    }

    /// A host passes a message on that it has just learnt.
    fn pass_on(&mut self, from: HostId, except: Option<HostId>, topic: TopicId, bytes: &Bytes) {
        let Some(swarm) = self.gossip.0.get(&topic) else { return };
        let others: Vec<HostId> =
            swarm.keys().copied().filter(|to| *to != from && Some(*to) != except).collect();
        for to in others {
            let passed = Passed { topic, bytes: bytes.clone() };
            self.send(Way { from, to }, What::Whisper(passed));
        }
    }

    /// A message arrives.
    pub(super) fn whispered(&mut self, way: Way, passed: Passed) {
        let Passed { topic, bytes } = passed;
        let (Some(from), Some(to)) = (self.hosts.get(&way.from), self.hosts.get(&way.to)) else {
            return;
        };
        let (delivered_by, gate): (EndpointId, Arc<dyn Gate>) = (from.key, to.gate.clone());
        if gate.admit(delivered_by, Protocol::Gossip).is_err() {
            return;
        }
        let ear = self.gossip.0.get_mut(&topic).and_then(|swarm| swarm.get_mut(&way.to));
        let is_new = ear.is_some_and(|ear| {
            let is_new = ear.learn(&bytes);
            if is_new {
                ear.hear(Whisper::Message { delivered_by, bytes: bytes.clone() });
            }
            is_new
        });
        if is_new {
            self.pass_on(way.to, Some(way.from), topic, &bytes);
        }
    }
}

impl Gossip for Host {
    fn enter<'a>(
        &'a self,
        topic: TopicId,
        _by: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<Box<dyn Topic>, String>> {
        Box::pin(async move {
            self.fabric.with(|state| state.enter_topic(self.host, self.epoch, topic))?;
            let entered: Box<dyn Topic> = Box::new(Entered { host: self.clone(), topic });
            Ok(entered)
        })
    }
}

/// A topic that a host is in.
struct Entered {
    host: Host,
    topic: TopicId,
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entered({})", self.host.host)
    }
}

impl Entered {
    fn with_ear<R>(&self, look: impl FnOnce(&mut Ear) -> R) -> Result<R, String> {
        let Host { fabric, host, epoch, .. } = &self.host;
        fabric.with(|state| {
            let ear = state.ear(*host, *epoch, self.topic);
            ear.map(look).ok_or_else(|| "the topic has ended".to_owned())
        })
    }
}

impl Topic for Entered {
    fn say(&self, message: Vec<u8>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let bytes = Bytes::from(message);
            self.with_ear(|ear| ear.learn(&bytes))?;
            let Host { fabric, host, .. } = &self.host;
            fabric.with(|state| state.pass_on(*host, None, self.topic, &bytes));
            Ok(())
        })
    }

    fn meet<'a>(&'a self, _members: &'a [EndpointId]) -> BoxFuture<'a, Result<(), String>> {
        // Whoever is in the topic is met.
        Box::pin(async { Ok(()) })
    }

    fn hear(&mut self) -> BoxFuture<'_, Result<Whisper, String>> {
        Box::pin(async {
            loop {
                let (next, changed) = self.with_ear(|ear| {
                    let next = match std::mem::take(&mut ear.lagged) {
                        true => Some(Err("more came than was taken".to_owned())),
                        false => ear.heard.pop_front().map(Ok),
                    };
                    (next, ear.changed.clone())
                })?;
                match next {
                    Some(next) => return next,
                    // What comes meanwhile leaves its permit.
                    None => changed.notified().await,
                }
            }
        })
    }
}
