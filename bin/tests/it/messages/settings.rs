//! What configures a node, from flags, variables and files, and what of it can't be.

use super::Book;

#[test]
fn settings() {
    let mut book = Book::of(
        "settings",
        "What configures a node, from flags, variables and files, and what of it can't be.",
    );
    book.part("what is configured");
    book.file("aspen.toml", "name = \"lab\"\nreach = \"loopback\"\n");
    book.types(&[
        "aspen config check aspen.toml",
        "env -u ASPEN_REACH ASPEN_LOG=warn aspen config show --config aspen.toml --node-id 7",
    ]);
    book.part("files");
    book.file(
        "wrong.toml",
        "name = 5\nrech = \"lan\"\nhttp = [1]\nreach = \"wan\"\n[node]\nid = 1\n",
    );
    book.file("twice.toml", "name = \"a\"\nname = \"b\"\n");
    book.file("cut.toml", "name = ");
    book.types(&[
        "aspen config check wrong.toml",
        "aspen start --config twice.toml",
        "aspen start --config cut.toml",
        "printf '\\xff' > bytes.toml; aspen start --config bytes.toml",
        "aspen start --config nowhere.toml",
        "aspen start --config .",
    ]);
    book.part("variables");
    book.types(&[
        "ASPEN_RAECH=lan aspen start",
        "ASPEN_REACH=wan aspen start",
        "ASPEN_TIMEOUT=5 aspen get k",
    ]);
    book.part("flags");
    for flag in [
        "--name ''",
        "--node-id 0",
        "--node-name 'the first'",
        "--reach wan",
        "--http somewhere",
        "--http 127.0.0.1:http",
        "--listen here",
        "--storage disk",
        "--shards 0",
        "--replicas 9",
        "--capacity 0",
        "--expect 0",
        "--heartbeat 5",
        "--heartbeat 1h",
        "--election-min 2s",
        "--heartbeat 300ms --election-min 800ms",
        "--log loud",
        "--log-format xml",
        "--relay relay.example",
        "--directory x",
        "--http-cors x",
        "--http-rate fast",
        "--http-at-once 0",
    ] {
        book.types(&[&format!("aspen start {flag}")]);
    }
    book.part("what does not go together");
    for flags in [
        "--relay https://relay.example",
        "--relay-only",
        "--dht",
        "--lan lab",
        "--open",
        "--lan lab --open",
        "--lan lab --open --lan-secret-file secret --reach lan",
        "--http-tls-cert a.pem",
        "--http off --http-tls-cert a.pem --http-tls-key a.key",
    ] {
        book.types(&[&format!("aspen start {flags}")]);
    }
    book.part("the secret of a mesh");
    book.file("short", "abcde\n");
    book.types(&[
        "aspen start --reach lan --lan lab --lan-secret-file nowhere",
        "aspen start --reach lan --lan lab --lan-secret-file short",
        "head -c 5000 /dev/zero > long; aspen start --reach lan --lan lab --lan-secret-file long",
    ]);
    book.part("a relay");
    book.types(&[
        "aspen relay --listen here",
        "aspen relay --public '[::1]'",
        "aspen relay --public relay.example/path",
        "aspen relay",
    ]);
    book.part("nothing was made");
    book.types(&["ls"]);
    book.close();
}
