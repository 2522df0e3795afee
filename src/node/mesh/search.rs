//! A node that belongs to no cluster yet looks for the others of its mesh, until it founds the
//! cluster or has a ticket to it.
//!
//! One loop owns what is known; each acquaintance has a task that hears and speaks for it. Everyone
//! near that says the same mesh is dialled, again and again with pauses while it looks, so that a
//! node which was not there yet, or no longer knows this one, is met in the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use aspen_tickets::JoinTicket;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::introduction::{Acquaintance, Side, introduce};
use super::noted::Noted;
use super::{Mesh, Said};
use crate::limits::{
    MESH_ASK_PAUSE, MESH_DIAL_PAUSE, MESH_LISTEN_MIN, MESH_LOOK, MESH_REFUSED_PAUSE,
    MESH_SESSIONS_MAX,
};
use crate::net::Neighbours;
use crate::roster::mesh::{Meeting, Next, Stand};
use crate::seams::network::{CloseCode, Link, LinkLost, Network, Protocol};
use crate::seams::{Random, Tasks};
use crate::types::EndpointId;

/// What a node needs to look for its mesh.
pub(in crate::node) struct Searching<'a> {
    pub(in crate::node) mesh: &'a Mesh,
    pub(in crate::node) network: &'a Arc<dyn Network>,
    pub(in crate::node) neighbours: &'a Neighbours,
    pub(in crate::node) random: &'a Random,
}

