//! Choices from a seeded sequence.

use std::time::Duration;

use aspen::seams::Random;

/// A source of choices.
#[derive(Clone, Debug)]
pub struct Dice(Random);

impl Dice {
    /// Choices from a sequence.
    pub fn new(random: Random) -> Self {
        Dice(random)
    }

    /// The dice of a seed and a purpose: what one part draws does not move another's sequence.
    pub fn of(seed: u64, purpose: u64) -> Self {
        Dice(random_of(seed, purpose))
    }

    /// A number below a bound that is not 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// A number between two, both included; the first if they are the wrong way round.
    pub fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True so many times in a hundred.
    pub fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// A length of time below a bound, which is 0 if that is.
    pub fn time_below(&self, bound: Duration) -> Duration {
        Duration::from_millis(self.below(bound.as_millis().max(1) as u64))
    }

    /// Puts things in any order.
    pub fn shuffle<T>(&self, things: &mut [T]) {
        for at in (1..things.len()).rev() {
            things.swap(at, self.below(at as u64 + 1) as usize);
        }
    }

    /// One of several.
    pub fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The sequence of a seed and a purpose.
pub fn random_of(seed: u64, purpose: u64) -> Random {
    Random::from_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose)
}
