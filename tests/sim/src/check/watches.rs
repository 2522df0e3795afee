//! Did every watcher see every change of its keys, once, in order, and as a whole?
//!
//! What happened is what one watcher saw who, after all the others, was shown everything from the
//! beginning. It is held against what writers were told, and every other watcher against it:
//!
//! - Changes come in the order of their revisions, those of one revision together, none after the
//!   watcher was told that everything up to it was shown.
//! - From where a watch began to where it ended nothing is missing and nothing is added, also
//!   where it was cancelled and went on. Of history that was compacted before the end, what writers
//!   were told stands for what happened.
//! - Only keys that were asked for are shown, and what was there before as it was, if asked for.
//! - What was acknowledged is there, at its revision, and no write is there twice.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::{Told, Violation};

/// One change that a call makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of which key.
    pub key: String,
    /// Its new value, which no other write of the run has; `None` deletes it.
    pub value: Option<u64>,
}

/// What a call changes, all at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked(pub Vec<Change>);

/// What a call that was done answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The revision; `None` if there was nothing to delete.
    pub revision: Option<u64>,
}

/// One call.
pub type Call = super::Call<Asked, Answer>;

/// What a key holds, with its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The value.
    pub value: u64,
    /// The revision that created the key.
    pub created: u64,
    /// The revision that wrote it last.
    pub modified: u64,
    /// How often it was written since it was created.
    pub version: u64,
}

/// One change as a watcher sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub revision: u64,
    /// Of which key.
    pub key: String,
    /// What it holds now; `None` if it was deleted.
    pub held: Option<Held>,
    /// What it held before, if that was asked for.
    pub before: Option<Held>,
}

/// Changes that a watcher is shown together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Everything up to this revision was shown.
    pub upto: u64,
    /// The changes.
    pub events: Vec<Event>,
}

/// A watch from its beginning to its end; one that goes on is another.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Whose it is.
    pub client: u64,
    /// Which keys: how they begin.
    pub prefix: String,
    /// What keys held before is to be shown.
    pub shows_before: bool,
    /// The moment after it began.
    pub began: u64,
    /// The first revision that it has to show, as it was asked or told.
    pub from: u64,
    /// What was shown.
    pub batches: Vec<Batch>,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Change { key, value }) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match value {
                Some(value) => write!(f, "put {value} in {key}")?,
                None => write!(f, "delete {key}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.revision {
            Some(revision) => write!(f, "at revision {revision}"),
            None => f.write_str("nothing was there"),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Held { value, created, modified, version } = self;
        write!(f, "{value} (version {version}, created at {created}, written at {modified})")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}: {} ", self.revision, self.key)?;
        match &self.held {
            Some(held) => write!(f, "holds {held}")?,
            None => f.write_str("is deleted")?,
        }
        self.before.iter().try_for_each(|before| write!(f, ", before {before}"))
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Watch { client, prefix, from, .. } = self;
        write!(f, "client {client} watches {prefix} from revision {from} to {}", self.upto())
    }
}

impl Watch {
    /// Up to where it was shown everything.
    pub fn upto(&self) -> u64 {
        self.batches.last().map_or(self.from.saturating_sub(1), |batch| batch.upto)
    }

    fn events(&self) -> impl Iterator<Item = &Event> {
        self.batches.iter().flat_map(|batch| &batch.events)
    }

    fn broken(&self, what: impl Into<String>, events: &[&Event]) -> Violation {
        let events = events.iter().map(ToString::to_string);
        Violation::new(what, [self.to_string()].into_iter().chain(events))
    }

    /// What needs nothing but the watch itself.
    fn check_alone(&self) -> Result<(), Violation> {
        let mut upto = self.from.saturating_sub(1);
        for batch in &self.batches {
            if batch.upto < upto {
                let what = format!("a watch goes back from {upto} to {}", batch.upto);
                return Err(self.broken(what, &[]));
            }
            let mut last: Option<&Event> = None;
            for event in &batch.events {
                let what = if event.revision <= upto {
                    "a change is shown after everything up to it was"
                } else if event.revision > batch.upto {
                    "a change is shown before its time"
                } else if last.is_some_and(|last| last.revision > event.revision) {
                    "changes are out of order"
                } else if !event.key.starts_with(&self.prefix) {
                    "a key is shown that was not asked for"
                } else if event.before.is_some() && !self.shows_before {
                    "what was before is shown unasked"
                } else {
                    last = Some(event);
                    continue;
                };
                return Err(self.broken(what, &[event]));
            }
            upto = batch.upto;
        }
        Ok(())
    }
}

