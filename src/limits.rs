//! Every limit of the system: its name, its unit, its reason and what happens at it.
//!
//! A limit that is met is answered with a typed error ([`crate::error`]); nothing grows past one
//! silently. Relations between limits are asserted when the crate is compiled.

mod groups;
mod http;
mod load;

use std::time::Duration;

use aspen_tickets::ADDRESSES_BYTES_MAX;

pub use groups::*;
pub use http::*;
pub use load::*;

// --- what a user may store ---

/// Longest key. Long enough for any path or composed key, short enough that hundreds fit in a
/// page of the state file. Past it: `Invalid::KeyTooLong`.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// Largest value. One value must fit in a log frame, a snapshot chunk and a client's memory
/// several times over. Past it: `Invalid::ValueTooLong`.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most operations in one transaction, nested ones counted. One transaction is applied without
/// a pause, so this bounds how long everyone else waits. Past it: `Invalid::TxnTooManyOps`.
pub const TXN_OPS_MAX: usize = 1_024;
/// Most bytes of keys and values in one transaction: two of the largest values. Past it:
/// `Invalid::TxnTooLarge`.
pub const TXN_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Deepest nesting of transactions; applying one recurses. Past it: `Invalid::TxnTooDeep`.
pub const TXN_DEPTH_MAX: usize = 8;
/// Most records in one answer to a range; the answer says that there is more and where it
/// continues. A caller's larger limit is lowered to this.
pub const RANGE_RECORDS_MAX: usize = 10_000;
/// Most bytes of records in one answer to a range; as above. At least one record is answered.
pub const RANGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes of records in all answers of one transaction. Past it: `Refusal::AnswerTooLarge`,
/// and nothing is applied.
pub const TXN_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most keys one ranged delete removes when it asks for the previous records; without them it is
/// bounded by [`DELETE_KEYS_MAX`] only. Past it: `Refusal::DeleteTooLarge`.
pub const DELETE_PREV_KEYS_MAX: usize = 10_000;
/// Most keys one ranged delete removes: one command is applied without a pause. Past it:
/// `Refusal::DeleteTooLarge`, and nothing is applied; delete by smaller ranges.
pub const DELETE_KEYS_MAX: usize = 100_000;
/// Most bytes of keys that one command deletes: each key is written to history and told to
/// watchers again. The keys of one lease always fit. Past it: `Refusal::DeleteTooLarge`.
pub const DELETE_KEY_BYTES_MAX: usize = 48 * 1024 * 1024;

// --- leases ---

/// Shortest lease: below it, a leader change alone would end leases for healthy clients.
pub const LEASE_TTL_MS_MIN: u64 = 1_000;
/// Longest lease: ten years, so that arithmetic in milliseconds never overflows.
pub const LEASE_TTL_MS_MAX: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// Most leases in one group. Past it: `Refusal::TooManyLeases`.
pub const LEASES_MAX: u64 = 1_000_000;
/// Most keys one lease holds: its end deletes them in one command. Past it:
/// `Refusal::LeaseTooManyKeys`.
pub const LEASE_KEYS_MAX: u64 = 10_000;
/// Most leases that one expiry command ends.
pub const LEASES_EXPIRED_MAX: usize = 64;

// --- metrics ---

/// Most groups that are counted apart on a node, for as long as it runs, at about 100 bytes each: as
/// many as a log knows. Past it they are counted together.
pub const COUNTED_GROUPS_MAX: usize = LOG_GROUPS_MAX;
/// Most groups that have series of their own on the page of metrics: a page of 1,000 would be read
/// by nobody and stored by somebody. The others are in the sums.
pub const SHOWN_GROUPS_MAX: usize = 100;

// --- sessions ---

/// Most client sessions remembered in one group; past it the one idle for longest is evicted,
/// and its next command is refused with `SessionExpired`.
pub const SESSIONS_MAX: u64 = 4_096;
/// Most unacknowledged answers remembered for one session: the most commands a client may have
/// in flight. Past it: `Refusal::SessionFull`.
pub const SESSION_ANSWERS_MAX: u64 = 4_096;
/// Largest answer that is remembered whole. A larger one is remembered by its revision only, and
/// a repeated command is told so (`AnswerForgotten`).
pub const SESSION_ANSWER_BYTES_MAX: usize = 4 * 1024;

// --- compaction ---

/// Most history entries that one compaction step removes; the rest follow in further commands.
pub const COMPACT_STEP_ENTRIES_MAX: usize = 4_096;

// --- watches ---

/// Most events in one batch of a watch, unless one revision has more.
pub const WATCH_BATCH_EVENTS_MAX: usize = 1_024;
/// Most changes that one reading of history passes over, however few of them are asked for: it
/// bounds how long one watcher that is behind holds a thread. It goes on with the next reading.
pub const HISTORY_SCAN_ROWS_MAX: usize = 65_536;
/// Most bytes of recent changes kept in memory for watchers; older ones are read from history.
pub const WATCH_RECENT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest name of a request, as it goes into log lines and between nodes. A longer one is not taken
/// over, and the request gets another.
pub const REQUEST_ID_BYTES_MAX: usize = 128;
/// Most watches open at once in one group. Past it: `Busy`.
pub const WATCHES_MAX: usize = 16_384;

// --- a group's pipeline ---

