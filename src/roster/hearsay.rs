//! What this node has heard of the other members, and what it takes for heard.
//!
//! A message passes these checks, the cheap ones first, so that a flood costs no signatures:
//!
//! 1. its size, then the rates of its deliverer and of all deliverers together;
//! 2. it can be read, is about this cluster, by a present member and not by ourselves;
//! 3. its author's signature; the number that it claims is the author's; it is newer than the last;
//! 4. its author's rate. That is charged only here, so that nobody uses up another's.
//!
//! The claimed number waits for the signature, because a lie is to be named by whoever told it.
//!
//! An address that another member has is dropped from an announcement that passes. The roster has
//! the last word on whose it is: what it says of the author is never disputed; else whoever has it
//! in the roster or announced it first, while that is fresh.
//!
//! Invariants: of each member at most one announcement is kept, with a greater (start, number) than
//! all before it under the same number of the node, as long as the author is not forgotten. Every
//! table is bounded, whatever comes. After a restart of this node nothing was heard, and one old
//! announcement of each member may pass once more: what is heard is a hint, and nothing that must be
//! right rests on it.
//!
//! Times are since the node started and never go back.

mod ignored;
mod rates;

use std::collections::BTreeMap;
use std::time::Duration;

pub use ignored::{Ignored, Offence, Why};

use ignored::Offences;
use rates::{Allowance, Allowances, Rate};

use super::admit::Verify;
use super::announcement::{Announcement, BadAnnouncement, is_signed};
use super::records::Member;
use super::{Roster, Standing};
use crate::limits::{
    ANNOUNCEMENT_BYTES_MAX, HEARD_ALL_BURST_MAX, HEARD_ALL_PER_SECOND_MAX, HEARD_AUTHOR_BURST_MAX,
    HEARD_AUTHOR_PER_SECOND_MAX, HEARD_DELIVERER_BURST_MAX, HEARD_DELIVERER_PER_SECOND_MAX,
    HEARD_LIVE, HEARD_MAX, HEARD_REPLAYS_BURST_MAX, HEARD_REPLAYS_PER_SECOND_MAX,
};
use crate::types::{EndpointId, NodeId};

const ALL: Rate = Rate { per_second: HEARD_ALL_PER_SECOND_MAX, burst: HEARD_ALL_BURST_MAX };
const DELIVERER: Rate =
    Rate { per_second: HEARD_DELIVERER_PER_SECOND_MAX, burst: HEARD_DELIVERER_BURST_MAX };
const AUTHOR: Rate =
    Rate { per_second: HEARD_AUTHOR_PER_SECOND_MAX, burst: HEARD_AUTHOR_BURST_MAX };
const REPLAYS: Rate =
    Rate { per_second: HEARD_REPLAYS_PER_SECOND_MAX, burst: HEARD_REPLAYS_BURST_MAX };

/// The newest announcement of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// What it said, without addresses that are another's.
    pub announcement: Announcement,
    /// When it was heard.
    pub at: Duration,
}

/// An announcement was taken. Without news of either kind it told of progress only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Whose it is.
    pub author: EndpointId,
    /// Its author's number.
    pub node: NodeId,
    /// Its addresses are not those that were heard before.
    pub addresses: bool,
    /// The groups that it is in, or its roles in them, are not those that were heard before.
    pub roles: bool,
    /// It announced an address of another member, which was dropped.
    pub offence: Option<Offence>,
}

/// What this node has heard of the other members.
#[derive(Clone, Debug)]
pub struct Hearsay {
    us: EndpointId,
    heard: BTreeMap<EndpointId, Heard>,
    all: Allowance,
    deliverers: Allowances,
    authors: Allowances,
    replays: Allowances,
    offences: Offences,
}

impl Hearsay {
    /// Nothing was heard yet by the node with this key.
    pub fn new(us: EndpointId) -> Self {
        Hearsay {
            us,
            heard: BTreeMap::new(),
            all: Allowance::new(ALL),
            deliverers: Allowances::new(DELIVERER),
            authors: Allowances::new(AUTHOR),
            replays: Allowances::new(REPLAYS),
            offences: Offences::default(),
        }
    }

    /// Takes an announcement, or says why not. `delivered_by` is the neighbour whose link it came
    /// by, which need not be its author.
    pub fn hear(
        &mut self,
        bytes: &[u8],
        delivered_by: EndpointId,
        now: Duration,
        roster: &Roster,
        verify: Verify<'_>,
    ) -> Result<News, Ignored> {
        let judged = self
            .let_in(bytes.len(), delivered_by, now)
            .and_then(|()| self.believe(bytes, delivered_by, now, roster, verify));
        match judged {
            Ok(announcement) => Ok(self.keep(announcement, now, roster)),
            Err(why) => {
                let offender = why.offender(delivered_by);
                let offence = offender.map(|who| self.offences.count(who, now));
                Err(Ignored { why, offence })
            }
        }
    }

    /// What was heard of a member, if anything.
    pub fn heard(&self, endpoint: EndpointId) -> Option<&Heard> {
        self.heard.get(&endpoint)
    }

