//! Tokens, read-only nodes and clusters, operations that take long, and the bench: what is said of them.

use super::{Book, steady_table};
use crate::support::Node;

#[test]
fn tokens() {
    let mut book = Book::of(
        "tokens",
        "A node that asks for tokens: made, listed, shown, revoked, and every way to go wrong.",
    );
    let node = Node::start(book.dir(), &["--name", "lab", "--auth", "required"]);
    book.meet(node.address());
    book.part("without one, and with that of the owner");
    book.types(&[
        "aspen put greeting hello",
        "aspen put greeting hello --token-file data/owner.token",
        "aspen put greeting hello --token-file none",
        "aspen put greeting hello --token-file data/node.toml",
        "aspen put greeting hello --token aspentoken",
        "aspen put greeting hello --token a --token-file b",
    ]);
    let made = |book: &mut Book, word: &str, flags: &str| {
        let line = format!("aspen token create --token-file data/owner.token {flags}");
        let token = book.try_out(&line).printed().trim().to_owned();
        book.word(word, &*token);
        token
    };
    book.part("made for somebody");
    let token = made(&mut book, "APP-TOKEN", "--allow read --prefix app/ --name dashboard");
    let other = if &token[40..41] == "a" { "q" } else { "a" };
    book.word("WRONG-TOKEN", format!("{}{other}{}", &token[..40], &token[41..]));
    book.types(&[
        "aspen get app/color --token APP-TOKEN",
        "aspen get greeting --token APP-TOKEN",
        "aspen put app/color red --token APP-TOKEN",
        "aspen range --token APP-TOKEN",
        "aspen lease grant 10s --token APP-TOKEN",
        "aspen members --token APP-TOKEN",
        "aspen token list --token APP-TOKEN",
        "aspen get app/color --token WRONG-TOKEN",
        "aspen token create --allow nothing --token-file data/owner.token",
        "aspen token create --expires 99999d --token-file data/owner.token",
        "aspen token revoke 0123456789abcdef0123456789abcdef --token-file data/owner.token",
    ]);
    book.types_as("aspen token list --token-file data/owner.token", steady_table);
    let revoke = "aspen token revoke --token-file data/owner.token $(aspen token list --token-file \
                  data/owner.token | awk '/dashboard/ {print $1}')";
    book.types(&[revoke, "aspen get app/color --token APP-TOKEN"]);

    book.part("tickets for tokens, and the other way round");
    for (word, flags) in [("NODE-TICKET", ""), ("APP-TICKET", "--client")] {
        let line = format!("aspen ticket create --token-file data/owner.token {flags}");
        let ticket = book.try_out(&line).printed().trim().to_owned();
        book.word(word, ticket);
    }
    book.types(&[
        "aspen get greeting --token NODE-TICKET",
        "aspen get greeting --token APP-TICKET",
        "echo NODE-TICKET > ticket; aspen get greeting --token-file ticket",
        "aspen join APP-TOKEN",
        "aspen get greeting --ticket APP-TOKEN",
        "aspen ticket show APP-TOKEN",
    ]);

    book.part("a cluster that is read-only");
    book.types(&[
        "aspen settings set read-only on --token-file data/owner.token",
        "aspen put greeting hi --token-file data/owner.token",
        "aspen get greeting --token-file data/owner.token",
        "aspen settings set read-only off --token-file data/owner.token",
    ]);

    book.part("what takes long");
    book.types(&[
        "aspen operations --token-file data/owner.token",
        "aspen operations drain-1 --token-file data/owner.token",
        "aspen operations drain-9 --token-file data/owner.token",
        "aspen operations nothing --token-file data/owner.token",
    ]);

    book.part("a bench that can't be");
    book.types(&[
        "aspen bench --for 0s",
        "aspen bench --reads 101",
        "aspen bench --clients 0",
        "aspen bench --for 1s --token APP-TOKEN",
    ]);

    book.part("HTTP that others reach");
    book.types(&[
        "aspen start --http 0.0.0.0:4680",
        "aspen start --http 0.0.0.0:4680 --auth required --insecure",
        "aspen start --auth maybe",
    ]);
    book.close();
}