/// Most proposals of one group that wait for an answer. Past it callers wait up to
/// [`PROPOSE_ADMIT`], then get `Busy`.
pub const PROPOSALS_MAX: usize = 4_096;
/// Most bytes of proposals of one group that wait for an answer; as above.
pub const PROPOSAL_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long a caller waits for a place among the proposals.
pub const PROPOSE_ADMIT: Duration = Duration::from_secs(1);
/// Most proposals gathered into one step of Raft.
pub const PROPOSE_BATCH_MAX: usize = 512;
/// Most steps of Raft that one group has under way at once: enough that the next is replicated
/// while the one before is on its way to disk, few enough that proposals gather meanwhile.
pub const PROPOSE_BATCHES_MAX: usize = 2;
/// Most rounds that the groups of a node have under way at once when the node is busy.
pub const ROUNDS_BUSY_MAX: usize = 8;
/// Longest that a round waits for others to be over.
pub const ROUND_WAIT_MAX: Duration = Duration::from_millis(100);
/// A node is busy when a task waits so long for its turn.
pub const TURN_BUSY: Duration = Duration::from_millis(1);
/// How often those who are about to propose or to read get their turn before the ones that came
/// first go, while each turn brings more.
pub const COMPANY_TURNS_MAX: usize = 8;
/// Most linearizable reads of one group that wait for a confirmation. Past it: `Busy`.
pub const READS_WAITING_MAX: usize = 65_536;
/// Most entries applied in one state transaction: bounds how long a read transaction waits to
/// see a write and how much is answered at once.
pub const APPLY_BATCH_ENTRIES_MAX: usize = 1_024;
/// Most bytes of entries applied in one state transaction.
pub const APPLY_BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most entries in one message to a follower; their bytes are bounded more closely.
pub const APPEND_ENTRIES_MAX: u64 = 4_096;
/// About how many bytes of entries one message to a follower has, unless one entry has more: large
/// enough that the head costs nothing, small enough that the next message need not wait long.
pub const APPEND_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes of entries that a follower has taken from a leader and not yet answered, in one
/// group. What comes on top waits on the way.
pub const APPEND_UNANSWERED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a leader waits for a follower's next answer while entries are out; past it they are
/// sent again on a new lane. Longer than any healthy disk takes for one sync.
pub const APPEND_SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long a follower may learn later what is committed when entries follow each other more closely
/// than this: the next of them tell it.
pub const COMMIT_WAIT_MAX: Duration = Duration::from_millis(5);
/// The pause after the first failed try to reach a member with entries; it doubles up to
/// [`MEMBER_BACKOFF_MAX`].
pub const MEMBER_BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest pause between tries to reach a member with entries.
pub const MEMBER_BACKOFF_MAX: Duration = Duration::from_millis(500);
/// How long a follower waits for its leader's word on a read. Past it the reads that wait are
/// refused as `Unavailable`.
pub const READ_INDEX_MAX: Duration = Duration::from_secs(2);
/// How long a planned change of leader may take before it is given up: then the group elects
/// whoever can lead.
pub const TRANSFER_MAX: Duration = Duration::from_secs(2);
/// How long a replica that stops tries to hand its lead over. Past it the others elect somebody.
pub const TRANSFER_STOP_MAX: Duration = Duration::from_secs(1);
/// How often a leader that is to hand over looks how far the chosen one has come.
pub const LAG_LOOK: Duration = Duration::from_millis(10);
/// How long ago a member may have been without an entry and still keep up: not longer than a
/// follower waits for its leader, for so long a group may wait for it once it votes or is to lead.
pub const LAG_MAX: Duration = Duration::from_millis(500);
/// How long a change of a group's members may take before its outcome is called unknown.
pub const MEMBERS_CHANGE_MAX: Duration = Duration::from_secs(10);

// --- the log ---

/// Size of a log segment file, pre-allocated: appends then change no file length. Two frames of
/// the largest size fit.
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Size of the first segment of a new log, which is written before a new node serves. What does
/// not fit in it goes to the next one.
pub const SEGMENT_BYTES_FIRST: u64 = 4 * 1024 * 1024;
/// Most bytes of records in one frame, which is what one fsync makes durable.
pub const FRAME_BYTES_MAX: usize = 24 * 1024 * 1024;
/// Most operations queued for the log writer, all groups together; appends wait for a place.
pub const LOG_QUEUE_OPS_MAX: usize = 8_192;
/// Most bytes of operations queued for the log writer, all groups together: a few of its largest
/// frames, so that it always finds work and memory stays bounded. Appends wait for a place; an
/// operation takes at least its share of a full queue, so both limits are one count.
pub const LOG_QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often a log that waits for room on the disk looks whether there is some: a try writes up to
/// a segment.
pub const LOG_ROOM_LOOK: Duration = Duration::from_secs(1);
/// Most groups in one log: each segment begins with what the log knows of every group. Past it
/// the operation that would begin another group is refused.
pub const LOG_GROUPS_MAX: usize = 16 * 1024;
/// Most bytes of recent entries kept in memory for replication and apply; older ones are read
/// from disk.
pub const LOG_CACHE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Most bytes that one read of log entries returns, unless one entry has more.
pub const LOG_READ_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A group checkpoints its state and purges its log when the log since the last checkpoint
/// exceeds this: it bounds replay at start and the size of the durable commit.
pub const CHECKPOINT_LOG_BYTES: u64 = 32 * 1024 * 1024;
/// The same in entries.
pub const CHECKPOINT_LOG_ENTRIES: u64 = 50_000;
/// The same in segments that others have begun since: a group that writes little would otherwise keep
/// on the disk what busier groups have long let go of.
pub const CHECKPOINT_LOG_SEGMENTS: u32 = 1;
/// How often a group looks how old the segments are that it keeps.
pub const CHECKPOINT_LOOK: Duration = Duration::from_secs(15);

// --- the state ---

/// What a group wrote is moved from memory to its state file when it is so much: enough that rows
/// which every write changes (counters, sessions) reach the file once for thousands of them.
pub const RECENT_BYTES: usize = 4 * 1024 * 1024;
/// When it is so much, writes wait for the file.
pub const RECENT_BYTES_MAX: usize = 4 * RECENT_BYTES;
/// Memory for pages of one group's state file.
pub const STATE_CACHE_BYTES: usize = 64 * 1024 * 1024;
/// Size of one chunk of a snapshot's stream.
pub const SNAPSHOT_CHUNK_BYTES: usize = 256 * 1024;
/// Longest row in a snapshot, its key included: a history row is a value, its key and their
/// counters, and no other row is longer. A stream with a longer one is refused.
pub const SNAPSHOT_ROW_BYTES_MAX: usize = VALUE_BYTES_MAX + 64 * 1024;
/// Longest mark at the head of a snapshot: three small ids and a membership of some thousand
/// nodes. A stream with a longer one is refused.
pub const SNAPSHOT_MARK_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a snapshot that were sent and not yet acknowledged: they are kept to be sent again
/// on another link. A chunk is sent whole, so it is this and one chunk.
pub const SNAPSHOT_WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Largest snapshot that is received. Past it: refused.
pub const SNAPSHOT_BYTES_MAX: u64 = 1 << 40;
/// How long either side of a snapshot waits for the other's next word; past it the link counts as
/// broken.
pub const SNAPSHOT_SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often a receiver that checks and installs a snapshot says that it is still at it.
pub const SNAPSHOT_SIGN_OF_LIFE: Duration = Duration::from_secs(1);
/// How long a sender tries to go on with a broken sending, and how long the receiver keeps what
/// has arrived. Past it the snapshot is sent anew.
pub const SNAPSHOT_RESUME_MAX: Duration = Duration::from_secs(30);
/// The wait between two tries to go on.
pub const SNAPSHOT_RESUME_PAUSE: Duration = Duration::from_millis(200);
/// Least bytes of snapshots that a node may be told to send in one second: with fewer, many that are
/// sent at once would each be silent for longer than [`SNAPSHOT_SILENCE_MAX`].
pub const SNAPSHOT_RATE_MIN: u64 = 4 * 1024 * 1024;
/// About how many bytes of a snapshot's rows enter the new state in one transaction.
pub const SNAPSHOT_INSTALL_BYTES: usize = 4 * 1024 * 1024;
/// Below this share of free disk, in percent, writes are refused with `NoSpace`.
pub const SPACE_FREE_PERCENT_MIN: u64 = 5;
/// From this share of free disk on, in percent, a node that was full leads again and is given shards:
/// more than what made it full, so that one at the edge does not go back and forth.
pub const SPACE_FREE_PERCENT_AGAIN: u64 = 7;
/// How long a group that stopped on a full disk waits for room before it is tried again anyway: what
/// stopped it may have been something else.
pub const SPACE_WAIT: Duration = Duration::from_secs(10);
/// Below this share of free disk, in percent, health warns.
pub const SPACE_FREE_PERCENT_WARN: u64 = 20;

