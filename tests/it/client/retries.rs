//! Which nodes are asked, how often and for how long.

use std::time::Duration;

use aspen::error::Error;
use aspen::limits::{CLIENT_BREAKER_OPEN_MAX, CLIENT_DEADLINE, CLIENT_TRY_MIN};
use aspen::types::Consistency;
use tokio::time::Instant;

use super::script::{Fate, LONGEST, Script, counts};

#[tokio::test(start_paused = true)]
async fn a_hint_is_followed_at_once_and_remembered() {
    let script = Script::new(3, Some(1));
    let kv = script.client(1);
    let begun = Instant::now();
    kv.put("a", "1").await.expect("put");
    assert_eq!(script.asked(), [1, 0, 0], "here, then the leader: to open a session, to write");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    kv.put("a", "2").await.expect("put");
    assert_eq!(script.asked(), [0]);
    script.lead(Some(2));
    kv.put("a", "3").await.expect("put");
    assert_eq!(script.asked(), [0, 2]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn reads_stay_here_unless_only_the_leader_can_answer() {
    let script = Script::new(3, Some(1));
    let kv = script.client(1);
    kv.get("a").await.expect("get");
    kv.get("a").consistency(Consistency::Stale).await.expect("get");
    assert_eq!(script.asked(), [1, 1]);
    kv.get("a").consistency(Consistency::Lease).await.expect("get");
    assert_eq!(script.asked(), [1, 0]);
    script.decide(|node, _| if node == 1 { Fate::NotSent } else { Fate::Answered });
    kv.get("a").await.expect("another node can");
    assert_eq!(script.asked(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_name_each_other_are_not_asked_in_a_tight_loop() {
    let script = Script::new(2, None);
    script.decide(|node, _| Fate::Redirected(Some(1 - node)));
    let kv = script.client(1);
    let begun = Instant::now();
    let error = kv.put("a", "1").await.expect_err("nobody leads");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() <= LONGEST, "{:?}", begun.elapsed());
    let asked = script.asked().len();
    assert!((10..=100).contains(&asked), "{asked} tries");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_dies_silently_costs_one_try() {
    let script = Script::new(3, Some(1));
    let kv = script.client(1);
    kv.put("a", "1").await.expect("put");
    script.decide(|node, _| if node == 0 { Fate::Silence } else { Fate::Answered });
    script.lead(Some(2));
    let begun = Instant::now();
    kv.put("a", "2").await.expect("node 2 leads");
    assert_eq!(begun.elapsed(), CLIENT_TRY_MIN);
    let found = kv.get("a").await.expect("get").expect("it is there");
    assert_eq!(found.version, 2);
}

#[tokio::test(start_paused = true)]
async fn an_election_is_waited_for() {
    let script = Script::new(3, Some(1));
    let kv = script.client(1);
    kv.put("a", "1").await.expect("put");
    script.lead(None);
    script.asked();
    let write = tokio::spawn({
        let kv = kv.clone();
        async move { kv.put("a", "2").await }
    });
    let begun = Instant::now();
    // In virtual time: as long as nobody leads.
    tokio::time::sleep(Duration::from_secs(1)).await;
    script.lead(Some(2));
    write.await.expect("a task").expect("node 2 leads");
    let late = begun.elapsed() - Duration::from_secs(1);
    assert!(late <= Duration::from_millis(250), "found {late:?} after the election");
    assert!(script.asked().len() < 60, "the nodes are not overrun meanwhile");
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_is_not_tried_by_every_operation() {
    let script = Script::new(3, None);
    script.decide(|node, _| if node == 1 { Fate::NotSent } else { Fate::Answered });
    script.lead(Some(2));
    let kv = script.client(1);
    for _ in 0..200 {
        // Each begins as a client that knows no leader, and node 1 is before node 2.
        script.lead(None);
        let quick = kv.clone().with_deadline(Duration::from_millis(100));
        quick.put("a", "1").await.expect_err("nobody leads");
    }
    // 20 seconds, in which its breaker lets one try through at a time.
    let dead = counts(&script.asked())[&1];
    let most = 20_000 / CLIENT_BREAKER_OPEN_MAX.as_millis() as usize + 5;
    assert!(dead <= most, "asked {dead} times");
}

#[tokio::test(start_paused = true)]
async fn what_was_never_admitted_had_no_effect_and_says_so() {
    for fate in [Fate::NotSent, Fate::Redirected(None)] {
        let script = Script::new(3, Some(0));
        let kv = script.client(1);
        kv.put("a", "1").await.expect("put");
        script.always(fate);
        let begun = Instant::now();
        let error = kv.put("a", "2").await.expect_err("nobody takes it");
        assert!(matches!(error, Error::Unavailable { .. }), "{fate:?}: {error}");
        assert!(begun.elapsed() >= CLIENT_DEADLINE && begun.elapsed() <= LONGEST, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_done_is_unknown_at_the_deadline_and_only_then() {
    for fate in [Fate::AnswerLost, Fate::RequestLost, Fate::Silence, Fate::Unknown, Fate::Late] {
        let script = Script::new(3, Some(0));
        let kv = script.client(1);
        kv.put("a", "1").await.expect("put");
        script.always(fate);
        let begun = Instant::now();
        let error = kv.put("a", "2").await.expect_err("nobody answers");
        assert!(matches!(error, Error::OutcomeUnknown { .. }), "{fate:?}: {error}");
        assert!(begun.elapsed() >= CLIENT_DEADLINE && begun.elapsed() <= LONGEST, "{fate:?}");

        // Once, and then all is well: the same write is answered.
        let mut left = 1;
        script.decide(move |_, _| match left {
            0 => Fate::Answered,
            _ => {
                left -= 1;
                fate
            }
        });
        let before = kv.get("a").await.expect("get").expect("it is there").version;
        kv.put("a", "3").await.unwrap_or_else(|error| panic!("{fate:?}: {error}"));
        let after = kv.get("a").await.expect("get").expect("it is there").version;
        // What was held up before arrives with it.
        assert!(after > before, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn reads_are_never_unknown() {
    let script = Script::new(3, Some(0));
    script.always(Fate::Silence);
    let begun = Instant::now();
    let error = script.client(1).get("a").await.expect_err("nobody answers");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(begun.elapsed() <= LONGEST);
}

#[tokio::test(start_paused = true)]
async fn busy_is_told_at_once_unless_an_earlier_try_is_in_doubt() {
    let script = Script::new(3, Some(0));
    let kv = script.client(1);
    kv.put("a", "1").await.expect("put");
    script.always(Fate::Busy);
    let begun = Instant::now();
    let error = kv.put("a", "2").await.expect_err("busy");
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let mut first = true;
    script
        .decide(move |_, _| if std::mem::take(&mut first) { Fate::AnswerLost } else { Fate::Busy });
    let error = kv.put("a", "3").await.expect_err("in doubt, then busy");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_a_clients_own() {
    let script = Script::new(3, Some(0));
    script.always(Fate::Redirected(None));
    let kv = script.client(1).with_deadline(Duration::from_millis(300));
    let begun = Instant::now();
    kv.put("a", "1").await.expect_err("nobody leads");
    let took = begun.elapsed();
    assert!((300..=310).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_was_evicted_is_replaced_unless_a_try_is_in_doubt() {
    let script = Script::new(1, Some(0));
    let kv = script.client(1);
    kv.put("a", "1").await.expect("put");
    script.evict_sessions();
    kv.put("a", "2").await.expect("in a new session");
    assert_eq!(kv.get("a").await.expect("get").expect("it is there").version, 2);

    // The answer is lost, and then the session with it: nobody can say any more.
    let mut first = true;
    script.decide(move |_, _| match std::mem::take(&mut first) {
        true => Fate::AnswerLostAndSessionsWithIt,
        false => Fate::Answered,
    });
    let error = kv.put("a", "3").await.expect_err("it was done, and nobody remembers");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    assert_eq!(kv.get("a").await.expect("get").expect("it is there").version, 3);
}