/// Checks what watchers saw, and what writers were told, against what happened.
pub fn check(calls: &[Call], happened: &Watch, watches: &[Watch]) -> Result<(), Violation> {
    for watch in watches.iter().chain([happened]) {
        watch.check_alone()?;
    }
    check_chains(happened)?;
    check_writes(calls, happened)?;
    check_time(calls)?;
    for watch in watches {
        check_against(happened, watch)?;
        check_compacted(calls, happened, watch)?;
        check_beginning(calls, watch)?;
    }
    Ok(())
}

/// What each key holds follows from what it held before.
fn check_chains(happened: &Watch) -> Result<(), Violation> {
    let mut keys: HashMap<&str, Option<Held>> = HashMap::new();
    for event in happened.events() {
        let before = match keys.insert(&event.key, event.held) {
            Some(before) => before,
            // What was there before the first revision is not known, if there was one.
            None if happened.from > 1 => continue,
            None => None,
        };
        let expected = |held: Held| Held {
            value: held.value,
            created: before.map_or(event.revision, |before| before.created),
            modified: event.revision,
            version: before.map_or(0, |before| before.version) + 1,
        };
        let what = match event.held {
            _ if event.before != before => "what was before is not what was before",
            None if before.is_none() => "what is deleted was not there",
            Some(held) if held != expected(held) => "a record's counters do not go on",
            _ => continue,
        };
        return Err(happened.broken(what, &[event]));
    }
    Ok(())
}

/// What happened is what writers asked for, at the revisions that they were told.
fn check_writes(calls: &[Call], happened: &Watch) -> Result<(), Violation> {
    let mut at_revision: BTreeMap<u64, Vec<&Event>> = BTreeMap::new();
    for event in happened.events() {
        at_revision.entry(event.revision).or_default().push(event);
    }
    let mut writes: HashMap<u64, &Call> = HashMap::new();
    // How often a key may have been deleted without anybody being told.
    let mut deletes: HashMap<&str, u64> = HashMap::new();
    for call in calls {
        for Change { key, value } in &call.asked.0 {
            match value {
                Some(value) => drop(writes.insert(*value, call)),
                None if call.told == Told::Unknown => *deletes.entry(key).or_default() += 1,
                None => {}
            }
        }
        let Some(Answer { revision: Some(revision) }) = call.answer() else { continue };
        if *revision < happened.from {
            continue;
        }
        let events = at_revision.get(revision).map_or(&[][..], Vec::as_slice);
        let is_shown = |change: &Change| {
            let is_it = |event: &&&Event| event.key == change.key;
            let held = events.iter().find(is_it).map(|event| event.held.map(|held| held.value));
            held == Some(change.value)
        };
        if events.len() != call.asked.0.len() || !call.asked.0.iter().all(is_shown) {
            let what = format!("revision {revision} is not what a writer was told");
            let shown = events.iter().map(ToString::to_string);
            return Err(Violation::new(what, [call.to_string()].into_iter().chain(shown)));
        }
        // What is left was done by those who were not told.
        at_revision.remove(revision);
    }
    let mut done: HashMap<u64, &Event> = HashMap::new();
    for event in at_revision.into_values().flatten() {
        let what = match event.held.map(|held| writes.get(&held.value)) {
            Some(None) => "nobody asked for a change",
            Some(Some(call)) if call.told == Told::Not => {
                "a change was not done, a writer was told"
            }
            Some(Some(call)) if call.answer().is_some() => "a change is there once more",
            Some(Some(call)) => {
                let value = event.held.map(|held| held.value).unwrap_or_default();
                match done.insert(value, event) {
                    Some(_) => "a change is there twice",
                    None if !call.asked.0.iter().any(|change| change.key == event.key) => {
                        "a value is in another key"
                    }
                    None => continue,
                }
            }
            None => match deletes.get_mut(event.key.as_str()) {
                Some(left) if *left > 0 => {
                    *left -= 1;
                    continue;
                }
                _ => "nobody asked for a deletion",
            },
        };
        return Err(happened.broken(what, &[event]));
    }
    Ok(())
}