// --- the network ---

/// Most links to this node at once, all protocols and peers together; each costs about 100 kB.
/// Past it a new one is closed with `Busy`.
pub const LINKS_MAX: usize = 1_024;
/// Most links from one peer at once: a few for each protocol, and those that it has lost and this
/// node does not know yet. Past it a new one is closed with `Busy`.
pub const LINKS_PEER_MAX: usize = 16;
/// Most handshakes of incoming links under way. From half of it on a dialler must first prove its
/// address; past it, it is refused and tries again.
pub const HANDSHAKES_MAX: usize = 64;
/// Most handshakes begun in one second: a flood takes a part of one core only. From half of it on
/// a dialler must first prove its address; past it, it is refused and tries again.
pub const HANDSHAKES_PER_SECOND_MAX: u32 = 256;
/// How long a handshake may take; past it the link is given up.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Most links that wait to be taken by whoever serves them. Past it a new one is closed `Busy`.
pub const LINKS_WAITING_MAX: usize = 64;
/// How long it may take to reach a peer at any of its addresses and be let in. A caller's own
/// deadline may be shorter.
pub const DIAL_MAX: Duration = Duration::from_secs(3);
/// A link over which nothing is heard for this long is lost. Raft notices a dead peer sooner by
/// its heartbeats; this is for everyone else, who are to know of a dead member within two seconds:
/// QUIC counts from the first sign of life that this side gives after the last of the other.
pub const LINK_SILENCE_MAX: Duration = Duration::from_millis(1_400);
/// How often a quiet link says that it is alive.
pub const LINK_KEEP_ALIVE: Duration = Duration::from_millis(350);
/// The wait after the first failed dial of a peer; it doubles up to [`DIAL_BACKOFF_MAX`]. Calls
/// meanwhile fail at once with the reason of the last failure.
pub const DIAL_BACKOFF_MIN: Duration = Duration::from_millis(20);
/// The longest wait between dials of a peer that does not answer.
pub const DIAL_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The wait after a peer has said that this node is no member: it may not have heard of the
/// admission yet. Doubles up to [`REFUSED_BACKOFF_MAX`].
pub const REFUSED_BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest wait between dials of a peer that refuses this node.
pub const REFUSED_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// A link that lived shorter than this counts as a failed dial, so that a peer that lets this node
/// in and drops it is not dialled in a tight loop.
pub const LINK_STABLE: Duration = Duration::from_secs(1);
/// A link younger than this is not given up by suspicion: who suspects saw the one before it.
pub const SUSPECT_AGE_MIN: Duration = Duration::from_millis(250);
/// How long a link that does not answer is left open where the peer has another way: for the
/// transport to notice that the one it goes is dead.
pub const LINK_LEFT_MAX: Duration = Duration::from_secs(3);
/// Of two links to one peer, how long the one that is given up is kept at least: calls that the
/// peer began on it before it knew can end.
pub const LINK_RETIRE_MIN: Duration = Duration::from_millis(500);
/// How long it is kept at most, if something is still under way on it.
pub const LINK_RETIRE_MAX: Duration = Duration::from_secs(5);
/// Most streams that a peer may have open on one link: forwarded requests, one stream each, are
/// the many. Its further ones wait.
pub const LINK_STREAMS_MAX: u32 = 1_024;
/// Of those, how many are kept for votes, heartbeats and read indexes: however many requests and
/// watches one node forwards to another, its groups' leadership does not wait behind them.
pub const LINK_STREAMS_RESERVED: u32 = 128;
/// Most bytes of one stream that are received and not read yet: at 680 MB/s on one machine, 3 ms;
/// at 1 GB/s over 2 ms, what is on the way.
pub const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Most bytes of one member's streams that are received and not read yet: a last resort. At it
/// nothing more gets through, votes included, so it is 128 streams that nobody reads.
pub const LINK_WINDOW_BYTES: u32 = 256 * 1024 * 1024;
/// The same for a link of a client or a joining node, which has few streams.
pub const GUEST_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Most bytes of one link that are sent and not confirmed yet: writers wait past it.
pub const LINK_SEND_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How long the greeting of a link may take. Past it the link is closed.
pub const GREETING_MAX: Duration = Duration::from_secs(5);
/// How long the head of a stream may take to arrive. Past it the stream is dropped. A stream can be
/// seen before its first byte is here, and then waits for what the link carries already.
pub const PREFACE_MAX: Duration = Duration::from_secs(15);
/// How long a call's request, once begun, may take to arrive, and its answer to leave. Past it the
/// stream is dropped: a slow reader holds no memory for ever.
pub const CALL_TRANSFER_MAX: Duration = Duration::from_secs(30);
/// Longest message of the calls that keep a cluster going: they hold ids and small records.
pub const CONTROL_BYTES_MAX: usize = 256 * 1024;
/// Longest message of a call that carries a client's operation: the largest answer of a
/// transaction and what stands around it.
pub const CALL_BYTES_MAX: usize = TXN_ANSWER_BYTES_MAX + 4 * 1024 * 1024;
/// Most bytes of clients' requests under way to one peer, and most that one peer's may hold here.
/// Further ones wait where they are: what a peer can't take is not sent, so that it does not fill
/// the link.
pub const CALLS_PEER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The same for the calls that keep a cluster going, which do not wait behind the former.
pub const CONTROL_PEER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most streams of one peer that are served at once; further ones wait.
pub const PEER_STREAMS_MAX: usize = 1_024;
/// Most peers known to one node: members, past members and those that tickets name. Past it the
/// one that was noted longest ago is forgotten.
pub const PEERS_MAX: usize = 1_024;
/// Most addresses kept for one peer; the one noted longest ago goes, a socket before a relay.
pub const PEER_ADDRESSES_MAX: usize = 8;
/// How long changes of the address book gather before it is written.
pub const BOOK_SAVE_PAUSE: Duration = Duration::from_secs(1);
/// Longest message of gossip; iroh's own default, beyond which it loses one in silence.
pub const GOSSIP_MESSAGE_BYTES_MAX: usize = 4_096;
/// Most messages of gossip that wait to be read. Past it the topic is entered anew.
pub const GOSSIP_WAITING_MAX: usize = 256;
/// Most streams that a neighbour in gossip may have open: one a topic, and its end.
pub const GOSSIP_STREAMS_MAX: u32 = 16;
/// How long leaving the topics may take: neighbours are told that may be gone.
pub const GOSSIP_STOP_MAX: Duration = Duration::from_millis(200);
/// Most certificates of relays that are known by their hash; a relay beyond that is not reached.
pub const PINS_MAX: usize = 256;
/// How long a peer is looked for by its key: the DHT takes some seconds.
pub const LOOKUP_MAX: Duration = Duration::from_secs(10);
/// How often a member that is not reached is looked for at first; the pause doubles while it stays away.
pub const SEEK_MIN: Duration = Duration::from_secs(2);
/// The longest such pause.
pub const SEEK_MAX: Duration = Duration::from_secs(60);
/// Most nodes that are heard on the link at a time; others are not noticed until one is gone.
pub const NEIGHBOURS_MAX: usize = 256;
/// Longest word that a node says of itself on the link: it must fit in one DNS record.
pub const NEIGHBOUR_WORD_BYTES_MAX: usize = 128;
/// Longest message on a lane: a few entries of the log, or one of the largest.
pub const LANE_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest piece of a message that one lane sends before it is the next one's turn.
pub const LANE_FRAGMENT_BYTES_MAX: usize = 64 * 1024;
/// Most bytes on one lane that are sent and not taken by the receiver. Past it senders wait; a
/// message is sent whole once any room is left, so the bound is passed by one message at most.
pub const LANE_WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// Most bytes that wait on one lane to be sent. Past it senders wait; as above.
pub const LANE_OUTBOX_BYTES: usize = 1024 * 1024;
/// What a message counts at least, so that empty ones are bounded too.
pub const LANE_MESSAGE_COST: usize = 64;
/// Most streams of lanes that a peer has open on one link: one, and those that it gave up and this
/// node does not know yet. Past it the link is closed.
pub const LANE_STREAMS_MAX: usize = 4;
/// Most lanes open on one stream. Past it opening one fails, and a peer that opens more is closed.
pub const LANES_MAX: usize = 4_096;
/// About how many bytes of lanes' frames are gathered into one write.
pub const LANES_WRITE_BYTES: usize = 256 * 1024;

