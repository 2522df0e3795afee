//! A watcher that does not read is counted as it falls behind, and again when it has lost what it
//! missed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{MOVED_BY_SLOWNESS, counted};
use crate::support::{Node, until};

#[test]
fn a_watcher_that_does_not_read_is_counted_as_it_falls_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let mut watcher = TcpStream::connect(node.address()).expect("connected");
    write!(watcher, "GET /v1/watch?prefix=large HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    let watches = counted(&node, "aspen_watches");
    let mut head = [0; 12];
    watcher.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 200");
    assert!(until(|| counted(&node, "aspen_watches") >= watches));

    let large = tempfile::NamedTempFile::new().expect("a file");
    large.as_file().write_all(&vec![b'x'; 1 << 20]).expect("written");
    let path = large.path().to_str().expect("a path");
    // More than sockets and the memory for recent changes take together.
    let mut last = 0;
    for _ in 0..48 {
        let written = node.printed(&["put", "large", "--file", path, "--json"]);
        let written: serde_json::Value = serde_json::from_str(&written).expect("JSON");
        last = written["revision"].as_u64().expect("a revision");
    }
    let held = counted(&node, "aspen_watch_recent_bytes");
    assert!((1.0..64e6).contains(&held), "{held}");
    let [reads, lost] = MOVED_BY_SLOWNESS else { panic!("one for either") };
    let before = counted(&node, reads);
    assert_eq!(counted(&node, lost), 0.0);
    node.printed(&["compact", &last.to_string()]);

    // It reads what is on its way, and finds that what should follow is gone.
    let mut told = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    watcher.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    while !told.windows(9).any(|window| window == b"compacted") {
        let read = watcher.read(&mut buffer).expect("more");
        assert!(read > 0, "it ended without a reason: {}", node.log());
        // The word may come in two parts.
        told.drain(..told.len().saturating_sub(16));
        told.extend_from_slice(&buffer[..read]);
    }
    assert_eq!(counted(&node, lost), 1.0);
    assert!(counted(&node, reads) > before);
}
