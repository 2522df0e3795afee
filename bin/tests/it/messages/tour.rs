//! The tour of the README, as a person sees it who types it.

use super::Book;

#[test]
fn tour() {
    let mut book = Book::of("tour", "The tour of the README, in one terminal after the other.");
    let first = book.begins("aspen start --http 127.0.0.1:0", "stop ");
    book.part("in a second terminal");
    book.types(&[
        "aspen put greeting hello",
        "aspen get greeting",
        "curl -s http://127.0.0.1:4680/v1/kv/greeting",
        "aspen put leader ann --if-absent",
        "curl -s -X PUT -H 'If-None-Match: *' -d bob http://127.0.0.1:4680/v1/kv/leader",
        "aspen put app/color green",
        "aspen put app/shape round",
        "aspen range app/",
        r#"aspen txn '{
  "when": [{ "key": "app/color", "value": "green" }],
  "then": [{ "put": { "key": "app/color", "value": "blue" } }, { "delete": { "key": "app/shape" } }]
}'"#,
    ]);
    let watching = book.begins("aspen watch --prefix app/ --from 1", "5\tdelete");
    book.ends(watching, "^C", "INT");
    book.types(&["aspen put session/ann here --lease \"$(aspen lease grant 60s)\""]);
    book.types_as("aspen status", super::steady_status);
    book.part("a cluster is one ticket away");
    book.types(&["aspen ticket create", "aspen members", "aspen doctor"]);
    let ticket = book.try_out("aspen ticket create").stdout;
    book.word("MADE-TICKET", ticket.trim());
    book.types(&["aspen ticket show MADE-TICKET"]);
    let second =
        book.begins("aspen join MADE-TICKET --data-dir ./second --http 127.0.0.1:0", "stop ");
    book.types_until("aspen members", &["2     -     voter  active  healthy  1       0      up"]);
    book.part("many shards");
    book.types(&[
        "aspen keyspace create logs --shards 16",
        "aspen put 2026-11-22/1 started --keyspace logs",
    ]);
    book.types_until("aspen keyspace list", &["logs     16      3         16"]);
    book.part("the second goes in order, then the first is stopped");
    book.types_without("aspen leave --node http://127.0.0.1:4681", "is leaving: ");
    book.ends_by_itself(second);
    book.types_until("aspen members", &["healthy  17      17     up"]);
    book.stops(first);
    book.close();
}