// --- actors ---

/// Most messages that wait in one actor's mailbox. Past it: `Busy`.
pub const MAILBOX_MAX: usize = 64;
/// Restarts of one child within [`RESTART_WINDOW`] before its breaker opens.
pub const RESTARTS_MAX: usize = 3;
/// The time in which restarts are counted.
pub const RESTART_WINDOW: Duration = Duration::from_secs(600);
/// The wait before the first restart; it doubles up to [`RESTART_BACKOFF_MAX`].
pub const RESTART_BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest wait before a restart.
pub const RESTART_BACKOFF_MAX: Duration = Duration::from_secs(16);
/// How long an open breaker waits before it tries again.
pub const BREAKER_OPEN: Duration = Duration::from_secs(300);
/// How long an orderly shutdown may take before it is cut off.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(5);
/// How long one part may take to stop before the next is stopped: a part that hangs leaves the
/// others the rest of [`SHUTDOWN_MAX`].
pub const PART_STOP_MAX: Duration = Duration::from_secs(3);

// --- the roster ---

/// Most members that are not removed. Each is at least a learner of every group, so this bounds
/// what a leader sends. Past it: `Refused::ClusterFull`.
pub const MEMBERS_MAX: usize = 256;
/// Most removed members that are remembered, to be told so when they come back. Past it the one
/// removed first is forgotten; its number is never given again.
pub const TOMBSTONES_MAX: usize = 256;
/// Longest name of a member, in bytes: a label for people. Past it: `Refused::Malformed`.
pub const MEMBER_NAME_BYTES_MAX: usize = 64;
/// Longest version that a member says it runs, in bytes; as above.
pub const MEMBER_VERSION_BYTES_MAX: usize = 32;
/// Most addresses of a member, as many as a ticket holds, and as many relays among them
/// ([`RELAYS_MAX`](aspen_tickets::RELAYS_MAX)); as above.
pub const MEMBER_ADDRESSES_MAX: usize = 8;
/// Largest number that a node may ask for: whoever shows it as a float or in 32 bits shows it
/// right. Past it: `Refused::NodeOutOfBounds`.
pub const NODE_NUMBER_MAX: u64 = u32::MAX as u64;
/// Most invitations for nodes at once; expired ones make room. Past it: `Refused::TooManyTickets`.
pub const INVITATIONS_MAX: usize = 1_024;
/// Most grants for clients at once; as above.
pub const GRANTS_MAX: usize = 1_024;
/// Most tokens at once; as above. Past it: `Refused::TooManyTokens`.
pub const TOKENS_MAX: usize = 1_024;
/// How long a token that a node does not know waits for what the others know of it: some elections'
/// time, so that a new token is good at once. Past it: `Error::Unavailable`.
pub const TOKEN_LOOK_MAX: Duration = Duration::from_secs(3);
/// Longest life of a ticket or token, in seconds: ten years. Past it: `Refused::LifeOutOfBounds`.
pub const TICKET_LIFE_S_MAX: u64 = 10 * 365 * 24 * 3_600;
/// Most clients that a grant with counted uses serves: each is a record. A grant for more is one
/// for any number. Past it: `Refused::UsesOutOfBounds`.
pub const GRANT_USES_MAX: u32 = 256;
/// Most clients that are counted at once, all grants together. Past it: `Refused::TooManyClients`.
pub const GRANT_CLIENTS_MAX: usize = 16_384;
/// Most expired records that one decision drops on its way; further ones are dropped later.
pub const ROSTER_DROPS_MAX: usize = 256;
/// How much a member takes, in proportion to others, unless it says otherwise.
pub const MEMBER_WEIGHT: u32 = 100;
/// The most that it may say: products of weights and counts stay far from overflowing.
pub const MEMBER_WEIGHT_MAX: u32 = 10_000;
/// Longest name, and longest value, of a setting of the cluster, in bytes.
pub const SETTING_BYTES_MAX: usize = 64;
/// Most keyspaces. Past it: `Refused::TooManyKeyspaces`.
pub const KEYSPACES_MAX: usize = 256;
/// Most shards of a keyspace: all are made in one transaction. Past it: `Refused::Malformed`.
pub const KEYSPACE_SHARDS_MAX: u32 = 500;
/// Most shards of all keyspaces: each replica is a Raft group of its own on a node, and every node
/// knows where all are. Past it: `Refused::TooManyShards`.
pub const SHARDS_MAX: usize = 2_048;
/// How many replicas the shards of a keyspace have unless it is said.
pub const KEYSPACE_REPLICAS: u8 = 3;
/// Most voters of a group: two may fail, and each further one makes every write wait for more.
pub const VOTERS_MAX: usize = 5;

