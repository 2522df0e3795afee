//! Does a read of a set show all that was added, once, and nothing else?
//!
//! An element is known from the moment that whoever added it was told, or anybody saw it: every
//! read that begins later must show it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::{Told, Violation};

/// What a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Adds an element; each is added at most once in a run.
    Add(u64),
    /// Reads all of them.
    Read,
}

/// What a call that was done answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was added.
    Added,
    /// What was there, as it was answered.
    Saw(Vec<u64>),
}

/// One call.
pub type Call = super::Call<Asked, Answer>;

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Add(element) => write!(f, "add {element}"),
            Asked::Read => f.write_str("read the set"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Added => f.write_str("added"),
            // A set may be large, and what is wrong with it is said beside it.
            Answer::Saw(elements) => write!(f, "saw {} elements", elements.len()),
        }
    }
}

/// Checks a history of one set, which begins empty.
pub fn check(calls: &[Call]) -> Result<(), Violation> {
    let mut added: BTreeMap<u64, &Call> = BTreeMap::new();
    // Since when each element is known, and who knew it first.
    let mut known: BTreeMap<u64, (u64, &Call)> = BTreeMap::new();
    let mut learn = |element: u64, call| {
        let first = known.entry(element).or_insert((u64::MAX, call));
        if call.ended < first.0 {
            *first = (call.ended, call);
        }
    };
    for call in calls {
        match (call.asked, call.answer()) {
            (Asked::Add(element), answer) => {
                added.insert(element, call);
                answer.into_iter().for_each(|_| learn(element, call));
            }
            (Asked::Read, Some(Answer::Saw(elements))) => {
                elements.iter().for_each(|element| learn(*element, call));
            }
            (Asked::Read, _) => {}
        }
    }
    let mut by_moment: Vec<u64> = known.values().map(|(since, _)| *since).collect();
    by_moment.sort_unstable();
    for call in calls {
        let Some(Answer::Saw(elements)) = call.answer() else { continue };
        let mut seen = HashSet::new();
        for element in elements {
            if !seen.insert(*element) {
                let what = format!("{element} is in the set twice");
                return Err(Violation::new(what, [call]));
            }
            let broken = match added.get(element) {
                None => Some(format!("{element} is in the set, and nobody added it")),
                Some(by) if by.told == Told::Not => {
                    Some(format!("{element} is in the set, and was not added"))
                }
                Some(by) if by.began > call.ended => {
                    Some(format!("{element} is in the set before it was added"))
                }
                Some(_) => None,
            };
            if let Some(what) = broken {
                return Err(Violation::new(what, added.get(element).into_iter().chain([&call])));
            }
        }
        let is_known = |element: &&u64| known[*element].0 < call.began;
        let expected = by_moment.partition_point(|since| *since < call.began);
        if seen.iter().filter(is_known).count() < expected {
            let missing = known
                .iter()
                .find(|(element, (since, _))| *since < call.began && !seen.contains(*element));
            let (element, (_, by)) = missing.expect("fewer were seen than were known");
            let what = format!("{element} is missing in the set");
            return Err(Violation::new(what, [by, call]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Asked::{Add, Read};
    use super::*;

    /// What is said of a history of calls as moments, what was asked and what was told.
    fn found(calls: &[(u64, u64, Asked, Told<Answer>)]) -> Option<String> {
        let call = |(began, ended, asked, told): &(u64, u64, Asked, Told<Answer>)| {
            let ended = if *told == Told::Unknown { u64::MAX } else { *ended };
            Call { client: 0, asked: *asked, began: *began, ended, told: told.clone() }
        };
        let calls: Vec<Call> = calls.iter().map(call).collect();
        check(&calls).err().map(|violation| violation.what)
    }

    fn saw(elements: &[u64]) -> Told<Answer> {
        Told::Done(Answer::Saw(elements.to_vec()))
    }

    const ADDED: Told<Answer> = Told::Done(Answer::Added);

    #[test]
    fn what_was_added_is_there_once() {
        let read = |elements| found(&[(1, 2, Add(7), ADDED), (3, 4, Read, saw(elements))]);
        assert_eq!(read(&[7]), None);
        assert_eq!(read(&[]).as_deref(), Some("7 is missing in the set"));
        assert_eq!(read(&[7, 7]).as_deref(), Some("7 is in the set twice"));
        assert_eq!(read(&[7, 8]).as_deref(), Some("8 is in the set, and nobody added it"));
    }

    #[test]
    fn what_overlaps_may_be_seen_or_not_and_then_everyone_sees_it() {
        for add in [(1, 9, Add(7), ADDED), (1, 0, Add(7), Told::Unknown)] {
            let read = |first, then| {
                found(&[add.clone(), (2, 3, Read, saw(first)), (4, 5, Read, saw(then))])
            };
            assert_eq!(read(&[], &[]), None);
            assert_eq!(read(&[], &[7]), None);
            assert_eq!(read(&[7], &[]).as_deref(), Some("7 is missing in the set"));
        }
    }

    #[test]
    fn what_was_refused_or_comes_later_is_not_there() {
        let refused = found(&[(1, 2, Add(7), Told::Not), (3, 4, Read, saw(&[7]))]);
        assert_eq!(refused.as_deref(), Some("7 is in the set, and was not added"));
        let later = found(&[(1, 2, Read, saw(&[7])), (3, 4, Add(7), ADDED)]);
        assert_eq!(later.as_deref(), Some("7 is in the set before it was added"));
    }
}