    /// What was heard of each member, in the order of their keys.
    pub fn all(&self) -> impl Iterator<Item = (EndpointId, &Heard)> {
        self.heard.iter().map(|(endpoint, heard)| (*endpoint, heard))
    }

    /// How often a key was found to offend, as far as that is kept.
    pub fn offences(&self, endpoint: EndpointId) -> u64 {
        self.offences.of(endpoint)
    }

    /// Forgets whoever is no longer a member.
    pub fn retain(&mut self, roster: &Roster) {
        let standing = |endpoint| roster.standing(endpoint);
        self.heard.retain(|endpoint, heard| {
            standing(*endpoint) == Standing::Member(heard.announcement.node)
        });
        for allowances in [&mut self.deliverers, &mut self.authors, &mut self.replays] {
            allowances.retain(|endpoint| matches!(standing(endpoint), Standing::Member(_)));
        }
    }

    /// Whether a message is looked at.
    fn let_in(&mut self, bytes: usize, deliverer: EndpointId, now: Duration) -> Result<(), Why> {
        if bytes > ANNOUNCEMENT_BYTES_MAX {
            return Err(Why::Unreadable(BadAnnouncement::TooLong { bytes }));
        }
        // What one deliverer has too much is not taken from all, and the other way round.
        if !self.all.has_room(now) {
            return Err(Why::Rate);
        }
        if !self.deliverers.take(deliverer, now) {
            return Err(Why::DelivererRate);
        }
        self.all.take(now);
        Ok(())
    }

    /// Whether a message is what a member says of itself, and newer than the last.
    fn believe(
        &mut self,
        bytes: &[u8],
        deliverer: EndpointId,
        now: Duration,
        roster: &Roster,
        verify: Verify<'_>,
    ) -> Result<Announcement, Why> {
        let announcement = Announcement::read(bytes)?;
        let author = announcement.endpoint;
        // Before this node knows its cluster, it knows nobody.
        let cluster = roster.cluster().ok_or(Why::Stranger { author })?;
        if announcement.cluster != cluster.id {
            return Err(Why::OtherCluster(announcement.cluster));
        }
        if author == self.us {
            return Err(Why::Ourselves);
        }
        let Standing::Member(node) = roster.standing(author) else {
            return Err(Why::Stranger { author });
        };
        if !is_signed(bytes, author, verify) {
            return Err(Why::Forged { node });
        }
        if announcement.node != node {
            return Err(Why::Number { author, node, claimed: announcement.node });
        }
        if self.before(&announcement).is_some_and(|last| announcement.order() <= last.order()) {
            let tolerable = self.replays.take(deliverer, now);
            return Err(if tolerable { Why::Old { node } } else { Why::Replayed { node } });
        }
        if !self.authors.take(author, now) {
            return Err(Why::AuthorRate { author, node });
        }
        Ok(announcement)
    }

    /// The last announcement of the same node. Under another number its author began anew, and
    /// counts anew.
    fn before(&self, announcement: &Announcement) -> Option<&Announcement> {
        let last = &self.heard.get(&announcement.endpoint)?.announcement;
        (last.node == announcement.node).then_some(last)
    }

    /// Keeps an announcement, and tells what is new in it.
    fn keep(&mut self, mut announcement: Announcement, now: Duration, roster: &Roster) -> News {
        let (author, node) = (announcement.endpoint, announcement.node);
        let disputed = self.drop_disputed(&mut announcement, now, roster);
        let before = self.before(&announcement);
        let news = News {
            author,
            node,
            addresses: before.is_none_or(|last| last.addresses != announcement.addresses),
            roles: before.is_none_or(|last| !last.roles().eq(announcement.roles())),
            offence: disputed.then(|| self.offences.count(author, now)),
        };
        self.heard.insert(author, Heard { announcement, at: now });
        if self.heard.len() > HEARD_MAX {
            self.forget_oldest(author);
        }
        news
    }

    /// Drops the addresses that are another member's; whether there were any.
    fn drop_disputed(&self, announced: &mut Announcement, now: Duration, roster: &Roster) -> bool {
        let (author, node, count) = (announced.endpoint, announced.node, announced.addresses.len());
        announced.addresses.retain(|address| {
            let recorded = |of: &Member| of.addresses.contains(address);
            let live = |heard: &Heard| now.saturating_sub(heard.at) < HEARD_LIVE;
            // A relay is where many can be met.
            address.relay().is_some()
                || roster.member(node).is_some_and(recorded)
                || !roster.present().any(|other| other.node != node && recorded(other))
                    && !self.all().any(|(other, heard)| {
                        let addresses = &heard.announcement.addresses;
                        other != author && live(heard) && addresses.contains(address)
                    })
        });
        announced.addresses.len() < count
    }

    fn forget_oldest(&mut self, except: EndpointId) {
        let others = self.all().filter(|(endpoint, _)| *endpoint != except);
        if let Some(oldest) = others.min_by_key(|(_, heard)| heard.at).map(|(endpoint, _)| endpoint)
        {
            self.heard.remove(&oldest);
        }
    }
}
