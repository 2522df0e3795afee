//! What the HTTP door holds and waits for.

use std::time::Duration;

use super::{
    KEY_BYTES_MAX, PART_STOP_MAX, RANGE_BYTES_MAX, TXN_ANSWER_BYTES_MAX, TXN_BYTES_MAX,
    TXN_OPS_MAX, WATCHES_MAX,
};

/// Most connections to the HTTP door at once; further ones wait in the listen queue. Fewer where the
/// process may not have so many files open.
pub const HTTP_CONNECTIONS_MAX: usize = 16_384;
/// How many of the files that a process may have open the door leaves to the node, whose log must find
/// one when it needs it, however many clients there are; of few it leaves half.
pub const HTTP_FILES_LEFT: u64 = 1_024;
/// Most watches, and claims that wait, at once at a door. Past it: `Busy`. The other connections are for
/// what is answered at once.
pub const HTTP_LASTING_MAX: usize = 12_288;
/// The same on one connection, so that no single client has all of them.
pub const HTTP_CONNECTION_LASTING_MAX: usize = 128;
/// Most operations under way at once at a door unless an operator says otherwise: far more than a node
/// has use for. Past it: `Busy`.
pub const HTTP_AT_ONCE: u32 = 4_096;
/// How long an address may do what it may do in this time at once, if its requests are limited.
pub const HTTP_BURST: Duration = Duration::from_secs(1);
/// Most addresses whose requests are counted, at about 50 bytes each; all others are counted together.
pub const HTTP_ADDRESSES_MAX: usize = 65_536;
/// Most bytes of large answers that wait to be sent, all connections together. Past it reads are told
/// `Busy`.
pub const HTTP_ANSWERS_BYTES_MAX: usize = 128 * 1024 * 1024;
/// An answer up to this size is not counted there: as many as there are connections take no more memory
/// than the large ones do.
pub const HTTP_ANSWER_SMALL_BYTES: usize = 16 * 1024;
/// Most bytes of a request's body of keys and values that is not a raw value: a transaction in base64
/// and JSON.
pub const HTTP_JSON_BYTES_MAX: usize = 2 * TXN_BYTES_MAX;
/// Most bytes of any other request's body: the longest ticket that can be asked for, spelled as JSON
/// may spell it. What is read of JSON can take thirty times as much memory as the JSON.
pub const HTTP_ASK_BYTES_MAX: usize = 256 * 1024;
/// Most operations and conditions that are read of one request, nested ones counted: more than are
/// allowed, so that most who have too many are told how many. What is read takes some hundred bytes for
/// each, whatever its JSON takes. Past it: 400.
pub const HTTP_ITEMS_MAX: usize = 4 * TXN_OPS_MAX;
/// Most bytes of request bodies held at once, all connections together: requests keep theirs
/// until they are answered. Past it: `Busy`.
pub const HTTP_BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How long a client may take to agree on TLS; past it the connection is closed.
pub const HTTP_TLS_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the door's certificate or key is another one.
pub const HTTP_TLS_LOOK: Duration = Duration::from_secs(5);
/// Largest file of certificates, or of a key, that is read: far above any real one.
pub const HTTP_TLS_FILE_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of a request's head; a key of full length fits with every byte escaped. Past it the
/// request is answered 431 and the connection closed.
pub const HTTP_HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long a client may take to send a request's head, the wait for it included: an idle
/// connection is closed after this.
pub const HTTP_HEAD_MAX: Duration = Duration::from_secs(10);
/// How long a client may take to send a request's body. Past it: 408.
pub const HTTP_BODY_MAX: Duration = Duration::from_secs(60);
/// How long a client may take none of an answer that waits to be sent. Past it the connection is cut:
/// what it is to be sent is held in memory.
pub const HTTP_STALL_MAX: Duration = Duration::from_secs(60);
/// Most bytes of a refused body that are read and dropped, so that its sender gets to read why;
/// past it the connection is cut.
pub const HTTP_LINGER_BYTES_MAX: usize = HTTP_JSON_BYTES_MAX;
/// How long a refused body is read and dropped; past it the connection is cut.
pub const HTTP_LINGER_MAX: Duration = Duration::from_secs(2);
/// How long requests under way may take to finish once the door is told to stop; past it they
/// are cut off, and a cut write's outcome is unknown to its client.
pub const HTTP_DRAIN_MAX: Duration = Duration::from_secs(2);
/// Most requests under way on one connection of HTTP/2. A client is told so; a stream past it is
/// refused, and not processed.
pub const HTTP2_STREAMS_MAX: u32 = 128;
/// Most requests under way over HTTP/2, all connections together: as many as there may be watches.
/// Past it: `Busy`.
pub const HTTP2_REQUESTS_MAX: usize = WATCHES_MAX;
/// Most bytes of a request's body that wait to be read; the client sends no more until they are.
pub const HTTP2_STREAM_WINDOW_BYTES: u32 = 64 * 1024;
/// The same of all requests of a connection.
pub const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 64 * 1024;
/// Most bytes of an answer that wait for the client to take them; what makes the answer waits then.
pub const HTTP2_SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Most requests that a client has given up before they were looked at. Past it the connection is
/// ended: to ask and give up costs the one less than the other.
pub const HTTP2_RESETS_MAX: usize = 32;
/// Most streams of a connection that are reset for a client's mistakes; past it it is ended.
pub const HTTP2_ERRORS_MAX: usize = 256;
/// Fewest bytes of an answer in text that are worth making smaller for a client that reads gzip.
pub const HTTP_GZIP_BYTES_MIN: usize = 1024;
/// Most answers that are made smaller at once, each with some 300 KiB of memory; others go out as they
/// are.
pub const HTTP_GZIPS_MAX: usize = 64;
/// Most origins whose pages may use the door; past it the setting is refused.
pub const HTTP_ORIGINS_MAX: usize = 64;
/// How often a client is asked whether it is there, and how long it may take to say so; past it the
/// connection is cut.
pub const HTTP2_PING_EVERY: Duration = Duration::from_secs(15);
/// See [`HTTP2_PING_EVERY`].
pub const HTTP2_PING_MAX: Duration = Duration::from_secs(10);
/// How often a watch without changes sends a comment, so that a dead connection is noticed and a
/// live one is not closed on the way.
pub const HTTP_HEARTBEAT: Duration = Duration::from_secs(15);
/// Longest wait for a node to have left; then the answer is that it is leaving, and asking again
/// asks how far it is. Shorter than the deadlines of most clients.
pub const HTTP_LEAVE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked meanwhile whether there is less to hand over, which is then the answer.
pub const HTTP_LEAVE_LOOK: Duration = Duration::from_millis(100);
/// How long a node that has left waits for whoever was last told that it is leaving to ask again.
pub const HTTP_LEAVE_AGAIN: Duration = Duration::from_millis(750);
/// Most leases in one answer to a listing, which says where it continues. A caller's larger limit
/// is lowered to this.
pub const HTTP_LEASES_PAGE_MAX: u64 = 1_000;
/// Longest wait for a lock or an election in one request; then the answer is that it is not held yet,
/// and asking again goes on in the same place of the line. Shorter than what proxies cut off.
pub const HTTP_CLAIM_WAIT_MAX: Duration = Duration::from_secs(50);
/// Most lines of the audit log about refusals in one second: what a person can look through, and a
/// disk holds. Past it they are counted.
pub const AUDIT_REFUSALS_PER_SECOND: u32 = 50;

