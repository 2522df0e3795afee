//! Tickets of both kinds: made, read, listed, revoked, and every way in which they are no good.

use aspen_tickets::{Invitation, JoinTicket, Role};

use super::{Book, steady_table};
use crate::support::{Node, until};

#[test]
fn tickets() {
    let mut book = Book::of(
        "tickets",
        "Tickets: made, read, listed, revoked, and every way in which they are no good.",
    );
    let node = Node::start(book.dir(), &["--name", "lab"]);
    book.meet(node.address());
    let made = |book: &mut Book, word: &str, flags: &str| {
        let line = format!("aspen ticket create {flags}");
        let ticket = book.try_out(&line).printed().trim().to_owned();
        book.word(word, &*ticket);
        ticket
    };
    book.part("made, read and listed");
    book.types(&[
        "aspen ticket create",
        "aspen ticket create --expires 10ms",
        "aspen ticket create --expires 99999d",
        "aspen ticket create --client --name \"$(printf %500s | tr ' ' n)\"",
    ]);
    let good = made(&mut book, "GOOD-TICKET", "--role learner --uses 3 --expires 2h");
    made(&mut book, "APP-TICKET", "--client --prefix app/ --allow read --name dashboard");
    made(&mut book, "DATA-TICKET", "--client --keyspace default");
    book.types(&["aspen ticket show GOOD-TICKET", "aspen ticket show APP-TICKET"]);
    book.types_as("aspen ticket list", sorted);

    book.part("what is no ticket");
    book.word("CUT-TICKET", &good[..good.len() - 7]);
    book.types(&[
        "aspen ticket show hello",
        "aspen join hello",
        "aspen join aspen",
        "aspen join APP-TICKET",
        "aspen get k --ticket hello",
        "aspen get k --ticket GOOD-TICKET",
        "aspen join - < /dev/null",
        "aspen ticket revoke 0123456789abcdef0123456789abcdef",
    ]);

    book.types_at_once(&["aspen join CUT-TICKET", "aspen join GOOD-TICKETaa"], |told| {
        // Where it is noticed follows from the bytes.
        let (before, why) = told.split_once("garbled: ").expect("a reason");
        format!("{before}garbled: WHY; {}", why.split_once("; ").expect("a remedy").1)
    });

    book.part("what was a ticket");
    let ticket: JoinTicket = good.parse().expect("a ticket");
    let promoted = Invitation { role: Role::Voter, ..*ticket.invitation() };
    let (cluster, peers) = (ticket.cluster().clone(), ticket.peers().to_vec());
    let forged = JoinTicket::new(cluster, peers, promoted, *ticket.signature()).expect("in form");
    book.word("FORGED-TICKET", forged.to_string());
    made(&mut book, "REVOKED-TICKET", "");
    let revoke =
        "aspen ticket revoke $(aspen ticket show REVOKED-TICKET | awk '/^ticket/ {print $2}')";
    book.types(&[revoke]);
    let once = made(&mut book, "USED-TICKET", "--role learner");
    let second = tempfile::tempdir().expect("a directory");
    let second = Node::join(second.path(), &once, &[]);
    made(&mut book, "LATE-TICKET", "--expires 1s");
    book.types(&[
        "aspen ticket show FORGED-TICKET",
        "aspen join FORGED-TICKET --data-dir other --http off",
        "aspen join REVOKED-TICKET --data-dir other --http off",
        "aspen join USED-TICKET --data-dir other --http off",
        "aspen join GOOD-TICKET --data-dir other --http off --node-id 1",
        "aspen join GOOD-TICKET --data-dir data --http off",
    ]);
    assert!(until(|| book.try_out("aspen ticket list").stdout.contains("expired")));
    book.types(&["aspen join LATE-TICKET --data-dir other --http off"]);
    second.kill();

    book.part("of another cluster");
    let there = tempfile::tempdir().expect("a directory");
    let stranger = Node::start(there.path(), &[]);
    book.word("OTHER-TICKET", stranger.ticket());
    stranger.kill();
    let there_data = there.path().join("data").display().to_string();
    book.word("/home/bob/data", there_data);
    book.types(&[
        "aspen join GOOD-TICKET --data-dir /home/bob/data --http off",
        "aspen join OTHER-TICKET --data-dir other --http off",
    ]);

    book.part("what a client ticket opens");
    book.types(&[
        "aspen put app/color green",
        "aspen get app/color --ticket APP-TICKET",
        "aspen get k --ticket APP-TICKET",
        "aspen range --ticket APP-TICKET",
        "aspen put app/color red --ticket APP-TICKET",
        "aspen lease grant 60s --ticket APP-TICKET",
        "aspen compact 1 --ticket DATA-TICKET",
        "aspen members --ticket APP-TICKET",
        "aspen get k --ticket APP-TICKET --node http://127.0.0.1:4680",
        "ASPEN_TICKET=APP-TICKET aspen get k",
        "aspen ticket revoke $(aspen ticket show APP-TICKET | awk '/^ticket/ {print $2}')",
        "aspen get app/color --ticket APP-TICKET",
    ]);
    node.kill();
    book.types(&["aspen get k --ticket DATA-TICKET --timeout 1s"]);
    book.close();
}

/// The list without the ids, by which it is sorted.
fn sorted(list: &str) -> String {
    let table = steady_table(list);
    let mut lines: Vec<&str> = table.lines().collect();
    lines[1..].sort_by_key(|line| line.split_once("  ").map(|(_, rest)| rest.to_owned()));
    lines.join("\n") + "\n"
}
