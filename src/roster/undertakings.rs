//! What is under way in the cluster and takes long: drains, departures, repairs, moves, and what
//! follows from them.
//!
//! Nothing is kept of an undertaking. It follows from the records, which say what is to be, and from
//! what nodes say of how far they are: so each is known on every node and survives whatever dies. Its
//! name says its kind and what it is about, and stays as long as that does. One that nothing is left of
//! is done; whether it ever began is not remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use super::Roster;
use super::records::{RepairStage, Shard, Stage, State};
use crate::types::{GroupId, KeyspaceName, NodeId};

/// What an undertaking is, and its name: `drain-3`, `repair-7-2`, `create-logs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Everything is taken off a member that stays one.
    Drain(NodeId),
    /// A member hands over what it has and leaves.
    Leave(NodeId),
    /// The groups go on without a member that was removed.
    Remove(NodeId),
    /// A node takes its replica of a group again from the others.
    Repair(GroupId, NodeId),
    /// A keyspace's shards get their places.
    Create(KeyspaceName),
    /// A shard is on its way to other members.
    Move(GroupId),
    /// A member gets what its groups have and it has not.
    CatchUp(NodeId),
    /// A member erases replicas that it is to hold no longer.
    Erase(NodeId),
    /// A group removes history that was dropped.
    Compact(GroupId),
}

impl What {
    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            What::Drain(_) => "drain",
            What::Leave(_) => "leave",
            What::Remove(_) => "remove",
            What::Repair(..) => "repair",
            What::Create(_) => "create",
            What::Move(_) => "move",
            What::CatchUp(_) => "catch-up",
            What::Erase(_) => "erase",
            What::Compact(_) => "compact",
        }
    }

    /// The member that it is about.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            What::Drain(node) | What::Leave(node) | What::Remove(node) => Some(*node),
            What::Repair(_, node) | What::CatchUp(node) | What::Erase(node) => Some(*node),
            What::Create(_) | What::Move(_) | What::Compact(_) => None,
        }
    }

    /// The group that it is about.
    pub fn group(&self) -> Option<GroupId> {
        match self {
            What::Repair(group, _) | What::Move(group) | What::Compact(group) => Some(*group),
            _ => None,
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            What::Repair(group, node) => write!(f, "{kind}-{group}-{node}"),
            What::Create(name) => write!(f, "{kind}-{name}"),
            What::Move(group) | What::Compact(group) => write!(f, "{kind}-{group}"),
            What::Drain(node) | What::Leave(node) | What::Remove(node) => {
                write!(f, "{kind}-{node}")
            }
            What::CatchUp(node) | What::Erase(node) => write!(f, "{kind}-{node}"),
        }
    }
}

/// The text is no undertaking's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoName;

impl FromStr for What {
    type Err = NoName;

    fn from_str(text: &str) -> Result<Self, NoName> {
        let of = |kind: &str| text.strip_prefix(kind)?.strip_prefix('-');
        let number = |text: &str| text.parse::<u64>().map_err(|_| NoName);
        let what = if let Some(rest) = of("drain") {
            What::Drain(NodeId(number(rest)?))
        } else if let Some(rest) = of("leave") {
            What::Leave(NodeId(number(rest)?))
        } else if let Some(rest) = of("remove") {
            What::Remove(NodeId(number(rest)?))
        } else if let Some(rest) = of("repair") {
            let (group, node) = rest.split_once('-').ok_or(NoName)?;
            What::Repair(GroupId(number(group)?), NodeId(number(node)?))
        } else if let Some(rest) = of("create") {
            What::Create(rest.parse().map_err(|_| NoName)?)
        } else if let Some(rest) = of("move") {
            What::Move(GroupId(number(rest)?))
        } else if let Some(rest) = of("catch-up") {
            What::CatchUp(NodeId(number(rest)?))
        } else if let Some(rest) = of("erase") {
            What::Erase(NodeId(number(rest)?))
        } else if let Some(rest) = of("compact") {
            What::Compact(GroupId(number(rest)?))
        } else {
            return Err(NoName);
        };
        // Each has one name: no sign, no zeros before a number.
        if what.to_string() == text { Ok(what) } else { Err(NoName) }
    }
}

/// How an undertaking stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of it can be done at the moment.
    Waiting,
    /// It goes on.
    Running,
    /// Nothing is left of it.
    Done,
}

impl Standing {
    /// The word for it, as doors show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::Running => "running",
            Standing::Done => "done",
        }
    }
}

