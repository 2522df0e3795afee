//! The bytes of each message, held fixed; and that nothing that is not one is taken for one.

use data_encoding::HEXLOWER;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use proptest::prelude::*;

use super::*;
use crate::machine::ops::{Action, Command};
use crate::raft::types::Proposal;

const ROUTE: Route = Route { group: GroupId(7), from: NodeId(1), to: NodeId(300) };
const VOTE: Vote = Vote { term: 4, node: 1, committed: true };

fn id(index: u64) -> EntryId {
    EntryId { term: 4, node: 1, index }
}

/// A message keeps its bytes and is read back from them.
fn fixed<M>(message: &M, hex: &str)
where
    M: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    let bytes = encode(message);
    assert_eq!(HEXLOWER.encode(&bytes), hex, "{message:?}");
    assert_eq!(decode::<M>(&bytes).as_ref(), Ok(message));
}

#[test]
fn questions_keep_their_bytes() {
    let ask = |what| Ask { route: ROUTE, what };
    let ballot = Ballot { vote: VOTE, last: Some(id(200)), handed_over: false };
    let beat = Beat { vote: VOTE, prev: Some(id(9)), commit: None };
    let handover = Handover { vote: VOTE, to: NodeId(2), last: None };
    fixed(&ROUTE, "010701ac02");
    fixed(&ask(Question::Vote(ballot)), "010701ac0200040101010401c80100");
    fixed(&ask(Question::PreVote(ballot)), "010701ac0201040101010401c80100");
    fixed(&ask(Question::Heartbeat(beat)), "010701ac02020401010104010900");
    fixed(&ask(Question::Transfer(handover)), "010701ac02030401010200");
    fixed(&ask(Question::ReadIndex), "010701ac0204");
    let beats = vec![ask(Question::Heartbeat(beat)); 2];
    fixed(&beats, "01020701ac020204010101040109000701ac02020401010104010900");
}

#[test]
fn answers_keep_their_bytes() {
    fixed(&Answer::Voted { vote: VOTE, granted: true, last: None }, "01000401010100");
    fixed(&Answer::Appended(Appended::Upto(Some(id(5)))), "01010001040105");
    fixed(&Answer::Appended(Appended::Conflict(id(5))), "010101040105");
    fixed(&Answer::Appended(Appended::HigherVote(VOTE)), "010102040101");
    fixed(&Answer::Transferred(Transferred::Taken), "010200");
    let changed = Transferred::VoteChanged { expected: VOTE, actual: VOTE };
    fixed(&Answer::Transferred(changed), "010201040101040101");
    let early = Transferred::NotFlushed { expected: Some(id(5)), actual: None };
    fixed(&Answer::Transferred(early), "0102020104010500");
    fixed(&Answer::ReadIndex(id(5)), "0103040105");
    fixed(&Answer::NotLeader(Some(NodeId(3))), "01040103");
    fixed(&Answer::Unavailable("no".into()), "0105026e6f");
    fixed(&Appended::Upto(None), "010000");
}

#[test]
fn a_snapshots_messages_keep_their_bytes() {
    let mark = AppliedMark { id: Some(id(5)), membership_id: None, membership: vec![9, 9] };
    let offer = Offer { route: ROUTE, vote: VOTE, sending: 1 << 64, mark, about_bytes: 300 };
    let hex = "010701ac0204010180808080808080808002010401050002".to_owned() + "0909ac02";
    fixed(&offer, &hex);
    fixed(&Receipt::Has(1000), "0100e807");
    fixed(&Receipt::Installing, "0101");
    fixed(&Receipt::Installed(VOTE), "0102040101");
    fixed(&Receipt::HigherVote(VOTE), "0103040101");
    fixed(&Receipt::Refused("no".into()), "0104026e6f");
}

fn entry(
    index: u64,
    payload: EntryPayload<Proposal, u64, openraft::EmptyNode>,
) -> EntryOf<TypeConfig> {
    EntryOf::<TypeConfig>::new(log_id(id(index)), payload)
}

fn appending() -> AppendEntriesRequest<TypeConfig> {
    let command = Command { session: None, action: Action::CompactStep };
    AppendEntriesRequest {
        vote: vote_in(VOTE),
        prev_log_id: Some(log_id(id(5))),
        leader_commit: None,
        entries: vec![
            entry(6, EntryPayload::Blank),
            entry(7, EntryPayload::Normal(Proposal::new(&command).unwrap())),
        ],
    }
}

#[test]
fn entries_keep_their_bytes_and_are_parts_of_their_message() {
    let message = encode_append(&appending()).unwrap();
    assert_eq!(HEXLOWER.encode(&message), "01040101010401050002040106020100040107040101000c");
    let decoded = decode_append(&message).unwrap();
    assert_eq!(encode_append(&decoded).unwrap(), message);
    let EntryPayload::Normal(proposal) = &decoded.entries[1].payload else { panic!() };
    assert_eq!(proposal.command().unwrap().action, Action::CompactStep);
}

#[test]
fn what_is_cut_too_long_or_of_another_version_is_refused() {
    let message = encode_append(&appending()).unwrap();
    for len in 0..message.len() {
        assert!(decode_append(&message.slice(..len)).is_err(), "cut at {len}");
    }
    let mut longer = message.to_vec();
    longer.push(0);
    assert!(decode_append(&longer.into()).is_err());
    let mut newer = message.to_vec();
    newer[0] = 2;
    let error = decode_append(&newer.into()).unwrap_err();
    assert!(error.contains("version 2"), "{error}");
}

proptest! {
    /// Whatever bytes come, the answer is a message or a reason.
    #[test]
    fn no_bytes_bring_a_decoder_down(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(version) = bytes.first_mut() {
            *version = VERSION;
        }
        let _ = decode::<Ask>(&bytes);
        let _ = decode::<Answer>(&bytes);
        let _ = decode::<Offer>(&bytes);
        let _ = decode::<Receipt>(&bytes);
        let _ = decode_append(&bytes.into());
    }
}
