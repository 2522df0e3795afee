//! Strangers: whoever is not let in gets a close code and a reason, and nothing of what it sends is
//! looked at.

use std::time::Duration;

use aspen::net::CallFailed;
use aspen::seams::network::CloseCode;
use aspen::types::NodeId;
use aspen::wire::StreamKind;
use bytes::Bytes;

use super::rig::{Node, Raw, closed, pair, soon, until};

#[tokio::test]
async fn a_strangers_key_gets_a_close_code_and_no_data_on_every_protocol() {
    let node = Node::start().await;
    node.gate.members_only();
    let raw = Raw::start().await;
    for alpn in ["aspen/raft/1", "aspen/join/1", "aspen/client/1", "aspen/lan/1", "/iroh-gossip/1"]
    {
        let connection = raw.connect(&node, alpn).await;
        // It speaks before it can know that nobody listens.
        if let Ok((mut out, mut input)) = connection.open_bi().await {
            let _ = out.write_all(&[1, 2, 4, 0, 0, 0, b'v', b'o', b't', b'e']).await;
            assert!(input.read_to_end(1_024).await.is_err(), "{alpn}");
        }
        let expected = (CloseCode::NotMember.number(), "this key is not a member's".to_owned());
        assert_eq!(closed(&connection).await, expected, "{alpn}");
    }
    assert_eq!(node.server.touched(), 0);
    assert!(node.peers.facts().is_empty());
}

#[tokio::test]
async fn a_protocol_that_is_not_ours_ends_in_the_handshake() {
    let node = Node::start().await;
    let raw = Raw::start().await;
    for alpn in ["aspen/raft/2", "/iroh-gossip/0", "h3"] {
        assert!(raw.try_connect(&node, alpn).await.is_err(), "{alpn}");
    }
    assert_eq!(node.server.touched(), 0);
}

#[tokio::test]
async fn whoever_is_turned_away_learns_the_reason_and_that_nothing_was_seen() {
    let (a, b) = pair().await;
    for (code, reason) in [
        (CloseCode::NotMember, "this key is not a member's"),
        (CloseCode::Removed(NodeId(1)), "node 1 was removed"),
        (CloseCode::Busy, "later"),
    ] {
        b.gate.turn_away(a.id, code, reason);
        // What is news ends the pause after the refusal before.
        a.peers.forget(b.id);
        a.knows(&b);
        let call = a.peers.call(b.id, StreamKind::Request, Bytes::from_static(b"x"), soon());
        match call.await {
            Err(CallFailed::NotSent(lost)) => {
                assert_eq!((lost.code, lost.reason.as_str()), (Some(code), reason));
            }
            other => panic!("{other:?}"),
        }
        let facts = a.peers.facts();
        assert_eq!(facts[0].lost.as_ref().and_then(|lost| lost.code), Some(code));
    }
    assert_eq!(b.server.touched(), 0);
}

#[tokio::test]
async fn a_node_that_is_let_in_later_gets_through_by_itself() {
    let (a, b) = pair().await;
    b.gate.turn_away(a.id, CloseCode::NotMember, "this key is not a member's");
    assert!(a.peers.link(b.id, soon()).await.is_err());
    b.gate.let_in(a.id);
    until("the pause is over", || async { a.peers.link(b.id, soon()).await.is_ok() }).await;
}

#[tokio::test]
async fn a_refusal_is_told_to_whoever_watches() {
    let (a, b) = pair().await;
    b.gate.turn_away(a.id, CloseCode::Removed(NodeId(1)), "node 1 was removed");
    let mut changes = a.peers.changes();
    assert!(a.peers.link(b.id, soon()).await.is_err());
    tokio::time::timeout(Duration::from_secs(10), changes.changed()).await.unwrap().unwrap();
    let lost = a.peers.facts()[0].lost.clone().unwrap();
    assert_eq!(lost.code, Some(CloseCode::Removed(NodeId(1))));
}

#[tokio::test]
async fn links_that_are_not_for_members_are_handed_on_whole() {
    let node = Node::start().await;
    let raw = Raw::start().await;
    let join = raw.connect(&node, "aspen/join/1").await;
    let client = raw.connect(&node, "aspen/client/1").await;
    until("both links are served", || async {
        node.server.links.load(std::sync::atomic::Ordering::SeqCst) == 2
    })
    .await;
    drop((join, client));
}
