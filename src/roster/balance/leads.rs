//! Who leads each shard, of those that hold it: evenly by count, and of the ways to do that one in which
//! no member has much more to do than others.
//!
//! Counts come first, because they are certain and loads are hearsay: a lead is moved for its load only
//! in exchange for another, or where the counts are even after it all the same. One exchange is planned
//! at a time, of leads that have rested, and only if the larger load of both members becomes less by a
//! fifth. So each lowers what is uneven by a part of itself, and there is an end: where one busy shard is
//! all that its leader has to do, nothing is better.

use std::collections::{BTreeMap, VecDeque};

use super::{FULLNESS, Plan, Why};
use crate::limits::{LOAD_GAIN_OF, LOAD_GAIN_TO};
use crate::types::{GroupId, NodeId};

/// A lead for its load, and another in return.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    from: NodeId,
    to: NodeId,
    given: GroupId,
    returned: Option<GroupId>,
}

impl Plan<'_> {
    /// Spreads the leads over those that hold the shards.
    pub(super) fn lead(&mut self) {
        let groups: Vec<GroupId> = self.shards.keys().copied().collect();
        for group in &groups {
            let planned = &self.shards[group];
            let may_lead = |node: &NodeId| {
                planned.replicas.contains(node) && self.nodes.get(node).is_some_and(|n| n.leads_any)
            };
            if planned.replicas.is_empty() || planned.leader.as_ref().is_some_and(may_lead) {
                continue;
            }
            let candidates = planned.replicas.iter().filter(|node| may_lead(node)).copied();
            let mut least = candidates
                .min_by_key(|node| (!self.nodes[node].takes, self.lead_fullness(*node), *node));
            if least.is_none() {
                // One that is full leads if nobody else can, and if possible the one that does.
                let full = planned.replicas.iter().copied().filter(|node| self.is_only_full(*node));
                least = full.min_by_key(|node| (planned.leader != Some(*node), *node));
            }
            let why = match planned.leader {
                None => Why::Place,
                Some(leader) if self.is_only_full(leader) => Why::Space,
                Some(_) => Why::Members,
            };
            self.set_leader(*group, least, why);
        }
        while let Some(chain) = self.lead_chain() {
            for (group, to) in chain {
                self.set_leader(group, Some(to), Why::Count);
            }
        }
    }

    /// Whether a member could lead but for its disk.
    fn is_only_full(&self, node: NodeId) -> bool {
        let duty = self.roster.duty(node);
        self.nodes.contains_key(&node)
            && self.facts.full.contains(&node)
            && !self.facts.lost.contains(&node)
            && !duty.maintenance
    }

    /// Shards whose leads are handed on, each to the next, so that in the end one member leads one
    /// less and another that led at least two less leads one more.
    fn lead_chain(&self) -> Option<Vec<(GroupId, NodeId)>> {
        let mut givers: Vec<NodeId> = self.nodes.keys().copied().collect();
        givers.sort_by_key(|node| std::cmp::Reverse(self.lead_fullness(*node)));
        givers.into_iter().find_map(|giver| self.lead_chain_from(giver))
    }

    fn lead_chain_from(&self, giver: NodeId) -> Option<Vec<(GroupId, NodeId)>> {
        let from = &self.nodes[&giver];
        let mut came_by: BTreeMap<NodeId, (GroupId, NodeId)> = BTreeMap::new();
        let mut queue = VecDeque::from([giver]);
        while let Some(node) = queue.pop_front() {
            let here = &self.nodes[&node];
            if node != giver && from.leads * here.weight > (here.leads + 1) * from.weight {
                let mut chain = Vec::new();
                let mut at = node;
                while at != giver {
                    let (group, before) = came_by[&at];
                    chain.push((group, at));
                    at = before;
                }
                return Some(chain);
            }
            for (group, planned) in &self.shards {
                if planned.leader != Some(node) {
                    continue;
                }
                for next in &planned.replicas {
                    let may = self.nodes.get(next).is_some_and(|node| node.takes);
                    if may && *next != giver && !came_by.contains_key(next) {
                        came_by.insert(*next, (*group, node));
                        queue.push_back(*next);
                    }
                }
            }
        }
        None
    }

    /// Moves the lead of a busy shard from a member that has much to do to one that has less.
    pub(super) fn spread_load(&mut self) {
        if self.facts.loads.is_empty() {
            return;
        }
        let busy = self.busy();
        let mut givers: Vec<NodeId> = busy.keys().copied().collect();
        givers.sort_by_key(|node| (std::cmp::Reverse(self.business(*node, busy[node])), *node));
        let found = givers.into_iter().find_map(|giver| self.best_exchange(giver, &busy));
        if let Some(Exchange { from, to, given, returned }) = found {
            self.set_leader(given, Some(to), Why::Load);
            if let Some(returned) = returned {
                self.set_leader(returned, Some(from), Why::Load);
            }
        }
    }

    /// How much the members have to do that lead, or could.
    fn busy(&self) -> BTreeMap<NodeId, u64> {
        let able = self.nodes.iter().filter(|(_, facts)| facts.takes);
        let mut busy: BTreeMap<NodeId, u64> = able.map(|(node, _)| (*node, 0)).collect();
        for (group, planned) in &self.shards {
            if let Some(busy) = planned.leader.and_then(|leader| busy.get_mut(&leader)) {
                *busy += self.load(*group);
            }
        }
        busy
    }

    fn load(&self, group: GroupId) -> u64 {
        self.facts.loads.get(&group).copied().unwrap_or(0)
    }

    /// So much to do, for a member's weight; comparable between members.
    fn business(&self, node: NodeId, load: u64) -> u64 {
        self.nodes.get(&node).map_or(u64::MAX, |node| load.saturating_mul(FULLNESS) / node.weight)
    }

    /// The exchange after which the busier of both has least to do; of several the one that moves
    /// least work.
    fn best_exchange(&mut self, from: NodeId, busy: &BTreeMap<NodeId, u64>) -> Option<Exchange> {
        let before = self.business(from, busy[&from]);
        let mut found: Vec<(u64, u64, Exchange)> = Vec::new();
        for given in self.led_and_rested(from).filter(|given| self.load(*given) > 0) {
            let holders = self.shards[&given].replicas.iter();
            for to in holders.copied().filter(|to| *to != from && busy.contains_key(to)) {
                let back = self.led_and_rested(to);
                let back = back.filter(|group| self.shards[group].replicas.contains(&from));
                for returned in back.map(Some).chain([None]) {
                    let load = returned.map_or(0, |returned| self.load(returned));
                    let left = busy[&from] - self.load(given) + load;
                    let then = busy[&to] + self.load(given) - load;
                    let after = self.business(from, left).max(self.business(to, then));
                    if after.saturating_mul(LOAD_GAIN_OF) <= before.saturating_mul(LOAD_GAIN_TO) {
                        let moved = self.load(given) + load;
                        let exchange = Exchange { from, to, given, returned };
                        found.push((after, moved, exchange));
                    }
                }
            }
        }
        found.sort_by_key(|(after, moved, exchange)| {
            (*after, *moved, exchange.returned, exchange.given, exchange.to)
        });
        // Without one in return the counts must be even all the same.
        found.into_iter().map(|(_, _, exchange)| exchange).find(|exchange| {
            exchange.returned.is_some() || self.stays_even(exchange.given, exchange.to)
        })
    }

    /// The shards that a member is to lead and whose leads may be moved for their loads.
    fn led_and_rested(&self, node: NodeId) -> impl Iterator<Item = GroupId> {
        let led = self.shards.iter().filter(move |(_, planned)| planned.leader == Some(node));
        let rested = led.filter(|(group, planned)| {
            planned.why.is_none() && planned.settled && !self.facts.resting.contains(group)
        });
        rested.map(|(group, _)| *group)
    }

    /// Whether leads are spread as evenly by count as they can be if this member leads this shard.
    fn stays_even(&mut self, group: GroupId, leader: NodeId) -> bool {
        let planned = self.shards[&group].clone();
        self.set_leader(group, Some(leader), Why::Load);
        let is_even = self.lead_chain().is_none();
        self.set_leader(group, planned.leader, Why::Load);
        self.shards.insert(group, planned);
        is_even
    }
}
