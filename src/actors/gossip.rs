//! What the members tell each other of themselves, again and again: where they are, what they do in
//! their groups, how busy they are and how much room they have.
//!
//! It is hearsay: signed, held against the roster and bounded ([`roster::hearsay`]), and still only
//! a hint for whoever looks for a member, shows the cluster to people, or spreads what is to be done
//! over members that could each do it.
//!
//! [`roster::hearsay`]: crate::roster::hearsay

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::groups::Groups;
use super::roster::Members;
use crate::limits::{GOSSIP_MEET_EVERY, GOSSIP_RETRY, HEARD_LIVE, LOAD_LOOK};
use crate::net::{AddressSource, NodeKey, Peers, verify};
use crate::roster::Roster;
use crate::roster::announcement::{Announcement, GroupLoad, Part, PartRole, Rest, topic};
use crate::roster::hearsay::{Heard, Hearsay, News};
use crate::roster::load::{Meter, is_news};
use crate::roster::pace::Pace;
use crate::roster::records::Member;
use crate::seams::network::{Gossip, Topic, Whisper};
use crate::seams::{self, Random};
use crate::status::{GroupStatus, Role};
use crate::store::space::SpaceGuard;
use crate::types::{Address, ClusterId, EndpointId, NodeId};

/// What a member said of itself last, and how long ago that was heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it said.
    pub announcement: Announcement,
    /// How long ago.
    pub age: Duration,
}

/// What was heard of the members; clones are the same.
#[derive(Clone)]
pub struct Rumours {
    hearsay: Arc<Mutex<Hearsay>>,
    /// What this node said of itself last.
    said: watch::Sender<Option<Heard>>,
    since: Instant,
}

impl fmt::Debug for Rumours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rumours({} members)", self.hearsay().all().count())
    }
}

impl Rumours {
    /// Nothing was heard yet by the node with this key.
    pub fn new(me: EndpointId) -> Self {
        Rumours {
            hearsay: Arc::new(Mutex::new(Hearsay::new(me))),
            said: watch::Sender::new(None),
            since: Instant::now(),
        }
    }

    /// What a member, this node among them, said of itself last.
    pub fn of(&self, member: EndpointId) -> Option<Told> {
        let said = self.said.borrow().clone().filter(|said| said.announcement.endpoint == member);
        let heard = said.or_else(|| self.hearsay().heard(member).cloned())?;
        let age = self.now().saturating_sub(heard.at);
        Some(Told { announcement: heard.announcement, age })
    }

    /// What each member said last of the loads of the groups that it leads.
    pub fn loads(&self, roster: &Roster) -> BTreeMap<NodeId, Vec<GroupLoad>> {
        let present = roster.present();
        let said = present.filter_map(|member| Some((member.node, self.of(member.endpoint)?)));
        let said = said.filter(|(_, told)| told.age <= HEARD_LIVE);
        said.map(|(node, told)| (node, told.announcement.rest.loads)).collect()
    }

    /// The members whose disks are full, by what they said last.
    pub fn full(&self, roster: &Roster) -> BTreeSet<NodeId> {
        let said = |member: &Member| self.of(member.endpoint);
        let is_full = |told: Told| told.age <= HEARD_LIVE && told.announcement.rest.is_full;
        let full = roster.present().filter(|member| said(member).is_some_and(is_full));
        full.map(|member| member.node).collect()
    }

    /// How much of what a member said, or passed on, was against the rules.
    pub fn offences(&self, member: EndpointId) -> u64 {
        self.hearsay().offences(member)
    }

    fn said(&self, announcement: Announcement) {
        self.said.send_replace(Some(Heard { announcement, at: self.now() }));
    }

    fn hearsay(&self) -> MutexGuard<'_, Hearsay> {
        self.hearsay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.since.elapsed()
    }
}