// --- what members announce and hear ---

/// Largest announcement, in bytes: gossip carries messages of 4,096, and its envelope and later
/// fields want room. What a member announces is cut to it; a larger message is ignored unread.
pub const ANNOUNCEMENT_BYTES_MAX: usize = 3_584;
/// Most groups in an announcement; the rest is left out, and the announcement says so.
pub const ANNOUNCEMENT_GROUPS_MAX: usize = 256;
/// How often a member announces itself while others need it fresh: a member that was missed once
/// is heard of long before anybody asks.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
/// The longest pause of a member between two announcements, which a large cluster without changes
/// comes to: everybody hears everybody, so the sum grows with the members.
pub const ANNOUNCE_EVERY_MAX: Duration = Duration::from_secs(60);
/// Up to so many members none of them lengthens its pauses.
pub const ANNOUNCE_MANY: usize = 16;
/// The shortest pause between two announcements of a member, whatever changes: an election moves
/// the leads of many groups at once, and one announcement tells of all.
pub const ANNOUNCE_GAP_MIN: Duration = Duration::from_millis(500);
/// By which part of itself chance shortens a pause, so that members that started together do not
/// stay together.
pub const ANNOUNCE_JITTER: f64 = 0.25;
/// Most members of whom the newest announcement is kept. Past it the one that was heard of longest
/// ago is forgotten.
pub const HEARD_MAX: usize = MEMBERS_MAX;
/// How long an announcement says where its author is: two of the next may be lost. An address in
/// an older one may be announced by somebody else.
pub const HEARD_LIVE: Duration = Duration::from_secs(180);
/// Most announcements looked at in one second, all who deliver them together: most cost a check of
/// a signature, and so many take a small part of one core. Past it they are ignored.
pub const HEARD_ALL_PER_SECOND_MAX: u32 = 512;
/// How many of them may come at once; as above.
pub const HEARD_ALL_BURST_MAX: u32 = 2_048;
/// Most announcements looked at in one second of those that one neighbour delivers, its own and
/// what it passes on. Past it they are ignored.
pub const HEARD_DELIVERER_PER_SECOND_MAX: u32 = 64;
/// How many of them may come at once: a neighbour may pass on two of every member. As above.
pub const HEARD_DELIVERER_BURST_MAX: u32 = 512;
/// Most announcements of one author that are taken in one second. Past it they are ignored.
pub const HEARD_AUTHOR_PER_SECOND_MAX: u32 = 4;
/// How many of them may come at once, held up on the way; as above.
pub const HEARD_AUTHOR_BURST_MAX: u32 = 16;
/// How many old announcements a neighbour may deliver in one second before it is named for it:
/// gossip repeats itself, and takes other ways when a link is lost. They are ignored in any case.
pub const HEARD_REPLAYS_PER_SECOND_MAX: u32 = 16;
/// How many of them may come at once; as above.
pub const HEARD_REPLAYS_BURST_MAX: u32 = 512;
/// Most keys whose rate is kept, of each kind of rate. Past it the one that is nearest to its full
/// allowance gets it at once.
pub const RATES_MAX: usize = MEMBERS_MAX;
/// Most keys whose offences are counted, and so most lines about them in one
/// [`OFFENCE_LOG_GAP`]. Past it further keys are not named until one has been quiet for that long.
pub const OFFENDERS_MAX: usize = MEMBERS_MAX;
/// How long after an offence of a key was logged further ones are only counted.
pub const OFFENCE_LOG_GAP: Duration = Duration::from_secs(60);

// --- the client ---

