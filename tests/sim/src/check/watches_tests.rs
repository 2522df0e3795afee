//! The judge of watchers against what naive ones see, and against what a naive one gets wrong.

use super::{Answer, Asked, Batch, Call, Change, Event, Held, Watch, check};
use crate::check::Told;
use crate::dice::Dice;

/// Writers of some keys, one after another, and everything that happened.
struct Story {
    calls: Vec<Call>,
    events: Vec<Event>,
}

const KEYS: [&str; 4] = ["a/1", "a/2", "b/1", "b/2"];

impl Story {
    fn new(dice: &Dice) -> Self {
        let mut story = Story { calls: Vec::new(), events: Vec::new() };
        let mut held = [None::<Held>; KEYS.len()];
        let (mut revision, mut last_value) = (0, 0);
        for at in 0..20 {
            let first = dice.below(3) as usize;
            let keys = first..first + 1 + dice.below(2) as usize;
            let is_delete = dice.percent(30);
            let keys = if is_delete { first..first + 1 } else { keys };
            let mut changes = Vec::new();
            let told = dice.below(10);
            let changes_something = told != 0 && !(is_delete && held[first].is_none());
            if changes_something {
                revision += 1;
            }
            for key in keys {
                last_value += 1;
                let value = (!is_delete).then_some(last_value);
                changes.push(Change { key: KEYS[key].into(), value });
                if !changes_something {
                    continue;
                }
                let before = held[key];
                held[key] = value.map(|value| Held {
                    value,
                    created: before.map_or(revision, |before| before.created),
                    modified: revision,
                    version: before.map_or(0, |before| before.version) + 1,
                });
                let key_name = KEYS[key].into();
                story.events.push(Event { revision, key: key_name, held: held[key], before });
            }
            let (began, ended) = (10 * at + 1, 10 * at + 5);
            let answer = Answer { revision: changes_something.then_some(revision) };
            let (told, ended) = match told {
                0 => (Told::Not, ended),
                1 => (Told::Unknown, u64::MAX),
                _ => (Told::Done(answer), ended),
            };
            story.calls.push(Call { client: 0, asked: Asked(changes), began, ended, told });
        }
        story
    }

    fn last(&self) -> u64 {
        self.events.last().map_or(0, |event| event.revision)
    }

    /// What is seen of it by a watcher that is right.
    fn watch(&self, prefix: &str, shows_before: bool, from: u64, dice: &Dice) -> Watch {
        let mut watch = Watch {
            client: 1,
            prefix: prefix.into(),
            shows_before,
            began: u64::MAX,
            from,
            batches: Vec::new(),
        };
        let mut next = from;
        while next <= self.last() {
            let upto = (next + dice.below(4)).min(self.last());
            let is_shown = |event: &&Event| {
                (next..=upto).contains(&event.revision) && event.key.starts_with(prefix)
            };
            let as_shown = |event: &Event| {
                let before = event.before.filter(|_| shows_before);
                Event { before, ..event.clone() }
            };
            let events = self.events.iter().filter(is_shown).map(as_shown).collect();
            watch.batches.push(Batch { upto, events });
            next = upto + 1;
        }
        watch
    }

    fn happened(&self, dice: &Dice) -> Watch {
        self.watch("", true, 1, dice)
    }
}

#[test]
fn watchers_that_are_right_are_accepted() {
    for seed in 0..500 {
        let dice = Dice::of(seed, 0);
        let story = Story::new(&dice);
        let happened = story.happened(&dice);
        let watches = ["", "a/", "b/1"].map(|prefix| {
            story.watch(prefix, dice.percent(50), dice.between(1, story.last().max(1)), &dice)
        });
        let verdict = check(&story.calls, &happened, &watches);
        verdict.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
    }
}

/// One thing wrong, and what is said of it.
#[test]
fn a_watcher_that_is_wrong_is_found() {
    type Spoil = fn(&mut Vec<Batch>, usize);
    let wrongs: [(Spoil, &str); 7] = [
        (|batches, at| drop(batches[at].events.remove(0)), "missed a change"),
        (
            |batches, at| {
                let again = batches[at].events[0].clone();
                batches[at].events.insert(0, again);
            },
            "did not happen",
        ),
        (
            |batches, at| {
                let late = batches[at].events.remove(0);
                let upto = batches[at].upto + 9;
                batches.insert(at + 1, Batch { upto, events: vec![late] });
                batches.truncate(at + 2);
            },
            "after everything up to it was",
        ),
        (
            |batches, at| {
                batches[at].upto = batches[at].events[0].revision - 1;
                batches.truncate(at + 1);
            },
            "before its time",
        ),
        (|batches, at| batches[at].events[0].key = "c".into(), "not asked for"),
        (|batches, at| batches[at].events[0].before = Some(HELD), "not what happened"),
        (|batches, at| batches[at].events[0].held = Some(HELD), "not what happened"),
    ];
    for (spoil, said) in wrongs {
        let mut found = 0;
        for seed in 0..50 {
            let dice = Dice::of(seed, 0);
            let story = Story::new(&dice);
            let happened = story.happened(&dice);
            let mut watch = story.watch("a/", true, 1, &dice);
            let shown = |batch: &Batch| !batch.events.is_empty();
            let Some(at) = watch.batches.iter().position(shown) else { continue };
            spoil(&mut watch.batches, at);
            let violation = check(&story.calls, &happened, &[watch]).expect_err("it is wrong");
            assert!(violation.what.contains(said), "seed {seed}: {violation}, not {said}");
            found += 1;
        }
        assert!(found > 10, "{said}: only {found}");
    }
}