/// What was done before has an earlier revision.
fn check_time(calls: &[Call]) -> Result<(), Violation> {
    let revision = |call: &Call| call.answer()?.revision;
    let mut ended: Vec<&Call> = calls.iter().filter(|call| revision(call).is_some()).collect();
    let mut begun = ended.clone();
    ended.sort_unstable_by_key(|call| call.ended);
    begun.sort_unstable_by_key(|call| call.began);
    let mut ended = ended.into_iter().peekable();
    let mut latest: Option<&Call> = None;
    for call in begun {
        while let Some(before) = ended.next_if(|before| before.ended < call.began) {
            if latest.is_none_or(|latest| revision(latest) < revision(before)) {
                latest = Some(before);
            }
        }
        if let Some(latest) = latest
            && revision(latest) >= revision(call)
        {
            return Err(Violation::new("a later write has an earlier revision", [latest, call]));
        }
    }
    Ok(())
}

/// A watcher saw what happened to its keys in its time.
fn check_against(happened: &Watch, watch: &Watch) -> Result<(), Violation> {
    let from = watch.from.max(happened.from);
    let upto = watch.upto().min(happened.upto());
    let is_in_time = |event: &&Event| (from..=upto).contains(&event.revision);
    let place = |event: &Event| (event.revision, event.key.clone());
    let as_shown = |event: &Event| {
        let before = event.before.filter(|_| watch.shows_before);
        Event { before, ..event.clone() }
    };
    let mut expected: Vec<Event> = happened
        .events()
        .filter(is_in_time)
        .filter(|event| event.key.starts_with(&watch.prefix))
        .map(as_shown)
        .collect();
    let mut shown: Vec<&Event> = watch.events().filter(is_in_time).collect();
    // Those of one revision come in any order.
    expected.sort_by_cached_key(place);
    shown.sort_by_cached_key(|event| place(event));
    let mut shown = shown.into_iter().peekable();
    for event in &expected {
        match shown.next() {
            Some(same) if same == event => {}
            Some(other) if place(other) == place(event) => {
                // It is gone with the history that had it.
                let is_gone = |before: Held| before.modified < happened.from;
                let is_compacted = happened.from > 1 && event.before.is_none_or(is_gone);
                if other.held != event.held || !is_compacted {
                    return Err(watch.broken("a change is not what happened", &[event, other]));
                }
            }
            Some(other) if place(other) < place(event) => {
                return Err(watch.broken("a change is shown that did not happen", &[other]));
            }
            _ => return Err(watch.broken("a watcher missed a change", &[event])),
        }
    }
    match shown.next() {
        Some(other) => Err(watch.broken("a change is shown that did not happen", &[other])),
        None => Ok(()),
    }
}

/// A watcher saw what writers were told that they did in its time, also where nobody can see it any
/// more.
fn check_compacted(calls: &[Call], happened: &Watch, watch: &Watch) -> Result<(), Violation> {
    let gone = watch.from..happened.from.min(watch.upto() + 1);
    let shown: HashMap<(u64, &str), Option<u64>> = watch
        .events()
        .filter(|event| gone.contains(&event.revision))
        .map(|event| ((event.revision, &*event.key), event.held.map(|held| held.value)))
        .collect();
    for call in calls {
        let Some(Answer { revision: Some(revision) }) = call.answer() else { continue };
        if !gone.contains(revision) {
            continue;
        }
        let mut asked = call.asked.0.iter().filter(|change| change.key.starts_with(&watch.prefix));
        if asked.any(|change| shown.get(&(*revision, &*change.key)) != Some(&change.value)) {
            let what = "a watcher was not shown what a writer was told";
            return Err(Violation::new(what, [watch.to_string(), call.to_string()]));
        }
    }
    Ok(())
}

/// What is written after a watch began is what it shows.
fn check_beginning(calls: &[Call], watch: &Watch) -> Result<(), Violation> {
    let missed = calls.iter().find(|call| {
        let revision = call.answer().and_then(|answer| answer.revision);
        call.began > watch.began && revision.is_some_and(|revision| revision < watch.from)
    });
    match missed {
        Some(call) => {
            let what = "a watch begins after what was written later";
            Err(Violation::new(what, [watch.to_string(), call.to_string()]))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "watches_tests.rs"]
mod tests;
