//! A cluster of three: what people are told as nodes go away, come back, leave, and are lost for good.

use super::{Book, steady_table};
use crate::support::until;

#[test]
fn cluster() {
    let mut book = Book::of(
        "cluster",
        "A cluster of three: nodes that are away, leave, are removed, and are lost for good.",
    );
    book.part("one node, which has nobody beside it");
    let start = "aspen start --http 127.0.0.1:0 --log off";
    let first = book.begins(start, "stop ");
    book.word("NODE-TICKET", first.ticket.clone().expect("it makes one"));
    book.types(&["aspen leave", "aspen remove 1", "aspen maintenance on 1", "aspen transfer 1 1"]);
    book.part("two more, each in a terminal of its own");
    let join =
        |name| format!("aspen join NODE-TICKET --data-dir {name} --http 127.0.0.1:0 --log off");
    let second = book.begins(&join("second"), "stop ");
    let third = book.begins(&join("third"), "stop ");
    wait_for_three(&book);
    book.types(&["aspen members"]);

    book.part("asked for what can't be");
    book.types(&[
        "aspen remove 9",
        "aspen drain 9",
        "aspen maintenance on 9",
        "aspen maintenance on 2 3",
        "aspen transfer 99 2",
        "aspen transfer 1 9",
        "aspen repair 99",
        "aspen repair",
        "aspen maintenance on 3",
        "aspen maintenance off 3",
        "aspen join NODE-TICKET --data-dir fourth --http off --node-id 2",
    ]);

    book.part("one is away");
    third.signal("STOP");
    wait_for(&book, "aspen members", |told| told.contains("suspect"));
    book.types_as("aspen members", steady_table);
    book.types(&["aspen put greeting hello", "aspen transfer 1 3"]);

    book.part("two are away, and the one that is left is no majority");
    // It is one that follows: a leader writes for a moment into its own log, and says then that it
    // does not know what became of it.
    book.types(&["aspen transfer 1 1"]);
    first.signal("STOP");
    book.turns_to(&second);
    wait_for(&book, "aspen members", |told| told.matches("suspect").count() == 2);
    book.types(&["aspen get greeting --consistency stale"]);
    book.types_at_once(
        &[
            "aspen get greeting",
            "aspen put greeting hi",
            "aspen lease grant 60s",
            "aspen ticket create",
            "aspen keyspace create logs",
            "aspen remove 3",
            "aspen settings set lost-after 10m",
        ],
        without_reason,
    );
    first.signal("CONT");
    third.signal("CONT");
    book.turns_to(&first);
    wait_for_three(&book);
    book.stops(first);

    book.part("two are lost for good");
    book.types(&["cp -r data survivor", "aspen recover --data-dir nowhere"]);
    book.types_as("aspen recover --data-dir survivor", steady_places);
    book.types(&["aspen recover --data-dir survivor --confirm 0123456789abcdef0123456789abcdef"]);
    let confirm = "aspen recover --data-dir survivor --confirm \
                   $(awk -F '\"' '/^cluster_id/ {print $2}' survivor/node.toml)";
    book.types_as(confirm, steady_places);
    book.types(&["aspen recover --data-dir survivor"]);
    // It is not started: it would tell the others, which are there after all, that they were removed.

    book.part("all are back; one of them is removed, and another leaves");
    let first = book.begins(start, "stop ");
    book.turns_to(&first);
    wait_for_three(&book);
    book.types(&["aspen remove 3"]);
    book.ends_by_itself(third);
    book.types(&[
        "aspen remove 3",
        "aspen start --data-dir third --http off --log off",
        "aspen join NODE-TICKET --data-dir third --http off --log off",
    ]);
    book.types_without("aspen leave --node http://127.0.0.1:4681", "is leaving: ");
    book.ends_by_itself(second);
    book.types(&["aspen start --data-dir second --http off --log off"]);
    book.types_as("aspen members", steady_table);
    book.stops(first);
    book.close();
}

#[track_caller]
fn wait_for(book: &Book, line: &str, is_so: impl Fn(&str) -> bool) {
    let mut last = None;
    assert!(until(|| is_so(&last.insert(book.try_out(line)).stdout)), "{line}: {last:?}");
}

/// Waits until all three are healthy and vote in both groups.
#[track_caller]
fn wait_for_three(book: &Book) {
    wait_for(book, "aspen members", |told| told.matches("active  healthy").count() == 3);
    wait_for(book, "aspen status", |told| told.matches(" 1 2 3 ").count() == 2);
}

/// What `recover` says, without how far each group was.
fn steady_places(told: &str) -> String {
    let mut steady = String::new();
    for line in told.lines() {
        let line = match line.split_once("  entry ") {
            Some((before, _)) => format!("{before}  entry N of term N"),
            None => line.to_owned(),
        };
        steady.push_str(&line);
        steady.push('\n');
    }
    steady
}

/// A refusal without what stood in the way at last, which is one thing or another.
fn without_reason(told: &str) -> String {
    match (told.split_once(" is unavailable: "), told.split_once("; ")) {
        (Some((before, _)), Some((_, remedy))) => {
            format!("{before} is unavailable: REASON; {remedy}")
        }
        _ => told.to_owned(),
    }
}