/// How long a client works on one operation, retries included, unless told otherwise.
pub const CLIENT_DEADLINE: Duration = Duration::from_secs(5);
/// Most writes that one client has under way; further ones wait for a place.
pub const CLIENT_WRITES_MAX: usize = 2_048;
/// The first wait between tries of a client; it doubles up to [`CLIENT_BACKOFF_MAX`].
pub const CLIENT_BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest wait between tries of a client: a new leader is found at most this long after it
/// was elected.
pub const CLIENT_BACKOFF_MAX: Duration = Duration::from_millis(250);
/// How long the first try at another node waits for its answer, doubled with each that has none:
/// longer than an election, so that by then somebody else leads. A write that is tried again is
/// still done once.
pub const CLIENT_TRY_MIN: Duration = Duration::from_secs(1);
/// The longest that one try waits, however patient its caller is.
pub const CLIENT_TRY_MAX: Duration = Duration::from_secs(8);
/// Most nodes that a client asks about one operation before it waits; past it the rest have their
/// turn after the wait, in the order of who is likeliest.
pub const CLIENT_ROUND_TRIES_MAX: usize = 4;
/// Most nodes that a client remembers: those of its ticket and those it was told of. Past it, who
/// is new is not remembered.
pub const CLIENT_NODES_MAX: usize = 64;
/// How many shards one operation asks at once, and so how many pages it holds.
pub const CLIENT_SHARDS_AT_ONCE: usize = 8;
/// Most keyspaces whose shards a client that comes from elsewhere knows the places of. Past it what
/// it knows is forgotten, and asked for again.
pub const CLIENT_KEYSPACES_MAX: usize = 64;
/// How long a client leaves a node alone that did not answer; doubled with each failure in a row.
pub const CLIENT_BREAKER_OPEN_MIN: Duration = Duration::from_millis(250);
/// The longest of that; shorter than [`CLIENT_DEADLINE`], so that every operation may find a node
/// that came back.
pub const CLIENT_BREAKER_OPEN_MAX: Duration = Duration::from_secs(2);
/// Most addresses of a node that a client is told to ask, relays among them as in a ticket; a hint
/// with more is passed over.
pub const CLIENT_PLACE_ADDRESSES_MAX: usize = 8;
/// How long a node works on one request from elsewhere, whatever its client says: past it the
/// client hears that nothing is known.
pub const REQUEST_SERVE_MAX: Duration = Duration::from_secs(60);
/// Most requests and watches served at once over one client's link; further ones wait on the wire.
pub const GUEST_REQUESTS_MAX: usize = 256;
/// Most bytes of requests and answers held for one client's link; further requests wait on the
/// wire, further answers for their turn.
pub const GUEST_BYTES_MAX: usize = 2 * CALL_BYTES_MAX;
/// The same for the links of all clients together.
pub const GUESTS_BYTES_MAX: usize = 8 * CALL_BYTES_MAX;
/// How long a client's ticket may take to be decided: counting a use is a write.
pub const GUEST_ADMIT_MAX: Duration = Duration::from_secs(10);
/// How long a client waits for a node that did not welcome it to say why.
pub const LINK_CLOSE_WAIT: Duration = Duration::from_secs(1);
/// About how many bytes of changes a watch over the network sends in one message.
pub const WATCH_MESSAGE_BYTES: usize = 512 * 1024;
/// How often a watch over the network without changes says that it is alive, and how far it is.
pub const WATCH_PROGRESS: Duration = Duration::from_secs(2);
/// A watch over the network that says nothing for this long is lost, and goes on elsewhere.
pub const WATCH_SILENCE_MAX: Duration = Duration::from_secs(7);
/// Most bytes of a reason that travels to a client; the rest is cut off.
pub const CLIENT_REASON_BYTES_MAX: usize = 512;

// --- the roster, placement, and acts on the cluster ---

/// How long a member must have been reached without a break before it is handed a lead that it is
/// wanted for: one that comes and goes would have the lead come and go with it.
pub const LEAD_STEADY: Duration = Duration::from_secs(3);
/// How long shards wait for as many members as they want replicas before they are placed on those
/// that there are.
pub const PLACE_WAIT: Duration = Duration::from_secs(3);
/// How long a member is not heard before it is given no shards, and those on their way to it are to
/// be elsewhere: longer than a restart takes.
pub const SILENT_AFTER: Duration = Duration::from_secs(5);
/// Most shards that one change of the roster gives another aim; the rest are next.
pub const AIMS_MAX: usize = 128;
/// How often placement looks at what the roster does not tell: who is lost, who has waited.
pub const BALANCE_LOOK: Duration = Duration::from_millis(500);
/// How long the members have to say that they know of a change.
pub const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(2);
/// Most records that one command of a recovery writes: well within what a transaction may.
pub const RECOVERY_RECORDS_MAX: usize = 256;
/// How long the roster waits for the meta group's replica before it looks again.
pub const ROSTER_WAIT: Duration = Duration::from_secs(5);
/// How long the roster rests when its replica has ended: it is started again meanwhile.
pub const ROSTER_RETRY: Duration = Duration::from_millis(100);
/// How long a shard whose group was founded waits for those of its members that have nothing of it yet,
/// before it counts as settled: as long as it does not, they still begin with it, and later they would have
/// to be taken in by a majority of the others.
pub const FOUNDERS_WAIT: Duration = Duration::from_secs(30);
/// How long placement leaves a group alone after a step.
pub const PLACEMENT_LOOK: Duration = Duration::from_millis(50);
/// How often placement looks when all is as wanted: whether a member has caught up or died is told
/// by nobody.
pub const PLACEMENT_REST: Duration = Duration::from_millis(250);
/// How long placement waits for one change of membership before it looks anew.
pub const PLACEMENT_STEP_MAX: Duration = Duration::from_secs(10);
/// How long an act on the cluster waits for this node's own replica to see what the others have
/// decided, before it asks them: several times what that takes.
pub const CLUSTER_FOLLOW_MAX: Duration = Duration::from_millis(500);
/// How long the hand-over of a group's lead may take in all; past it the caller asks again.
pub const HANDOVER_MAX: Duration = Duration::from_secs(8);
/// How long to wait before looking again for a leader that has just changed.
pub const HANDOVER_RETRY: Duration = Duration::from_millis(50);
/// How often an act on the cluster is decided anew because the records changed in between. Past it
/// the caller is told that many act at once.
pub const CLUSTER_DECIDE_TRIES_MAX: usize = 16;
/// How often the leader of the meta group looks whether members that leave have left.
pub const DEPARTURES_LOOK: Duration = Duration::from_millis(100);
/// How often it looks whether any leave; it is told of changes anyway.
pub const DEPARTURES_REST: Duration = Duration::from_secs(10);
/// Longest question or answer of a join, in bytes: a ticket and a description, or the members with
/// their addresses. Past it the link is closed.
pub const JOIN_BYTES_MAX: usize = 1024 * 1024;
/// How long one node may take to answer who wants to join: it may have to find a leader first.
pub const JOIN_ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a node asks in all before it tells the person who waits.
pub const JOIN_ASK_MAX: Duration = Duration::from_secs(60);
/// How long a node that was told to ask again waits.
pub const JOIN_RETRY: Duration = Duration::from_millis(500);
/// How long a node rests after it has asked the others whether whom it turned away is a member,
/// or has told them in vain where it is: strangers that knock often cost a read of the roster a
/// second, and no more.
pub const NEWS_PAUSE: Duration = Duration::from_secs(1);
/// How long until a topic of gossip that failed is entered anew.
pub const GOSSIP_RETRY: Duration = Duration::from_secs(1);
/// How often a node without neighbours in gossip looks for some among the members.
pub const GOSSIP_MEET_EVERY: Duration = Duration::from_secs(2);
/// How often a node looks at its own roles and load, to tell of them.
pub const LOAD_LOOK: Duration = Duration::from_secs(1);
/// How soon it is known of every member what it is to its groups: it looks, pauses, and tells, twice over.
pub const TOLD_WITHIN: Duration = Duration::from_secs(3);
/// How often whoever waits for that looks whether it is.
pub const TOLD_LOOK: Duration = Duration::from_millis(100);

