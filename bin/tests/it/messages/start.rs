//! What keeps a node from starting: its directory, its addresses, its certificates, its cluster.

use super::Book;
use crate::support::write_file;

#[test]
fn start() {
    let mut book = Book::of(
        "start",
        "How a node starts and stops, and what keeps it from starting: its directory, its \
         addresses, its certificates.",
    );
    book.part("a node, and a second one in its directory or at its address");
    let node = book.begins("aspen start --http 127.0.0.1:0", "stop ");
    book.types(&[
        "aspen start --http off",
        "aspen start --data-dir other --http 127.0.0.1:4680",
        "aspen recover --data-dir data",
    ]);
    book.ends(node, "^C", "INT");
    let quiet = book.begins("aspen start --http off --log off", "stop ");
    book.ends(quiet, "(SIGTERM)", "TERM");
    let memory = book.begins(
        "aspen start --http unix:s.sock --storage memory --log-format json --log warn --json",
        "{",
    );
    book.types(&["aspen start --data-dir other --http unix:s.sock"]);
    book.ends(memory, "^C", "INT");

    book.part("directories");
    book.file("file", "not a directory, a socket or a certificate\n");
    book.types(&[
        "aspen start --http off --data-dir file",
        "aspen start --http off --data-dir file/data",
        "aspen start --http off --data-dir /proc/nowhere",
        "aspen start --http off --node-id 7",
        "cp -r data newer; sed -i 's/^format = .*/format = 99/' newer/node.toml; aspen start --http off --data-dir newer",
        "cp -r data broken; echo '= = =' > broken/node.toml; aspen start --http off --data-dir broken",
        "cp -r data keyless; rm keyless/node.key; aspen start --http off --data-dir keyless",
        "cp -r data cut; truncate -s 5 cut/node.key; aspen start --http off --data-dir cut",
        "cp -r data open; chmod 644 open/node.key; aspen start --http off --data-dir open --node-id 7",
    ]);

    book.part("addresses");
    book.types(&[
        "aspen start --data-dir other --http 203.0.113.1:4680",
        "aspen start --data-dir other --http off --listen 203.0.113.1:4433",
        "aspen start --data-dir other --http unix:nowhere/s.sock",
        "aspen start --data-dir other --http unix:file",
        "aspen start --data-dir other --http unix:$(printf %120s | tr ' ' s)",
    ]);
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    book.word("127.0.0.1:4433", taken.local_addr().expect("an address").to_string());
    book.types(&["aspen start --data-dir other --http off --listen 127.0.0.1:4433"]);

    book.part("certificates");
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    let another = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    write_file(&book.path("a.pem"), &certificate.cert.pem());
    write_file(&book.path("a.key"), &certificate.signing_key.serialize_pem());
    write_file(&book.path("b.key"), &another.signing_key.serialize_pem());
    for (cert, key) in [
        ("nowhere", "a.key"),
        ("file", "a.key"),
        ("a.pem", "file"),
        ("a.pem", "b.key"),
        ("a.key", "a.pem"),
    ] {
        book.types(&[&format!(
            "aspen start --data-dir other --http 127.0.0.1:0 --http-tls-cert {cert} --http-tls-key {key}"
        )]);
    }
    book.part("a relay");
    book.types(&["aspen relay --public relay.example --data-dir file"]);
    book.close();
}
