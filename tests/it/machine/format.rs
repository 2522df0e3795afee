//! The bytes of commands, which are those of log entries on disk and on the wire. A change here
//! needs a new version of the format, never a new expectation.

use aspen::limits::TXN_DEPTH_MAX;
use aspen::machine::ops::*;
use aspen::types::{Key, LeaseId, SessionId, Value};

fn key(text: &str) -> Key {
    Key::try_from(text).unwrap()
}

fn value(text: &str) -> Value {
    Value::try_from(text).unwrap()
}

/// Every action once, with every kind of part somewhere.
fn commands() -> Vec<(Action, &'static str)> {
    let put = Put {
        key: key("k"),
        value: Some(value("val")),
        lease: PutLease::Attach(LeaseId(300)),
        prev: true,
    };
    let keep = Put { key: key("k"), value: None, lease: PutLease::Keep, prev: false };
    let range = Range {
        range: KeyRange::prefix("p/"),
        revision: Some(9),
        limit: Some(100),
        order: Order { by: OrderBy::Mod, descending: true },
        select: Select::Keys,
        filter: Filter {
            mod_min: Some(1),
            mod_max: Some(2),
            create_min: None,
            create_max: Some(4),
        },
    };
    let delete = Delete { range: KeyRange::one(&key("k")), prev: true };
    let compare = |target, is| Compare { range: CompareKeys::One(key("k")), target, is };
    let txn = Txn {
        when: vec![
            compare(CompareTarget::Value(value("v")), Is::Equal),
            compare(CompareTarget::Version(1), Is::NotEqual),
            compare(CompareTarget::Create(2), Is::Greater),
            compare(CompareTarget::Mod(3), Is::Less),
            Compare {
                range: CompareKeys::All(KeyRange::all()),
                target: CompareTarget::Lease(300),
                is: Is::Equal,
            },
        ],
        then: vec![Op::Put(keep), Op::Range(range), Op::Delete(delete.clone())],
        or_else: vec![Op::Txn(Txn::default())],
    };
    vec![
        (Action::SessionOpen, "00"),
        (Action::SessionClose { id: SessionId(300) }, "01 ac02"),
        (Action::Put(put), "02 016b 01 0376616c 02 ac02 01"),
        (Action::Delete(delete), "03 01 016b 01 016b 01"),
        (
            Action::Txn(txn),
            "04 \
             05 00 016b 00 0176 00  00 016b 01 01 01  00 016b 02 02 02  00 016b 03 03 03 \
             01 00 00 04 ac02 00 \
             03 00 016b 00 01 00 \
             01 01 02702f 02 027030 01 09 01 64 03 01 01 01 01 01 02 00 01 04 \
             02 01 016b 01 016b 01 \
             01 03 00 00 00",
        ),
        (Action::LeaseGrant { id: Some(LeaseId(7)), ttl_ms: 5_000 }, "05 01 07 8827"),
        (Action::LeaseRevoke { id: LeaseId(7) }, "06 07"),
        (Action::LeaseExpire { ids: vec![LeaseId(7), LeaseId(300)] }, "07 02 07 ac02"),
        (
            Action::Claim(Claim { name: key("l"), lease: LeaseId(7), value: value("v") }),
            "08 016c 07 0176",
        ),
        (
            Action::Proclaim { name: key("l"), lease: LeaseId(7), value: value("v") },
            "09 016c 07 0176",
        ),
        (Action::Release { name: key("l"), lease: LeaseId(7) }, "0a 016c 07"),
        (Action::Compact { revision: 300 }, "0b ac02"),
        (Action::CompactStep, "0c"),
    ]
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn commands_have_these_bytes() {
    for (action, expected) in commands() {
        let expected = expected.replace(' ', "");
        let alone = Command { session: None, action: action.clone() };
        let bytes = postcard::to_stdvec(&alone).unwrap();
        assert_eq!(hexadecimal(&bytes), format!("00{expected}"), "{action:?}");
        assert_eq!(postcard::from_bytes::<Command>(&bytes), Ok(alone));

        let place = SessionSeq { id: SessionId(5), seq: 300, acked_below: 299 };
        let placed = Command { session: Some(place), action };
        let bytes = postcard::to_stdvec(&placed).unwrap();
        assert_eq!(hexadecimal(&bytes), format!("0105ac02ab02{expected}"));
        assert_eq!(postcard::from_bytes::<Command>(&bytes), Ok(placed));
    }
}

#[test]
fn what_is_nested_too_deep_is_not_decoded() {
    let nested = |levels: usize| {
        let mut txn = Txn::default();
        for _ in 1..levels {
            txn = Txn { then: vec![Op::Txn(txn)], ..Txn::default() };
        }
        Command { session: None, action: Action::Txn(txn) }
    };
    let deepest = nested(TXN_DEPTH_MAX);
    assert_eq!(deepest.validate(), Ok(()));
    let bytes = postcard::to_stdvec(&deepest).unwrap();
    assert_eq!(postcard::from_bytes(&bytes), Ok(deepest));

    let deeper = nested(TXN_DEPTH_MAX + 1);
    assert!(deeper.validate().is_err());
    let bytes = postcard::to_stdvec(&deeper).unwrap();
    assert!(postcard::from_bytes::<Command>(&bytes).is_err());

    // As deep as bytes can say, which would take the stack if each level were followed.
    let mut bytes = vec![0, 4];
    bytes.extend([0, 1, 3].repeat(1_000_000));
    assert!(postcard::from_bytes::<Command>(&bytes).is_err());
    let answers = [5, 1, 1].repeat(1_000_000);
    assert!(postcard::from_bytes::<AnswerBody>(&answers).is_err());

    // One that was refused leaves nothing behind that counts against the next.
    let bytes = postcard::to_stdvec(&nested(TXN_DEPTH_MAX)).unwrap();
    assert!(postcard::from_bytes::<Command>(&bytes).is_ok());
}
