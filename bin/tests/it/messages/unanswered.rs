//! Nodes that don't answer, or not as they should: nobody there, too late, cut off, something else.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use super::Book;

#[test]
fn unanswered() {
    let mut book = Book::of(
        "unanswered",
        "Nodes that don't answer, or not as they should: nobody there, too late, cut off.",
    );
    // A port that was free a moment ago and that nobody is told of.
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    book.meet(&nobody.to_string());
    book.part("nobody is there");
    book.types(&[
        "aspen get greeting",
        "aspen put greeting hello",
        "aspen status",
        "aspen watch",
        "aspen members",
        "aspen leave",
        "aspen get greeting --node http://node.invalid",
        "aspen get greeting --node unix:s.sock",
    ]);
    book.file("file", "no socket\n");
    drop(UnixListener::bind(book.path("left.sock")).expect("a socket"));
    book.types(&[
        "aspen get greeting --node unix:file",
        "aspen get greeting --node unix:left.sock",
    ]);

    book.part("somebody is there, and does not answer");
    // Connections are accepted by the system.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    book.meet(&silent.local_addr().expect("an address").to_string());
    book.types(&[
        "aspen get greeting --node http://127.0.0.1:4681 --timeout 50ms",
        "aspen put greeting hello --node http://127.0.0.1:4681 --timeout 50ms",
        "aspen keyspace create logs --node http://127.0.0.1:4681 --timeout 50ms",
    ]);

    book.part("the connection ends before the answer does");
    let hasty = plays(b"");
    book.meet(&hasty);
    book.types(&[
        "aspen get greeting --node http://127.0.0.1:4682",
        "aspen put greeting hello --node http://127.0.0.1:4682",
    ]);

    book.part("it is no node");
    book.meet(&plays(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"));
    book.meet(&plays(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"));
    book.meet(&plays(b"SSH-2.0-OpenSSH_9.6\r\n"));
    book.types(&[
        "aspen status --node http://127.0.0.1:4683",
        "aspen get greeting --node http://127.0.0.1:4684",
        "aspen get greeting --node http://127.0.0.1:4685",
    ]);

    book.part("a node that serves HTTPS, and one that does not");
    for name in ["ann", "bob"] {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
        book.file(&format!("{name}.pem"), &made.cert.pem());
        book.file(&format!("{name}.key"), &made.signing_key.serialize_pem());
    }
    let start = "aspen start --http 127.0.0.1:0 --log off";
    let tls = "--http-tls-cert ann.pem --http-tls-key ann.key";
    let node = book.begins(&format!("{start} {tls}"), "stop ");
    let port = node.address.as_deref().and_then(|at| at.split_once(':')).expect("a port").1;
    book.word("localhost:4686", format!("localhost:{port}"));
    let plain = book.begins(&format!("{start} --storage memory --data-dir plain"), "stop ");
    book.types(&[
        "aspen put greeting hello --node https://127.0.0.1:4686 --ca ann.pem",
        "aspen get greeting --node https://127.0.0.1:4686",
        "aspen get greeting --node https://127.0.0.1:4686 --ca bob.pem",
        "aspen get greeting --node https://localhost:4686 --ca ann.pem",
        "aspen get greeting --node http://127.0.0.1:4686",
        "aspen get greeting --node https://127.0.0.1:4687 --ca ann.pem",
    ]);
    drop((node, plain));
    book.close();
}

/// A server that answers whatever it is asked with these bytes, and gives its address. It ends with
/// the test's process.
fn plays(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    aspen::seams::spawn_thread("plays".to_owned(), move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            // Whoever asks may have given up, which is its right.
            let _ = stream.read(&mut head);
            let _ = stream.write_all(answer);
        }
    })
    .expect("a thread");
    address
}
