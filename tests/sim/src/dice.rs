//! Choices from a seeded sequence.

use aspen::seams::Random;

/// A source of choices.
#[derive(Clone, Debug)]
pub(crate) struct Dice(Random);

impl Dice {
    pub(crate) fn new(random: Random) -> Self {
        Dice(random)
    }

    /// The dice of a seed and a purpose: what one part draws does not move another's sequence.
    pub(crate) fn of(seed: u64, purpose: u64) -> Self {
        Dice(random_of(seed, purpose))
    }

    /// A number below a bound that is not 0.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.0.next_u64() % bound
    }

    /// A number between two, both included; the first if they are the wrong way round.
    pub(crate) fn between(&self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True so many times in a hundred.
    pub(crate) fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of several.
    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// The sequence of a seed and a purpose.
pub(crate) fn random_of(seed: u64, purpose: u64) -> Random {
    Random::from_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ purpose)
}