// --- the mesh ---

/// Longest name of a mesh; as long as a cluster's, which it becomes.
pub const MESH_NAME_BYTES_MAX: usize = 63;
/// Shortest secret of a mesh: whoever meets a node can try secrets against its proof, as fast as it
/// likes. Past it: a `MeshError` that says how to make a good one.
pub const MESH_SECRET_BYTES_MIN: usize = 16;
/// Longest secret of a mesh; a longer one is a file of something else.
pub const MESH_SECRET_BYTES_MAX: usize = 4 * 1024;
/// How many nodes found a mesh's cluster unless the user says otherwise: the least that survive the
/// loss of one.
pub const MESH_EXPECTED: usize = 3;
/// How long a node of a mesh listens before a cluster may be founded: neighbours say that they are
/// there every 0.7 s, so that it would have heard of a cluster three times over.
pub const MESH_LISTEN_MIN: Duration = Duration::from_millis(2_000);
/// How often a node of a mesh looks whom to dial.
pub const MESH_LOOK: Duration = Duration::from_millis(250);
/// How long a node of another cluster of the mesh is taken to be there after it was met or heard
/// last: neighbours say that they are there every 0.7 s, and a busy one some times too late.
pub const MESH_UNHEARD_MAX: Duration = Duration::from_secs(10);
/// How long one that was not met is left alone.
pub const MESH_DIAL_PAUSE: Duration = Duration::from_secs(1);
/// How long one with another secret is.
pub const MESH_REFUSED_PAUSE: Duration = Duration::from_secs(30);
/// How long until the next member is asked for a ticket.
pub const MESH_ASK_PAUSE: Duration = Duration::from_secs(2);
/// How often the log tells of a node of another cluster of the mesh, or with another secret.
pub const MESH_TOLD_PAUSE: Duration = Duration::from_secs(300);
/// Most nodes that one which looks for its cluster has met; others are met once one is gone.
pub const MESH_SESSIONS_MAX: usize = 256;
/// How long two nodes may take to prove that they know the mesh's secret.
pub const MESH_INTRODUCTION_MAX: Duration = Duration::from_secs(5);
/// How long a newcomer may stay with the member that shows it the way in.
pub const MESH_ACQUAINTANCE_MAX: Duration = Duration::from_secs(120);
/// How long the ticket of a newcomer is good, and long enough to join across a slow election.
pub const MESH_INVITATION_LIFE: Duration = Duration::from_secs(600);
/// Longest message between nodes of a mesh: a ticket is the longest.
pub const MESH_MESSAGE_BYTES_MAX: usize = 16 * 1024;