/// Something that takes long, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undertaking {
    /// What it is.
    pub what: What,
    /// How it stands.
    pub standing: Standing,
    /// How much is done, and of how much, in a unit; `None` if nobody counts it.
    pub progress: Option<(u64, u64, &'static str)>,
    /// Why it can't go on, if it is waiting.
    pub why: Option<String>,
}

impl Undertaking {
    fn new(what: &What, standing: Standing, progress: (u64, u64, &'static str)) -> Self {
        let what = what.clone();
        Undertaking { what, standing, progress: Some(progress), why: None }
    }

    fn simply(what: &What, standing: Standing) -> Self {
        Undertaking { what: what.clone(), standing, progress: None, why: None }
    }
}

/// What is known besides the records, as far as one node can tell.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The shards that are to be moved next.
    pub next: BTreeSet<GroupId>,
    /// Who is in a group, voting or not.
    pub inside: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// The groups that members say they hold.
    pub held: BTreeMap<NodeId, BTreeSet<GroupId>>,
    /// What members have of what they are to have: how much, of how much, in a unit; only those that
    /// are behind by enough to speak of.
    pub behind: BTreeMap<NodeId, (u64, u64, &'static str)>,
    /// Replicas that are filled, or to be filled: their groups know more than they do.
    pub filling: BTreeSet<(GroupId, NodeId)>,
    /// The members that can't be heard.
    pub silent: BTreeSet<NodeId>,
    /// The groups in which dropped history is still there.
    pub compacting: BTreeSet<GroupId>,
}

/// All that is under way.
pub fn under_way(roster: &Roster, seen: &Seen) -> Vec<Undertaking> {
    let members = roster.members().map(|member| member.node).flat_map(|node| {
        [
            What::Drain(node),
            What::Leave(node),
            What::Remove(node),
            What::CatchUp(node),
            What::Erase(node),
        ]
    });
    let repairs = roster.members().flat_map(|member| {
        let asked = roster.repairs_of(member.node);
        asked.map(|(group, ..)| What::Repair(group, member.node))
    });
    let keyspaces = roster.keyspaces().map(|(name, _)| What::Create(name.clone()));
    let shards = roster.shards().map(|(group, ..)| What::Move(group));
    let compacting = seen.compacting.iter().map(|group| What::Compact(*group));
    let all = members.chain(repairs).chain(keyspaces).chain(shards).chain(compacting);
    let found = all.filter_map(|what| find(roster, seen, &what));
    found.filter(|undertaking| undertaking.standing != Standing::Done).collect()
}

/// How one stands; `None` if what it is about is not known, or it can't be under way.
pub fn find(roster: &Roster, seen: &Seen, what: &What) -> Option<Undertaking> {
    let done = || Some(Undertaking::simply(what, Standing::Done));
    match what {
        What::Drain(node) => match roster.member(*node)?.state {
            State::Removed => done(),
            _ if roster.duty(*node).draining => Some(taken_off(roster, seen, what, *node)),
            _ => None,
        },
        What::Leave(node) => match roster.member(*node)?.state {
            State::Active => None,
            State::Removed => done(),
            State::Leaving => {
                let taken = taken_off(roster, seen, what, *node);
                // The meta group lets go of it last.
                let standing = match taken.standing {
                    Standing::Done => Standing::Running,
                    standing => standing,
                };
                Some(Undertaking { standing, ..taken })
            }
        },
        What::Remove(node) => match roster.member(*node)?.state {
            State::Removed => Some(taken_off(roster, seen, what, *node)),
            _ => None,
        },
        What::Repair(group, node) => repair(roster, seen, what, *group, *node),
        What::Create(name) => {
            let keyspace = roster.keyspace(name)?;
            let shards =
                keyspace.groups().filter_map(|group| Some((group, roster.shard(group)?.0)));
            let (mut placed, mut is_stuck) = (0, true);
            for (group, shard) in shards {
                match shard.stage {
                    Stage::Waiting => is_stuck &= !seen.next.contains(&group),
                    Stage::Founding => is_stuck = false,
                    Stage::Moving | Stage::Settled => placed += 1,
                }
            }
            let of = u64::from(keyspace.shards);
            let standing = match (placed == of, is_stuck) {
                (true, _) => Standing::Done,
                (false, true) => Standing::Waiting,
                (false, false) => Standing::Running,
            };
            let why = (standing == Standing::Waiting)
                .then(|| "its shards wait for members that can hold them".to_owned());
            Some(Undertaking { why, ..Undertaking::new(what, standing, (placed, of, "shards")) })
        }
        What::Move(group) => {
            let (shard, _) = roster.shard(*group)?;
            match shard.stage {
                Stage::Waiting | Stage::Founding => None,
                Stage::Settled => done(),
                Stage::Moving => Some(moved(seen, what, *group, shard)),
            }
        }
        What::CatchUp(node) => {
            present(roster, *node)?;
            match seen.behind.get(node) {
                None => done(),
                Some(behind) => Some(Undertaking::new(what, Standing::Running, *behind)),
            }
        }
        What::Erase(node) => {
            present(roster, *node)?;
            let is_left = |group: &&GroupId| {
                **group != GroupId::META
                    && roster.has_numbered(**group)
                    && roster.part(**group, *node).is_none()
            };
            let left = seen.held.get(node).map_or(0, |held| held.iter().filter(is_left).count());
            match left {
                0 => done(),
                _ => Some(Undertaking::new(what, Standing::Running, (0, left as u64, "replicas"))),
            }
        }
        What::Compact(group) => {
            // Whoever does not hold it can't tell.
            seen.inside.get(group)?;
            if *group != GroupId::META {
                roster.shard(*group)?;
            }
            match seen.compacting.contains(group) {
                true => Some(Undertaking::simply(what, Standing::Running)),
                false => done(),
            }
        }
    }
}

fn present(roster: &Roster, node: NodeId) -> Option<()> {
    roster.member(node).filter(|member| member.is_present()).map(|_| ())
}

/// How far a member's shards are taken off it: of all that there are, how many it does not hold. Only
/// that grows to its end, whatever it held when that began.
fn taken_off(roster: &Roster, seen: &Seen, what: &What, node: NodeId) -> Undertaking {
    let (mut held, mut all, mut is_stuck) = (0, 0, true);
    for (group, shard, _) in roster.shards() {
        all += 1;
        if shard.is_held_by(node) {
            held += 1;
            is_stuck &= shard.stage == Stage::Settled && !seen.next.contains(&group);
        }
    }
    let standing = match (held, is_stuck) {
        (0, _) => Standing::Done,
        (_, true) => Standing::Waiting,
        (_, false) => Standing::Running,
    };
    let why = (standing == Standing::Waiting).then(|| match roster.moves_at_once() {
        0 => "nothing is moved while the setting moves-at-once is 0".to_owned(),
        _ => "no other member can take the rest: let another node join".to_owned(),
    });
    Undertaking { why, ..Undertaking::new(what, standing, (all - held, all, "shards")) }
}

/// How far a replica is taken again: the group lets go of it, it is erased, it is filled.
fn repair(
    roster: &Roster,
    seen: &Seen,
    what: &What,
    group: GroupId,
    node: NodeId,
) -> Option<Undertaking> {
    present(roster, node)?;
    let at = |step| Some(Undertaking::new(what, Standing::Running, (step, 3, "steps")));
    match roster.repair(group).filter(|(repair, _)| repair.node == node) {
        Some((repair, _)) if repair.stage == RepairStage::Asked => return at(0),
        Some(_) => return at(1),
        None => {}
    }
    roster.part(group, node)?;
    let is_outside = seen.inside.get(&group).is_some_and(|inside| !inside.contains(&node));
    match is_outside || seen.filling.contains(&(group, node)) {
        true => at(2),
        false => Some(Undertaking::simply(what, Standing::Done)),
    }
}

/// How far a shard is on its way: of those that come and those that go, how many have.
fn moved(seen: &Seen, what: &What, group: GroupId, shard: &Shard) -> Undertaking {
    let inside = seen.inside.get(&group);
    let is_in = |node: &&NodeId| inside.is_some_and(|inside| inside.contains(node));
    let come = shard.replicas.iter().filter(is_in).count();
    let gone = shard.leaving.iter().filter(|node| inside.is_some() && !is_in(node)).count();
    let of = shard.replicas.len() + shard.leaving.len();
    let absent = shard.replicas.iter().find(|node| seen.silent.contains(node) && !is_in(node));
    let standing = if absent.is_some() { Standing::Waiting } else { Standing::Running };
    let why = absent.map(|node| format!("node {node}, which is to hold it, can't be heard"));
    let progress = ((come + gone) as u64, of as u64, "replicas");
    Undertaking { why, ..Undertaking::new(what, standing, progress) }
}