const _: () = {
    assert!(HTTP_JSON_BYTES_MAX > TXN_BYTES_MAX * 4 / 3);
    assert!(HTTP_JSON_BYTES_MAX <= HTTP_BODIES_BYTES_MAX);
    assert!(
        TXN_ANSWER_BYTES_MAX < HTTP_ANSWERS_BYTES_MAX && RANGE_BYTES_MAX < HTTP_ANSWERS_BYTES_MAX
    );
    assert!(HTTP_LASTING_MAX + HTTP_AT_ONCE as usize <= HTTP_CONNECTIONS_MAX);
    assert!(HTTP_LASTING_MAX <= WATCHES_MAX);
    assert!(3 * KEY_BYTES_MAX < HTTP_HEAD_BYTES_MAX);
    assert!(HTTP_HEAD_BYTES_MAX <= u32::MAX as usize);
    // What clients can have wait in a node that reads nothing of it.
    assert!(HTTP_CONNECTIONS_MAX * HTTP2_CONNECTION_WINDOW_BYTES as usize <= 1 << 30);
    assert!(HTTP2_STREAM_WINDOW_BYTES <= HTTP2_CONNECTION_WINDOW_BYTES);
    assert!(HTTP_DRAIN_MAX.as_millis() + HTTP_LEAVE_AGAIN.as_millis() < PART_STOP_MAX.as_millis());
};
