//! Which of many things a failure needs: lists of their numbers, and how such a list is made
//! smaller. Nothing here knows what the things are, or what fails.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Some numbers, written as `1-9,11`; none as nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(Vec<RangeInclusive<u64>>);

impl Numbers {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, number: u64) -> bool {
        self.0.iter().any(|range| range.contains(&number))
    }
}

/// Of numbers in ascending order.
impl FromIterator<u64> for Numbers {
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        let mut ranges: Vec<RangeInclusive<u64>> = Vec::new();
        for number in numbers {
            match ranges.last_mut() {
                Some(last) if *last.end() + 1 == number => *last = *last.start()..=number,
                _ => ranges.push(number..=number),
            }
        }
        Numbers(ranges)
    }
}

impl FromStr for Numbers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Numbers::default());
        }
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.parse().ok()?, last.parse().ok()?);
            (first <= last).then_some(first..=last)
        };
        let ranges = text.split(',').map(range).collect::<Option<_>>();
        ranges.map(Numbers).ok_or_else(|| format!("{text:?} is no list such as 1-9,11"))
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, range) in self.0.iter().enumerate() {
            let (first, last) = (range.start(), range.end());
            f.write_str(if nth > 0 { "," } else { "" })?;
            match first == last {
                true => write!(f, "{first}")?,
                false => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// Leaves away of some things, all of which together fail, what the failure does not need: first
/// large parts of them, then smaller ones, down to each alone (delta debugging, by Zeller and
/// Hildebrandt). `first_failing` is asked for the first of several lists that fails, too.
pub fn smallest<T: Clone>(
    things: Vec<T>,
    mut first_failing: impl FnMut(&[Vec<T>]) -> io::Result<Option<usize>>,
) -> io::Result<Vec<T>> {
    let mut kept = things;
    if kept.is_empty() || first_failing(&[Vec::new()])?.is_some() {
        return Ok(Vec::new());
    }
    let mut parts = 2;
    while kept.len() > 1 {
        let size = kept.len().div_ceil(parts);
        let without = |from: usize| {
            let to = kept.len().min(from + size);
            [&kept[..from], &kept[to..]].concat()
        };
        let mut lists: Vec<Vec<T>> = (0..kept.len()).step_by(size).map(without).collect();
        match first_failing(&lists)? {
            Some(fails) => {
                kept = lists.swap_remove(fails);
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (2 * parts).min(kept.len()),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for text in ["", "1", "1-9,11", "3,5,7-8", "0-18446744073709551615"] {
            let numbers: Numbers = text.parse().expect("a list");
            assert_eq!(numbers.to_string(), text);
        }
        for text in [",", "a", "1,", "-", "1-", "3-2", "1..4", "18446744073709551616"] {
            assert!(text.parse::<Numbers>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn neighbours_are_written_as_one() {
        let numbers: Numbers = [1, 2, 3, 5, 8, 9].into_iter().collect();
        assert_eq!(numbers.to_string(), "1-3,5,8-9");
        let held: Vec<u64> = (0..12).filter(|number| numbers.contains(*number)).collect();
        assert_eq!(held, [1, 2, 3, 5, 8, 9]);
        assert!(Numbers::from_iter([]).is_empty());
    }

    /// What is left of 40 things, if it fails when this says so; and how many lists were asked for.
    fn left(fails: impl Fn(&[u64]) -> bool) -> (Vec<u64>, usize) {
        let mut asked = 0;
        let first_failing = |lists: &[Vec<u64>]| {
            asked += lists.len();
            Ok(lists.iter().position(|list| fails(list)))
        };
        (smallest((1..=40).collect(), first_failing).expect("no IO"), asked)
    }

    #[test]
    fn what_a_failure_needs_is_left_and_nothing_else() {
        for needed in [vec![], vec![1], vec![40], vec![17, 18], vec![3, 20, 39], vec![5, 6, 7, 31]]
        {
            let (left, asked) = left(|list| needed.iter().all(|one| list.contains(one)));
            assert_eq!(left, needed);
            assert!(asked <= 120, "{asked} lists for {needed:?}");
        }
    }

    #[test]
    fn each_of_what_is_left_is_needed_though_others_would_do() {
        // Any three of one residue fail.
        let fails = |list: &[u64]| {
            (0..4).any(|residue| list.iter().filter(|one| **one % 4 == residue).count() >= 3)
        };
        let (left, _) = left(fails);
        assert_eq!(left.len(), 3, "{left:?}");
    }

    #[test]
    fn what_is_asked_no_more_stays() {
        assert_eq!(smallest(vec![1, 2, 3], |_| Ok(None)).expect("no IO"), [1, 2, 3]);
        assert!(smallest(vec![1, 2, 3], |_| Err(io::ErrorKind::Other.into())).is_err());
    }
}