const HELD: Held = Held { value: 999, created: 1, modified: 1, version: 1 };

/// What writers were told, and what happened instead.
#[test]
fn a_history_that_is_not_what_writers_were_told_is_found() {
    let call = |at: u64, value, told| {
        let asked = Asked(vec![Change { key: "k".into(), value }]);
        let ended = if told == Told::Unknown { u64::MAX } else { 10 * at + 5 };
        Call { client: 0, asked, began: 10 * at, ended, told }
    };
    let done = |revision| Told::Done(Answer { revision: Some(revision) });
    let put = |revision, value, version, before| {
        let held = Some(Held { value, created: 1, modified: revision, version });
        Event { revision, key: "k".into(), held, before }
    };
    let first = put(1, 1, 1, None);
    let second = put(2, 2, 2, first.held);
    let found = |calls: &[Call], events: &[&Event]| {
        let events = events.iter().map(|event| (*event).clone()).collect();
        let watch = Watch {
            client: 1,
            prefix: "k".into(),
            shows_before: true,
            began: 0,
            from: 1,
            batches: vec![Batch { upto: 9, events }],
        };
        check(calls, &watch, &[]).err().map(|violation| violation.what)
    };
    let one = call(1, Some(1), done(1));
    assert_eq!(found(std::slice::from_ref(&one), &[&first]), None);
    let said = found(std::slice::from_ref(&one), &[]);
    assert_eq!(said.as_deref(), Some("revision 1 is not what a writer was told"));
    let said = found(std::slice::from_ref(&one), &[&first, &second]);
    assert_eq!(said.as_deref(), Some("nobody asked for a change"));
    for (told, right) in [(Told::Unknown, true), (Told::Not, false), (done(2), true)] {
        let calls = [one.clone(), call(2, Some(2), told)];
        assert_eq!(found(&calls, &[&first, &second]).is_none(), right, "{told:?}");
    }
    let twice = put(2, 1, 2, first.held);
    let said = found(&[call(1, Some(1), Told::Unknown)], &[&first, &twice]);
    assert_eq!(said.as_deref(), Some("a change is there twice"));
    let said = found(std::slice::from_ref(&one), &[&first, &twice]);
    assert_eq!(said.as_deref(), Some("a change is there once more"));
    let gone = Event { revision: 2, key: "k".into(), held: None, before: first.held };
    let said = found(std::slice::from_ref(&one), &[&first, &gone]);
    assert_eq!(said.as_deref(), Some("nobody asked for a deletion"));
    assert_eq!(found(&[one.clone(), call(2, None, Told::Unknown)], &[&first, &gone]), None);
    let skips = put(2, 2, 3, first.held);
    let said = found(&[one.clone(), call(2, Some(2), done(2))], &[&first, &skips]);
    assert_eq!(said.as_deref(), Some("a record's counters do not go on"));
    let forgets = put(2, 2, 2, None);
    let said = found(&[one, call(2, Some(2), done(2))], &[&first, &forgets]);
    assert_eq!(said.as_deref(), Some("what was before is not what was before"));
    let said = found(&[call(1, Some(2), done(2)), call(2, Some(1), done(1))], &[&first, &second]);
    assert_eq!(said.as_deref(), Some("a later write has an earlier revision"));
}

/// What was compacted before the end is held against what writers were told.
#[test]
fn a_watcher_that_misses_what_is_compacted_later_is_found() {
    let mut found = 0;
    for seed in 0..50 {
        let dice = Dice::of(seed, 0);
        let story = Story::new(&dice);
        let mut watch = story.watch("", true, 1, &dice);
        let happened = story.watch("", true, story.last(), &dice);
        let verdict = check(&story.calls, &happened, &[watch.clone()]);
        verdict.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        let acknowledged = |event: &Event| {
            let at = Some(&Answer { revision: Some(event.revision) });
            event.revision < happened.from && story.calls.iter().any(|call| call.answer() == at)
        };
        let mut shown = watch.batches.iter_mut().map(|batch| &mut batch.events);
        let Some(events) = shown.find(|events| events.first().is_some_and(acknowledged)) else {
            continue;
        };
        events.remove(0);
        let violation = check(&story.calls, &happened, &[watch]).expect_err("it is wrong");
        assert_eq!(violation.what, "a watcher was not shown what a writer was told");
        found += 1;
    }
    assert!(found > 10, "only {found}");
}

#[test]
fn a_watch_begins_before_what_is_written_later() {
    let dice = Dice::of(3, 0);
    let story = Story::new(&dice);
    let happened = story.happened(&dice);
    let mut watch = story.watch("", false, story.last(), &dice);
    watch.began = u64::MAX;
    assert!(check(&story.calls, &happened, &[watch.clone()]).is_ok());
    watch.began = 0;
    let what = check(&story.calls, &happened, &[watch]).expect_err("it misses the first").what;
    assert_eq!(what, "a watch begins after what was written later");
}