/// What a member needs to gossip.
#[derive(Clone, Debug)]
pub struct Speaker {
    /// Where it does.
    pub gossip: Arc<dyn Gossip>,
    /// What it signs with.
    pub key: NodeKey,
    /// Its number.
    pub me: NodeId,
    /// How often the node of its data directory has started.
    pub start: u64,
    /// When exactly it says something.
    pub random: Random,
    /// How much room it has.
    pub space: SpaceGuard,
    /// Its groups.
    pub groups: Groups,
    /// What it hears.
    pub rumours: Rumours,
}

/// Gossips for ever.
pub(super) async fn gossip(
    speaker: Speaker,
    members: Members,
    peers: Peers,
    places: watch::Receiver<Vec<Address>>,
) {
    let mut roster = members.changes();
    let (load, loads) = (watch::Sender::new(0), watch::Sender::new(Vec::new()));
    let mut telling = Telling {
        load: load.subscribe(),
        loads: loads.subscribe(),
        said: Vec::new(),
        number: 0,
        pace: Pace::default(),
        speaker,
        members,
        peers,
        places,
    };
    let measuring = measure_load(telling.speaker.groups.clone(), load, loads);
    let talking = async {
        loop {
            let known = roster.wait_for(|roster| roster.cluster().is_some()).await;
            let Ok(known) = known.map(|roster| roster.clone()) else { return };
            let Some(cluster) = known.cluster() else { continue };
            if let Err(reason) = telling.talk(cluster.id, topic(&cluster.gossip_secret)).await {
                tracing::debug!(reason, "gossip begins anew");
            }
            sleep(GOSSIP_RETRY).await;
        }
    };
    tokio::join!(measuring, talking);
}

struct Telling {
    speaker: Speaker,
    members: Members,
    peers: Peers,
    places: watch::Receiver<Vec<Address>>,
    load: watch::Receiver<u32>,
    loads: watch::Receiver<Vec<GroupLoad>>,
    /// Those that were announced.
    said: Vec<GroupLoad>,
    /// Counts announcements.
    number: u64,
    pace: Pace,
}

impl Telling {
    /// Announces and listens on the cluster's topic until something is wrong with it.
    async fn talk(&mut self, cluster: ClusterId, topic: [u8; 32]) -> Result<(), String> {
        let mut topic = self.speaker.gossip.enter(topic, &self.others()).await?;
        let mut roster = self.members.changes();
        let mut roles = (self.roles(), self.speaker.space.is_crowded());
        let mut meet = interval(GOSSIP_MEET_EVERY);
        let mut look = interval(LOAD_LOOK);
        let mut neighbours = 0;
        self.pace.changed();
        loop {
            let next = self.speaker.rumours.since + self.pace.next();
            tokio::select! {
                whisper = topic.hear() => match whisper? {
                    Whisper::Message { delivered_by, bytes } => self.hear(&bytes, delivered_by),
                    Whisper::Neighbours { count } => {
                        if neighbours == 0 && count > 0 {
                            // Whoever was alone has been heard by nobody.
                            self.pace.changed();
                        }
                        neighbours = count;
                    }
                },
                () = sleep_until(next) => self.announce(cluster, topic.as_ref()).await?,
                changed = roster.changed() => {
                    changed.map_err(|error| error.to_string())?;
                    self.speaker.rumours.hearsay().retain(&roster.borrow_and_update());
                    topic.meet(&self.others()).await?;
                }
                changed = self.places.changed() => {
                    changed.map_err(|error| error.to_string())?;
                    self.pace.changed();
                }
                _ = look.tick() => {
                    let now = (self.roles(), self.speaker.space.is_crowded());
                    if now != roles || is_news(&self.said, &self.loads.borrow()) {
                        roles = now;
                        self.pace.changed();
                    }
                }
                _ = meet.tick() => if neighbours == 0 {
                    topic.meet(&self.others()).await?;
                }
            }
        }
    }

    fn others(&self) -> Vec<EndpointId> {
        let me = self.peers.id();
        self.members.endpoints().iter().copied().filter(|member| *member != me).collect()
    }