const _: () = {
    assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX <= TXN_BYTES_MAX);
    assert!(2 * FRAME_BYTES_MAX as u64 <= SEGMENT_BYTES);
    assert!(SEGMENT_BYTES_FIRST <= SEGMENT_BYTES);
    assert!(2 * TXN_BYTES_MAX <= FRAME_BYTES_MAX);
    assert!(FRAME_BYTES_MAX <= LOG_QUEUE_BYTES_MAX);
    assert!(LOG_QUEUE_BYTES_MAX.is_multiple_of(LOG_QUEUE_OPS_MAX));
    assert!(TXN_BYTES_MAX <= PROPOSAL_BYTES_MAX);
    assert!(TXN_BYTES_MAX <= APPLY_BATCH_BYTES_MAX);
    assert!(VALUE_BYTES_MAX <= RANGE_BYTES_MAX);
    assert!(RANGE_BYTES_MAX <= TXN_ANSWER_BYTES_MAX);
    assert!(2 * WATCH_PROGRESS.as_millis() < WATCH_SILENCE_MAX.as_millis());
    assert!(WATCH_MESSAGE_BYTES + 2 * VALUE_BYTES_MAX + 2 * KEY_BYTES_MAX < CALL_BYTES_MAX);
    assert!(GUESTS_BYTES_MAX <= u32::MAX as usize);
    assert!(CLIENT_BREAKER_OPEN_MAX.as_millis() < CLIENT_DEADLINE.as_millis());
    assert!(CLIENT_BREAKER_OPEN_MIN.as_millis() < CLIENT_TRY_MIN.as_millis());
    assert!(SESSION_ANSWERS_MAX as usize >= 2 * CLIENT_WRITES_MAX);
    assert!(2 * KEY_BYTES_MAX + VALUE_BYTES_MAX < SNAPSHOT_ROW_BYTES_MAX);
    assert!(SESSION_ANSWER_BYTES_MAX < SNAPSHOT_ROW_BYTES_MAX);
    assert!(SNAPSHOT_ROW_BYTES_MAX <= u32::MAX as usize);
    assert!(APPEND_BYTES_MAX <= LOG_READ_BYTES_MAX);
    assert!(TXN_BYTES_MAX < APPEND_UNANSWERED_BYTES_MAX);
    assert!(SNAPSHOT_SIGN_OF_LIFE.as_millis() * 2 < SNAPSHOT_SILENCE_MAX.as_millis());
    assert!(SNAPSHOT_RESUME_PAUSE.as_millis() < SNAPSHOT_RESUME_MAX.as_millis());
    // As many sendings as shards may be on their way take turns.
    assert!(
        128 * SNAPSHOT_CHUNK_BYTES as u64
            <= SNAPSHOT_RATE_MIN * (SNAPSHOT_SILENCE_MAX.as_secs() - 1)
    );
    assert!(SPACE_FREE_PERCENT_MIN < SPACE_FREE_PERCENT_AGAIN);
    assert!(SPACE_FREE_PERCENT_AGAIN < SPACE_FREE_PERCENT_WARN);
    assert!(LEASE_TTL_MS_MIN < LEASE_TTL_MS_MAX);
    assert!(LEASE_KEYS_MAX as usize <= DELETE_KEYS_MAX);
    assert!(LEASE_KEYS_MAX as usize * KEY_BYTES_MAX <= DELETE_KEY_BYTES_MAX);
    assert!(DELETE_PREV_KEYS_MAX <= DELETE_KEYS_MAX);
    assert!(RANGE_BYTES_MAX >= KEY_BYTES_MAX + VALUE_BYTES_MAX);
    assert!(GRANT_USES_MAX as usize <= GRANT_CLIENTS_MAX);
    assert!(GRANT_USES_MAX as usize <= ROSTER_DROPS_MAX);
    assert!(2 * (ROSTER_DROPS_MAX + 8) <= TXN_OPS_MAX);
    assert!(ANNOUNCEMENT_BYTES_MAX < GOSSIP_MESSAGE_BYTES_MAX);
    assert!(VOTERS_MAX % 2 == 1);
    assert!(KEYSPACE_REPLICAS as usize <= VOTERS_MAX);
    // Each is a guard and a write, with as many guards of members.
    assert!(2 * AIMS_MAX + MEMBERS_MAX <= TXN_OPS_MAX);
    assert!(2 * KEYSPACE_SHARDS_MAX as usize + 8 <= TXN_OPS_MAX);
    assert!(KEYSPACE_SHARDS_MAX as usize <= SHARDS_MAX);
    assert!(SHARDS_MAX < LOG_GROUPS_MAX && SHARDS_MAX <= LANES_MAX);
    assert!(ANNOUNCE_EVERY.as_millis() < ANNOUNCE_EVERY_MAX.as_millis());
    assert!(ANNOUNCE_JITTER > 0.0 && ANNOUNCE_JITTER < 0.5);
    assert!(2 * ANNOUNCE_GAP_MIN.as_millis() < ANNOUNCE_EVERY.as_millis());
    assert!(2 * (LOAD_LOOK.as_millis() + ANNOUNCE_GAP_MIN.as_millis()) <= TOLD_WITHIN.as_millis());
    assert!(3 * ANNOUNCE_EVERY_MAX.as_millis() <= HEARD_LIVE.as_millis());
    assert!(HEARD_MAX >= MEMBERS_MAX && RATES_MAX >= MEMBERS_MAX);
    assert!(HEARD_AUTHOR_PER_SECOND_MAX as u128 * ANNOUNCE_GAP_MIN.as_millis() >= 2 * 1_000);
    assert!(HEARD_DELIVERER_PER_SECOND_MAX as u64 * ANNOUNCE_EVERY.as_secs() > MEMBERS_MAX as u64);
    assert!(HEARD_DELIVERER_BURST_MAX as usize >= 2 * MEMBERS_MAX);
    assert!(HEARD_REPLAYS_BURST_MAX <= HEARD_DELIVERER_BURST_MAX);
    assert!(8 * HEARD_DELIVERER_PER_SECOND_MAX <= HEARD_ALL_PER_SECOND_MAX);
    assert!(4 * HEARD_DELIVERER_BURST_MAX <= HEARD_ALL_BURST_MAX);
    assert!(LINK_LEFT_MAX.as_millis() > LINK_SILENCE_MAX.as_millis());
    assert!(LINK_KEEP_ALIVE.as_millis() * 3 < LINK_SILENCE_MAX.as_millis());
    assert!(LINK_KEEP_ALIVE.as_millis() + LINK_SILENCE_MAX.as_millis() < 2_000);
    assert!(LINKS_PEER_MAX < LINKS_MAX);
    // ADDRESSES_BYTES_MAX counts no fewer than these.
    assert!(PEER_ADDRESSES_MAX <= aspen_tickets::PEER_ADDRESSES_MAX);
    assert!(MEMBER_ADDRESSES_MAX <= aspen_tickets::PEER_ADDRESSES_MAX);
    assert!(CLIENT_PLACE_ADDRESSES_MAX <= aspen_tickets::PEER_ADDRESSES_MAX);
    // All who are named with their keys and numbers fit in the messages that name them.
    assert!(CLIENT_NODES_MAX * (64 + ADDRESSES_BYTES_MAX) < CONTROL_BYTES_MAX);
    assert!(MEMBERS_MAX * (64 + ADDRESSES_BYTES_MAX) < JOIN_BYTES_MAX);
    assert!(aspen_tickets::TICKET_CHARS_MAX + ADDRESSES_BYTES_MAX < JOIN_BYTES_MAX);
    assert!(aspen_tickets::CLIENT_TICKET_CHARS_MAX < CONTROL_BYTES_MAX);
    // Each is a route and two ids, its answer an id or a reason.
    assert!(GATHERED_MAX * 256 < CONTROL_BYTES_MAX);
    assert!(STREAM_WINDOW_BYTES < LINK_WINDOW_BYTES && STREAM_WINDOW_BYTES < GUEST_WINDOW_BYTES);
    assert!(LINK_STREAMS_MAX as usize <= PEER_STREAMS_MAX);
    assert!(LINK_STREAMS_RESERVED * 2 <= LINK_STREAMS_MAX);
    assert!(CALL_BYTES_MAX <= CALLS_PEER_BYTES_MAX);
    assert!(CONTROL_BYTES_MAX <= CONTROL_PEER_BYTES_MAX);
    assert!(TXN_BYTES_MAX < CALL_BYTES_MAX && TXN_BYTES_MAX < LANE_MESSAGE_BYTES_MAX);
    assert!(LOG_READ_BYTES_MAX < LANE_MESSAGE_BYTES_MAX);
    assert!(LANE_FRAGMENT_BYTES_MAX <= LANES_WRITE_BYTES);
    assert!(LANE_MESSAGE_BYTES_MAX + LANE_WINDOW_BYTES <= u32::MAX as usize);
    assert!(CALLS_PEER_BYTES_MAX <= u32::MAX as usize);
    assert!(LAG_LOOK.as_millis() < LAG_MAX.as_millis());
    assert!(LAG_MAX.as_millis() < TRANSFER_MAX.as_millis());
    assert!(TRANSFER_STOP_MAX.as_secs() < PART_STOP_MAX.as_secs());
    assert!(PART_STOP_MAX.as_secs() < SHUTDOWN_MAX.as_secs());
};