/// Looks until there is a cluster: a ticket to it, or none if this node is to found it.
pub(in crate::node) async fn search(searching: Searching<'_>) -> Option<JoinTicket> {
    let Searching { mesh, network, neighbours, random } = searching;
    let (name, expected) = (mesh.name(), mesh.expected);
    tracing::info!(mesh = name, expected, is_open = mesh.is_open, "looking for others of the mesh");
    neighbours.say(mesh.word(None));
    let (events, mut heard) = mpsc::channel(MESH_SESSIONS_MAX);
    let tasks = Tasks::new();
    let _ended = tasks.abort_on_drop();
    let mut search = Search {
        mesh: mesh.clone(),
        network: network.clone(),
        random: random.clone(),
        meeting: Meeting::new(network.id(), expected),
        sessions: BTreeMap::new(),
        dials: BTreeMap::new(),
        strangers: Noted::default(),
        asked: None,
        told: None,
        warned: None,
        next_session: 0,
        events,
        tasks: tasks.clone(),
    };
    let listened = sleep_until(Instant::now() + MESH_LISTEN_MIN);
    tokio::pin!(listened);
    let mut look = interval(MESH_LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut near = neighbours.heard();
    let mut is_listening = true;
    loop {
        tokio::select! {
            biased;
            () = &mut listened, if is_listening => {
                is_listening = false;
                search.meeting.has_listened();
            }
            Some(event) = heard.recv() => if let Some(ticket) = search.take(event) {
                return Some(ticket);
            },
            Some(link) = network.accept() => search.accept(link),
            Ok(()) = near.changed() => search.dial(&near.borrow_and_update()),
            _ = look.tick() => search.dial(&near.borrow()),
        }
        if search.act() {
            return None;
        }
    }
}

struct Search {
    mesh: Mesh,
    network: Arc<dyn Network>,
    random: Random,
    meeting: Meeting,
    sessions: BTreeMap<u64, Session>,
    /// Who was dialled, and when it may be again.
    dials: BTreeMap<EndpointId, Instant>,
    /// Who has another secret, as the log tells.
    strangers: Noted,
    /// Who was asked for a ticket last, and when.
    asked: Option<(EndpointId, Instant)>,
    /// What was told to all last, and what the log says.
    told: Option<(Stand, Next)>,
    /// What the log says of what a host knows.
    warned: Option<Next>,
    next_session: u64,
    events: mpsc::Sender<Event>,
    tasks: Tasks,
}

/// A node that was met.
struct Session {
    peer: EndpointId,
    said: mpsc::Sender<Said>,
}

#[derive(Debug)]
enum Event {
    Met {
        session: u64,
        peer: EndpointId,
        said: mpsc::Sender<Said>,
    },
    Heard {
        session: u64,
        said: Said,
    },
    Ended {
        session: u64,
    },
    /// A node was not met.
    Missed {
        peer: EndpointId,
        lost: LinkLost,
    },
}

impl Search {
    /// Dials everyone near that says the same mesh, unless it is met or was dialled just now.
    fn dial(&mut self, near: &crate::net::Neighbourhood) {
        let now = Instant::now();
        self.dials.retain(|peer, until| near.contains_key(peer) || *until > now);
        for (&peer, neighbour) in near.iter() {
            let is_met = self.sessions.values().any(|session| session.peer == peer);
            let waits = self.dials.get(&peer).is_some_and(|until| *until > now);
            if is_met || waits || self.mesh.hint(neighbour).is_none() {
                continue;
            }
            self.dials.insert(peer, now + MESH_DIAL_PAUSE);
            let (network, addresses) = (self.network.clone(), neighbour.addresses.clone());
            let (mesh, random) = (self.mesh.clone(), self.random.clone());
            let (session, events) = (self.number(), self.events.clone());
            self.tasks.spawn(async move {
                let met = async {
                    let link = network.connect(peer, &addresses, Protocol::Lan).await?;
                    introduce(link, &mesh, network.id(), &random, Side::Dialler).await
                };
                follow(session, peer, met.await, events).await;
            });
        }
    }

    fn accept(&mut self, link: Arc<dyn Link>) {
        if link.protocol() != Protocol::Lan {
            let reason = "the node is still looking for its mesh; try again in a moment";
            return link.close(CloseCode::Busy, reason);
        }
        let (mesh, random, me) = (self.mesh.clone(), self.random.clone(), self.network.id());
        let (session, events) = (self.number(), self.events.clone());
        self.tasks.spawn(async move {
            let peer = link.peer();
            let met = introduce(link, &mesh, me, &random, Side::Accepter).await;
            follow(session, peer, met, events).await;
        });
    }

    fn number(&mut self) -> u64 {
        self.next_session += 1;
        self.next_session
    }

    /// Takes an event; the ticket, if it brings a good one.
    fn take(&mut self, event: Event) -> Option<JoinTicket> {
        match event {
            Event::Met { session, peer, said } => {
                tracing::debug!(%peer, "met a node of the mesh");
                // Whoever is one too many is met when another has gone.
                if self.sessions.len() < MESH_SESSIONS_MAX {
                    let _ = said.try_send(Said::Stand(self.meeting.stand()));
                    self.sessions.insert(session, Session { peer, said });
                }
            }
            Event::Ended { session } => self.ended(session),
            Event::Missed { peer, lost } => self.missed(peer, &lost),
            Event::Heard { session, said } => {
                let peer = self.sessions.get(&session)?.peer;
                return self.heard(peer, said);
            }
        }
        None
    }

    fn heard(&mut self, peer: EndpointId, said: Said) -> Option<JoinTicket> {
        match said {
            Said::Stand(stand) => self.meeting.met(peer, stand),
            Said::Ticket(ticket) => match ticket.parse() {
                Ok(ticket) => return Some(ticket),
                Err(error) => tracing::warn!(%peer, %error, "a node of the mesh gave a bad ticket"),
            },
            Said::NotNow(reason) => {
                tracing::info!(%peer, reason, "the mesh's cluster can't let this node in yet");
            }
            // It was not heard of here, and the host looks again whenever it is asked.
            Said::Divided(clusters) => {
                let divided = Next::Divided(clusters);
                if self.warned.as_ref() != Some(&divided) {
                    self.log(&divided);
                    self.warned = Some(divided);
                }
            }
            // This node has nobody to let in to.
            Said::Ask => {}
        }
        None
    }

    fn ended(&mut self, session: u64) {
        let Some(ended) = self.sessions.remove(&session) else { return };
        if !self.sessions.values().any(|session| session.peer == ended.peer) {
            self.meeting.lost(ended.peer);
            // Who stops looking because it is settled is worth dialling again at once.
            self.dials.remove(&ended.peer);
        }
    }

    fn missed(&mut self, peer: EndpointId, lost: &LinkLost) {
        if lost.code == Some(CloseCode::OtherMesh) {
            self.dials.insert(peer, Instant::now() + MESH_REFUSED_PAUSE);
        }
        self.strangers.not_met(&self.mesh, peer, lost);
    }

    /// Does what is to be done now; true if this node is to found the cluster.
    fn act(&mut self) -> bool {
        let (stand, next) = (self.meeting.stand(), self.meeting.next());
        let (told, logged) = match &self.told {
            Some((told, Next::Ask(_))) => (*told == stand, matches!(next, Next::Ask(_))),
            Some((told, logged)) => (*told == stand, *logged == next),
            None => (false, false),
        };
        if !told {
            for session in self.sessions.values() {
                // One that takes no more is stuck, and its task ends with it.
                let _ = session.said.try_send(Said::Stand(stand));
            }
        }
        if !logged {
            self.log(&next);
        }
        if let Next::Ask(hosts) = &next {
            self.ask(hosts);
        }
        let founds = next == Next::Found;
        self.told = Some((stand, next));
        founds
    }

    fn log(&self, next: &Next) {
        let mesh = self.mesh.name();
        match next {
            Next::Wait { met } => {
                tracing::info!(mesh, met, expected = self.mesh.expected, "nodes have met");
            }
            Next::Found => tracing::info!(mesh, "this node founds the mesh's cluster"),
            Next::Ask(_) => tracing::info!(mesh, "the mesh has a cluster; asking to be let in"),
            Next::Divided(clusters) => {
                let clusters: Vec<String> = clusters.iter().map(ToString::to_string).collect();
                tracing::warn!(
                    mesh,
                    clusters = clusters.join(" and "),
                    "the mesh has more than one cluster, and this node joins neither: join one of \
                     them by a ticket, or end the others"
                );
            }
        }
    }

    /// Asks one host after the other.
    fn ask(&mut self, hosts: &[EndpointId]) {
        let now = Instant::now();
        let last = match self.asked {
            Some((_, at)) if now < at + MESH_ASK_PAUSE => return,
            asked => asked.map(|(host, _)| host),
        };
        let next = hosts.iter().find(|host| Some(**host) > last).or(hosts.first());
        let Some(&host) = next else { return };
        let session = self.sessions.values().find(|session| session.peer == host);
        if session.is_some_and(|session| session.said.try_send(Said::Ask).is_ok()) {
            self.asked = Some((host, now));
        }
    }
}

/// Hears and speaks for an acquaintance until it is gone.
async fn follow(
    session: u64,
    peer: EndpointId,
    met: Result<Acquaintance, LinkLost>,
    events: mpsc::Sender<Event>,
) {
    let mut acquaintance = match met {
        Ok(acquaintance) => acquaintance,
        Err(lost) => {
            // The search may be over.
            let _ = events.send(Event::Missed { peer, lost }).await;
            return;
        }
    };
    let (said, mut to_say) = mpsc::channel(SAID_MAX);
    let _ = events.send(Event::Met { session, peer, said }).await;
    let Acquaintance { link, out, input, .. } = &mut acquaintance;
    let speaking = async {
        while let Some(said) = to_say.recv().await {
            if out.say(&said).await.is_err() {
                return;
            }
        }
    };
    let hearing = async {
        while let Ok(said) = input.hear().await {
            if events.send(Event::Heard { session, said }).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = speaking => {}
        () = hearing => {}
        _ = link.closed() => {}
    }
    let _ = events.send(Event::Ended { session }).await;
}

/// How much may wait to be said to one acquaintance.
const SAID_MAX: usize = 16;