    fn hear(&self, bytes: &[u8], delivered_by: EndpointId) {
        let roster = self.members.roster();
        let rumours = &self.speaker.rumours;
        let now = rumours.now();
        let heard = rumours.hearsay().hear(bytes, delivered_by, now, &roster, &verify);
        let (offence, why) = match heard {
            Ok(News { author, addresses, offence, .. }) => {
                if addresses && let Some(told) = rumours.of(author) {
                    self.peers.note(author, &told.announcement.addresses, AddressSource::Gossip);
                }
                (offence, "it announces an address of another member".to_owned())
            }
            Err(ignored) => (ignored.offence, ignored.why.to_string()),
        };
        if let Some(offence) = offence
            && let Some(swallowed) = offence.log
        {
            tracing::warn!(who = %offence.who, why, swallowed, "ignored gossip");
        }
    }

    async fn announce(&mut self, cluster: ClusterId, topic: &dyn Topic) -> Result<(), String> {
        self.number += 1;
        let addresses = self.places.borrow_and_update().clone();
        let announcement = Announcement {
            cluster,
            endpoint: self.speaker.key.endpoint_id(),
            node: self.speaker.me,
            start: self.speaker.start,
            number: self.number,
            addresses,
            writes_per_second: *self.load.borrow(),
            free_percent: self.speaker.space.free_percent().min(100) as u8,
            version: seams::version().to_owned(),
            groups_cut: false,
            groups: self.parts(),
            rest: Rest {
                is_full: self.speaker.space.is_crowded(),
                loads: self.loads.borrow().clone(),
            },
        };
        self.said.clone_from(&announcement.rest.loads);
        let Speaker { key, rumours, .. } = &self.speaker;
        rumours.said(announcement.clone());
        topic.say(announcement.seal(|bytes| key.sign(bytes))).await?;
        let members = self.members.endpoints().len();
        let unit = (self.speaker.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        self.pace.announced(self.speaker.rumours.now(), members, unit);
        Ok(())
    }

    fn parts(&self) -> Vec<Part> {
        let statuses = self.speaker.groups.statuses().into_iter();
        statuses.filter_map(|status| part(&status, self.speaker.me)).collect()
    }

    /// What the node is to its groups, without how far it is.
    fn roles(&self) -> Vec<Part> {
        self.parts().into_iter().map(|part| Part { applied: 0, ..part }).collect()
    }
}

/// What this node is to a group; nothing if its replica does not run.
fn part(status: &GroupStatus, me: NodeId) -> Option<Part> {
    let role = match status.role {
        Role::Leader => PartRole::Leader,
        Role::Starting | Role::Stopped => return None,
        _ if status.voters.contains(&me) => PartRole::Voter,
        _ => PartRole::Learner,
    };
    Some(Part { group: status.group, role, applied: status.applied_index })
}

/// How many entries the groups that are led here apply in a second, and what is asked of them.
async fn measure_load(
    groups: Groups,
    load: watch::Sender<u32>,
    loads: watch::Sender<Vec<GroupLoad>>,
) {
    let mut meter = Meter::default();
    let led = || {
        let led = groups.statuses().into_iter().filter(|status| status.role == Role::Leader);
        led.map(|status| status.applied_index).sum::<u64>()
    };
    let mut before = led();
    let mut look = interval(LOAD_LOOK);
    look.tick().await;
    loop {
        look.tick().await;
        let now = led();
        // A group that came or went is no load.
        let writes = now.saturating_sub(before) / LOAD_LOOK.as_secs();
        let led_here = groups.running().into_iter().filter(|(_, replica)| replica.leads());
        let work = led_here.map(|(group, replica)| (group, replica.work())).collect();
        meter.look(&work, LOAD_LOOK);
        loads.send_replace(meter.loads());
        load.send_replace(u32::try_from(writes).unwrap_or(u32::MAX));
        before = now;
    }
}
