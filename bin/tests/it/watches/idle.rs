//! Watchers that are shown nothing: what a node bears of them, and that each is shown what comes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::DEADLINE;
use crate::dice::number;
use crate::support::{Node, until};

/// How many there are unless the environment says otherwise.
const WATCHERS: u64 = 1_000;
/// How many begin at once.
const AT_ONCE: u64 = 50;
/// How much memory one may cost the node: 10,000 less than 200 MiB.
const KIB_MAX: f64 = 20.0;

/// Begins a watch of one key.
async fn begin(address: &str, number: u64) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!("GET /v1/watch?key=w/{number} HTTP/1.1\r\nhost: n\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it is sent");
    // The first event says where it begins.
    shows(&mut stream, "event: progress").await;
    stream
}

/// Reads until it shows this.
async fn shows(stream: &mut TcpStream, what: &str) {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(what) {
            let len = stream.read_buf(&mut read).await.expect("it goes on");
            assert_ne!(len, 0, "it ends after {}", read.escape_ascii());
        }
    };
    let in_time = timeout(DEADLINE, reading).await;
    in_time.unwrap_or_else(|_| panic!("no {what}"));
}

#[test]
fn thousands_of_watchers_that_are_shown_nothing_cost_little_and_are_shown_what_comes() {
    let count = number("ASPEN_WATCHERS").unwrap_or(WATCHERS);
    aspen::seams::raise_open_files_max();
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let runtime = Runtime::new().expect("a runtime");
    let begin = |from: u64, to: u64| {
        let mut begun = Vec::new();
        for first in (from..to).step_by(AT_ONCE as usize) {
            let some = (first..to.min(first + AT_ONCE)).map(|number| begin(node.address(), number));
            begun.extend(runtime.block_on(futures_util::future::join_all(some)));
        }
        begun
    };
    // What comes with the first of them is not what each costs.
    let mut watchers = begin(0, AT_ONCE);
    let before = node.memory_mib("VmRSS");
    watchers.extend(begin(AT_ONCE, AT_ONCE + count));
    let each = || (node.memory_mib("VmRSS") - before) * 1024.0 / count as f64;
    assert!(until(|| each() < KIB_MAX), "{:.1} KiB for each of {count}", each());
    println!("{:.1} KiB for each of {count} watchers", each());

    for at in [0, count / 2, AT_ONCE + count - 1] {
        node.printed(&["put", &format!("w/{at}"), "now"]);
        runtime.block_on(shows(&mut watchers[at as usize], "\"value\":\"now\""));
    }
    let sockets = node.open_sockets();
    drop(watchers);
    let are_gone = || node.open_sockets() as u64 <= sockets as u64 - count;
    assert!(until(are_gone), "{} sockets of {sockets} are left", node.open_sockets());
}
