//! One link to each peer: whoever dials, however often, whatever becomes of the peer.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aspen::net::AddressSource;
use aspen::seams::network::CloseCode;
use aspen::wire::StreamKind;
use bytes::Bytes;
use futures_util::future::join_all;

use super::rig::{Node, pair, soon, until};

#[tokio::test]
async fn all_who_want_a_link_share_one_dial() {
    let (a, b) = pair().await;
    let links = join_all((0..50).map(|_| a.peers.link(b.id, soon()))).await;
    let first = links[0].as_ref().unwrap();
    for link in &links {
        assert!(std::sync::Arc::ptr_eq(first, link.as_ref().unwrap()));
    }
}

#[tokio::test]
async fn when_both_dial_at_once_both_keep_one_link_and_no_call_fails() {
    for _ in 0..20 {
        let (a, b) = pair().await;
        let there = join_all((0..20).map(|_| a.call(&b, b"from a")));
        let back = join_all((0..20).map(|_| b.call(&a, b"from b")));
        tokio::join!(there, back);
        assert!(a.peers.facts().len() == 1 && b.peers.facts().len() == 1);
        // Once a dial that is still under way has come to its end, the link that is used is one
        // and the same: closing it here ends it there.
        let mut tries = 0;
        loop {
            until("there is a link", || async { b.peers.link(a.id, soon()).await.is_ok() }).await;
            let Ok(kept) = b.peers.link(a.id, soon()).await else { continue };
            a.peers.close(b.id, CloseCode::Busy, "to see which");
            let lost = tokio::time::timeout(super::rig::PATIENCE, kept.closed()).await.unwrap();
            if lost.code == Some(CloseCode::Busy) {
                break;
            }
            tries += 1;
            assert!(tries <= 2 && lost.code == Some(CloseCode::Replaced), "{lost:?}");
        }
    }
}

#[tokio::test]
async fn a_peer_that_restarts_elsewhere_is_found_when_it_dials() {
    let (a, b) = pair().await;
    a.call(&b, b"hello").await;
    let (id, old) = (b.id, b.addresses());
    let b = Node::with_key(b.stop().await).await;
    assert_eq!(b.id, id);
    assert_ne!(b.addresses(), old, "the system gave the port out again");
    b.knows(&a);
    b.call(&a, b"i am back").await;
    // The address was learned from the link that the peer made.
    let newest = a.peers.known_addresses(id).swap_remove(0);
    assert_eq!((&newest.address, newest.source), (&b.addresses()[0], AddressSource::Live));
    assert_eq!(a.call(&b, b"hello").await, "hello");
    b.peers.close(a.id, CloseCode::Done, "so that it is dialled");
    until("it is dialled at its new address", || async {
        let call = a.peers.call(id, StreamKind::Vote, Bytes::new(), soon());
        call.await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_restarts_on_the_same_address_is_dialled_again() {
    let key = aspen::net::NodeKey::generate(&aspen::seams::Random::from_entropy());
    let (a, b) = (Node::start().await, Node::with_key(key).await);
    a.knows(&b);
    a.call(&b, b"hello").await;
    let key = b.stop().await;
    let b = Node::with_key(key).await;
    // Told by someone else; the pause after failed dials ends with the news.
    a.peers.note(b.id, &b.addresses(), AddressSource::Roster);
    until("it is reached again", || async {
        a.peers.call(b.id, StreamKind::Vote, Bytes::new(), soon()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_dies_without_a_word_is_replaced_as_soon_as_it_is_back() {
    let a = Node::start().await;
    let key = aspen::net::NodeKey::generate(&aspen::seams::Random::from_entropy());
    // On a runtime of its own, which is cut off in the middle.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (secret, address) = (key.clone(), a.addresses());
    let first_id = a.id;
    let b = runtime
        .spawn(async move {
            let b = Node::with_key(secret).await;
            b.peers.note(first_id, &address, AddressSource::Roster);
            b.peers.call(first_id, StreamKind::Vote, Bytes::new(), soon()).await.unwrap();
            b
        })
        .await
        .unwrap();
    runtime.shutdown_background();
    std::mem::forget(b);

    let b = Node::with_key(key).await;
    b.knows(&a);
    b.call(&a, b"i am back").await;
    // The dead link is not preferred, whoever's key is smaller.
    let call = a.peers.call(b.id, StreamKind::Request, Bytes::from_static(b"you"), soon());
    let answer = tokio::time::timeout(Duration::from_secs(2), call).await;
    assert_eq!(answer.expect("the new link is used").unwrap(), "you");
}

#[tokio::test]
async fn a_suspected_peer_is_dialled_anew_and_a_fresh_link_is_kept() {
    let (a, b) = pair().await;
    let first = a.peers.link(b.id, soon()).await.unwrap();
    // Too young to be the one that did not answer.
    a.peers.suspect(b.id);
    let same = a.peers.link(b.id, soon()).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &same));
    until("it is old enough", || async {
        a.peers.suspect(b.id);
        let now = a.peers.link(b.id, soon()).await;
        now.is_ok_and(|now| !std::sync::Arc::ptr_eq(&first, &now))
    })
    .await;
    assert_eq!(b.call(&a, b"hello").await, "hello");
    assert_eq!(a.call(&b, b"hello").await, "hello");
}

#[tokio::test]
async fn a_node_does_not_dial_itself() {
    let (a, _b) = pair().await;
    a.peers.note(a.id, &a.addresses(), AddressSource::Roster);
    assert!(a.peers.link(a.id, soon()).await.is_err());
    assert_eq!(a.server.touched(), 0);
}

#[tokio::test]
async fn a_peer_that_is_forgotten_has_no_link_and_no_address() {
    let (a, b) = pair().await;
    let link = b.peers.link(a.id, soon()).await.unwrap();
    until("both ends have it", || async { !a.peers.facts().is_empty() }).await;
    a.peers.forget(b.id);
    assert_eq!(link.closed().await.code, Some(CloseCode::Done));
    assert!(a.peers.known_addresses(b.id).is_empty());
    assert!(a.peers.link(b.id, soon()).await.is_err());
}

#[tokio::test]
async fn stopping_ends_in_bounded_time_with_everything_under_way() {
    let (a, b) = pair().await;
    let (peers, id) = (a.peers.clone(), b.id);
    let call = tokio::spawn(async move {
        peers.call(id, StreamKind::Request, Bytes::from_static(b"hold"), soon()).await
    });
    until("the call has arrived", || async { b.server.calls.load(Ordering::SeqCst) == 1 }).await;
    let started = tokio::time::Instant::now();
    tokio::join!(a.stop(), b.stop());
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(call.await.unwrap().is_err());
}

#[tokio::test]
async fn whoever_waits_for_a_link_is_told_when_the_node_stops() {
    let (a, b) = pair().await;
    let id = b.id;
    // An address where nobody is: the dial takes its time.
    a.peers.forget(id);
    a.peers.note(id, &["127.0.0.1:9".parse().unwrap()], AddressSource::Ticket);
    let peers = a.peers.clone();
    let waiting = tokio::spawn(async move { peers.link(id, soon()).await });
    until("it is dialled", || async { !a.peers.facts().is_empty() }).await;
    a.stop().await;
    let told = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert!(told.expect("it does not wait for its deadline").unwrap().is_err());
}
