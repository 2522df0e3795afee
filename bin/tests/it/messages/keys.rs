//! Keys, revisions, leases, transactions and keyspaces at a node that is well: what is not there, what
//! is refused, and what to do.

use super::Book;
use crate::support::Node;

#[test]
fn keys() {
    let mut book = Book::of(
        "keys",
        "Keys, revisions, leases, transactions, keyspaces and settings at a node that is well.",
    );
    let node = Node::start(book.dir(), &[]);
    book.meet(node.address());
    book.part("keys");
    book.types(&[
        "aspen put greeting hello",
        "aspen put greeting hi --prev",
        "printf piped | aspen put greeting",
        "aspen put count -1",
        "aspen get greeting --meta",
        "aspen get greeting --json",
        "aspen get nothing",
        "aspen get nothing --meta",
        "aspen get nothing --json",
        "aspen del nothing",
        "aspen del greeting",
        "aspen put 'a\tb' 'c\nd'",
        "aspen range",
        "aspen range nothing/",
        "aspen range --start b --end a",
        "aspen range --count",
    ]);
    book.part("conditions");
    book.types(&[
        "aspen put leader ann --if-absent",
        "aspen put leader bob --if-absent",
        "aspen put leader bob --if-revision 99",
        "aspen put nobody bob --if-revision 99",
    ]);
    book.part("revisions");
    book.types(&[
        "aspen get leader --revision 999",
        "aspen range --revision 999",
        "aspen compact 4",
        "aspen compact 3",
        "aspen compact 999",
        "aspen get greeting --revision 1",
        "aspen range --revision 1",
        "aspen watch --from 1",
    ]);
    book.part("transactions");
    book.types(&[
        "aspen txn '{}'",
        "aspen txn '[]'",
        r#"aspen txn '{"than": []}'"#,
        r#"aspen txn '{"when": [{"key": "a", "version": "x"}]}'"#,
        r#"aspen txn '{"when": [{"key": "a"}]}'"#,
        r#"aspen txn '{"then": [{"putt": {"key": "a", "value": "1"}}]}'"#,
        r#"aspen txn '{"then": [{"get": {"key": "a"}}, {"put": {"key": "a"}}]}'"#,
        r#"aspen txn '{"then": [{"put": {"key": "a", "value": 1}}]}'"#,
        r#"aspen txn '{"then": [{"put": {"key": "", "value": "1"}}]}'"#,
        r#"aspen txn '{"then": [{"put": {"key": "a", "value": {"base64": "*"}}}]}'"#,
        r#"aspen txn '{"then": [{"put": {"key": "a", "value": "1"}}, {"delete": {"key": "a"}}]}'"#,
        r#"aspen txn '{"then": [{"put": {"key": "a", "value": "1", "lease": "99"}}]}'"#,
    ]);
    book.part("leases");
    book.types(&[
        "aspen lease grant 60s --id 7",
        "aspen lease grant 60s --id 7",
        "aspen lease list",
        "aspen put session/ann here --lease 7",
        "aspen lease keep-alive 7 --once",
        "aspen lease revoke 7",
        "aspen lease revoke 7",
        "aspen lease show 7",
        "aspen lease keep-alive 7",
        "aspen put session/ann here --lease 7",
        "aspen lease grant 10ms",
        "aspen lease grant 99999d",
    ]);
    book.part("keyspaces");
    book.types(&[
        "aspen keyspace create logs --shards 4",
        "aspen keyspace create logs",
        "aspen keyspace create 'a b'",
        "aspen keyspace show nothing",
        "aspen keyspace delete nothing",
        "aspen keyspace delete default",
        "aspen get k --keyspace nothing",
        "aspen put k v --keyspace nothing",
        "aspen lease grant 60s --keyspace logs",
        "aspen compact 1 --keyspace logs",
        "aspen range --revision 1 --keyspace logs",
        "aspen watch --from 1 --keyspace logs",
        r#"aspen txn '{"then": [{"put": {"key": "a", "value": "1"}}, {"put": {"key": "b", "value": "2"}}]}' --keyspace logs"#,
        r#"aspen txn '{"then": [{"put": {"key": "{app}a", "value": "1"}}, {"put": {"key": "{app}b", "value": "2"}}]}' --keyspace logs"#,
        r#"aspen txn '{"then": [{"range": {"prefix": "a"}}]}' --keyspace logs"#,
        "aspen keyspace delete logs",
    ]);
    book.part("settings");
    book.types(&[
        "aspen settings get",
        "aspen settings get lost",
        "aspen settings set lost 5m",
        "aspen settings set lost-after 5",
        "aspen settings set moves-at-once many",
        "aspen settings set snapshot-rate 5",
    ]);
    book.types_as("aspen settings set lost-after 10m", epoch);
    book.types_as("aspen settings reset lost-after", epoch);
    book.close();
}

/// The roster's revision follows from how a node notes what it does.
fn epoch(told: &str) -> String {
    let (before, epoch) = told.rsplit_once(' ').unwrap_or_default();
    assert!(epoch.trim().parse::<u64>().is_ok(), "{told}");
    format!("{before} N\n")
}
