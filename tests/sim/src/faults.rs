//! What goes wrong, when, by the seed.
//!
//! Faults come one after another with pauses between, and last a while; several may be under way
//! at once. Whom they hit is chosen when they come: leaders are hit more often than chance would
//! have it, as what is worth finding happens to them.

use aspen_sim::dice::Dice;
use aspen_sim::shrink::Numbers;

use crate::network::{HostId, Way, Weather};

/// The longest pause between faults.
const PAUSE_MS_MAX: u64 = 1_200;

/// The network when nothing is wrong.
pub(crate) const FAIR: Weather = Weather { delay_ms_max: 4, lost_permille: 2, again_ms_max: 60 };
const FOUL: Weather = Weather { delay_ms_max: 30, lost_permille: 100, again_ms_max: 400 };

/// The longest that a sync takes when nothing is wrong.
pub(crate) const SYNC_MS_MAX: u64 = 3;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A node loses power after so many calls of its disk, or at once, and comes back.
    Crash { host: HostId, after_calls: Option<u64>, down_ms: u64 },
    /// Several nodes lose power at one moment, and come back.
    Outage { hosts: Vec<HostId>, down_ms: u64 },
    /// A process is killed, and started again; its machine goes on.
    Kill { host: HostId, down_ms: u64 },
    /// A process stands still for a time, and its clock does not.
    Pause { host: HostId, for_ms: u64 },
    /// Nothing gets through in these directions, for a time.
    Cut { ways: Vec<Way>, for_ms: u64 },
    /// The links between two nodes break; they may be made again.
    Break { one: HostId, other: HostId },
    /// A node's syncs take long, for a time.
    Slow { host: HostId, sync_ms_max: u64, for_ms: u64 },
    /// A node's disk has no room, for a time.
    Full { host: HostId, for_ms: u64 },
    /// A sync of a node fails, after some that don't.
    FailSync { host: HostId, after: u64 },
    /// Packets take long and get lost, for a time.
    Foul { weather: Weather, for_ms: u64 },
}

/// Chooses faults, and numbers them.
pub(crate) struct Faults {
    dice: Dice,
    next_ms: u64,
    /// How many were chosen.
    pub(crate) count: u64,
    /// Those that are chosen and do not come: the dice fall for the others as they did with them.
    left_out: Numbers,
}

/// Whom faults may hit.
#[derive(Clone, Copy)]
struct Hosts<'a> {
    all: &'a [HostId],
    /// Those that lead something, once for each group.
    leaders: &'a [HostId],
}

impl Faults {
    pub(crate) fn new(dice: Dice, left_out: Numbers) -> Self {
        Faults { dice, next_ms: 0, count: 0, left_out }
    }

    /// The fault that comes now, if one does.
    pub(crate) fn next(
        &mut self,
        now_ms: u64,
        all: &[HostId],
        leaders: &[HostId],
    ) -> Option<Fault> {
        if now_ms < self.next_ms {
            return None;
        }
        self.next_ms = now_ms + self.dice.between(20, PAUSE_MS_MAX);
        let fault = self.choose(Hosts { all, leaders });
        self.count += 1;
        (!self.left_out.contains(self.count)).then_some(fault)
    }

    fn choose(&self, hosts: Hosts<'_>) -> Fault {
        match self.dice.below(100) {
            0..28 => self.crash(hosts),
            28..38 => {
                Fault::Kill { host: self.victim(hosts), down_ms: self.dice.between(1, 2_000) }
            }
            38..46 => self.pause(hosts),
            46..63 => self.cut(hosts),
            63..67 => self.break_links(hosts),
            67..82 => self.slow(hosts),
            82..87 => {
                Fault::Full { host: self.victim(hosts), for_ms: self.dice.between(200, 5_000) }
            }
            87..92 => Fault::FailSync { host: self.victim(hosts), after: self.dice.below(20) },
            _ => Fault::Foul { weather: FOUL, for_ms: self.dice.between(100, 2_000) },
        }
    }

    fn victim(&self, hosts: Hosts<'_>) -> HostId {
        let Hosts { all, leaders } = hosts;
        *self.dice.pick(if !leaders.is_empty() && self.dice.percent(50) { leaders } else { all })
    }

    /// Mostly shorter than anybody waits before standing for election.
    fn crash(&self, hosts: Hosts<'_>) -> Fault {
        let long = self.dice.percent(30);
        let down_ms = if long { self.dice.between(500, 4_000) } else { self.dice.between(1, 300) };
        if self.dice.percent(15) {
            let hit_percent = *self.dice.pick(&[60, 100]);
            let is_hit = |_: &HostId| self.dice.percent(hit_percent);
            return Fault::Outage {
                hosts: hosts.all.iter().copied().filter(is_hit).collect(),
                down_ms,
            };
        }
        let after_calls = self.dice.percent(60).then(|| self.dice.below(12));
        Fault::Crash { host: self.victim(hosts), after_calls, down_ms }
    }

    /// Sometimes longer than a leader's lease, and than anybody waits for it.
    fn pause(&self, hosts: Hosts<'_>) -> Fault {
        let long = self.dice.percent(40);
        let for_ms = self.dice.between(20, if long { 5_000 } else { 900 });
        Fault::Pause { host: self.victim(hosts), for_ms }
    }

    fn cut(&self, hosts: Hosts<'_>) -> Fault {
        let alone = self.victim(hosts);
        let others = hosts.all.iter().copied().filter(|host| *host != alone);
        let kind = self.dice.below(4);
        let cut = |other| {
            let (out, back) = (Way { from: alone, to: other }, Way { from: other, to: alone });
            match kind {
                0 => vec![out],
                1 => vec![back],
                _ => vec![out, back],
            }
        };
        let mut ways: Vec<Way> = others.flat_map(cut).collect();
        if self.dice.percent(25) {
            // Only one of the others.
            ways.truncate(if kind < 2 { 1 } else { 2 });
        }
        let long = self.dice.percent(30);
        let for_ms = self.dice.between(50, if long { 8_000 } else { 2_000 });
        Fault::Cut { ways, for_ms }
    }

    fn break_links(&self, hosts: Hosts<'_>) -> Fault {
        let one = *self.dice.pick(hosts.all);
        let others: Vec<HostId> = hosts.all.iter().copied().filter(|host| *host != one).collect();
        Fault::Break { one, other: *self.dice.pick(&others) }
    }

    fn slow(&self, hosts: Hosts<'_>) -> Fault {
        let host = self.victim(hosts);
        let sync_ms_max = self.dice.between(30, 300);
        Fault::Slow { host, sync_ms_max, for_ms: self.dice.between(300, 4_000) }
    }
}
