//! What is not heard: messages for another replica, under another name, or of no sense.

use aspen::net::{CallFailed, RefusedCode};
use aspen::wire::StreamKind;
use bytes::Bytes;
use tokio::time::Instant;

use super::rig::{Cluster, PATIENCE};

/// A question for a read index: version, group, from, to, what.
fn read_index(group: u8, from: u8, to: u8) -> Bytes {
    Bytes::copy_from_slice(&[1, group, from, to, 4])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_heard_only_from_the_member_that_it_names_and_by_the_one_it_means() {
    let cluster = Cluster::founded(2).await;
    let (sender, receiver) = (&cluster.nodes[0], &cluster.nodes[1]);
    let ask = |kind, message| {
        sender.peers().call(receiver.id(), kind, message, Instant::now() + PATIENCE)
    };
    let code = |failed: Result<Bytes, CallFailed>| match failed {
        Err(CallFailed::Refused(refused)) => Some(refused.code),
        Ok(_) => None,
        Err(other) => panic!("{other}"),
    };
    let kind = StreamKind::ReadIndex;
    assert_eq!(code(ask(kind, read_index(1, 1, 2)).await), None);
    assert_eq!(code(ask(kind, read_index(1, 2, 2)).await), Some(RefusedCode::Denied));
    assert_eq!(code(ask(kind, read_index(1, 1, 3)).await), Some(RefusedCode::NotHere));
    assert_eq!(code(ask(kind, read_index(3, 1, 2)).await), Some(RefusedCode::NotHere));
    let garbled = Bytes::from_static(&[1, 1, 1, 2, 200]);
    assert_eq!(code(ask(kind, garbled).await), Some(RefusedCode::Malformed));
    // Votes come several at a time: this is one question, and not for a vote.
    let misplaced = Bytes::from_static(&[1, 1, 1, 1, 2, 4]);
    assert_eq!(code(ask(StreamKind::Vote, misplaced).await), Some(RefusedCode::Malformed));
    // A vote for another than the sender: term 9 of node 2, uncommitted.
    let vote = Bytes::from_static(&[1, 1, 1, 1, 2, 0, 9, 2, 0, 0, 0]);
    assert_eq!(code(ask(StreamKind::Vote, vote).await), Some(RefusedCode::Denied));
    assert!(cluster.replica(1).status().term < 9);
    cluster.end().await;
}
