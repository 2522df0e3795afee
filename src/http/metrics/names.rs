//! Every metric of the page: the one place for names, which do not change, and what they mean.
//!
//! `docs/metrics.md` has the same table, and a test holds the two equal.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only rises, for as long as the process runs.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts values by how large they are.
    Histogram,
}

impl Shape {
    /// The word for it on the page.
    pub fn as_str(self) -> &'static str {
        match self {
            Shape::Counter => "counter",
            Shape::Gauge => "gauge",
            Shape::Histogram => "histogram",
        }
    }
}

/// A metric with all of its series.
#[derive(Debug, PartialEq, Eq)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// What tells its series apart.
    pub labels: &'static [&'static str],
    /// What it says, as one sentence without a full stop.
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident: $shape:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $id: &Family = &Family {
            name: $name, shape: Shape::$shape, labels: &[$($label),*], help: $help,
        };)*

        /// All metrics, in the order of the page.
        pub const FAMILIES: &[&Family] = &[$($id),*];
    };
}

families! {
    STARTED: Gauge "process_start_time_seconds" []
        "When the process started, in seconds since 1970";
    BUILD: Gauge "aspen_build_info" ["version", "level"]
        "1, with the version of the build and the level of what it knows";
    NODE: Gauge "aspen_node_info" ["node", "endpoint_id", "cluster", "cluster_id"]
        "1, with who the node is";
    READY: Gauge "aspen_ready" []
        "1 if the node can serve, as /readyz says";
    PARTS: Gauge "aspen_parts" ["state"]
        "Parts of the node that are so well, as /health says";
    RESTARTS: Counter "aspen_part_restarts_total" ["part"]
        "Starts of a part after it failed; all groups are one part";
    MAILBOX: Gauge "aspen_mailbox_messages" []
        "Messages in the mailboxes of the node's actors, all together";
    MAILBOX_SENT: Counter "aspen_mailbox_messages_total" []
        "Messages that got a place in a mailbox";
    MAILBOX_WAITS: Counter "aspen_mailbox_waits_total" []
        "Messages that found their mailbox full, and whose senders waited";

    OPERATIONS: Counter "aspen_operations_total" ["group", "kind", "consistency", "outcome"]
        "Operations that this node's replicas answered, whoever asked";
    OPERATION_TIMES: Histogram "aspen_operation_seconds" ["group", "kind", "consistency"]
        "How long they took, whatever they came to";
    OPERATIONS_NOW: Gauge "aspen_operations_in_flight" []
        "Operations that are not answered yet";
    RETRIES: Counter "aspen_client_retries_total" []
        "Tries of this node's own client that came to nothing; another follows if there is time";
    WATCHES: Gauge "aspen_watches" []
        "Watches that this node's replicas serve";
    WATCH_EVENTS: Counter "aspen_watch_events_total" []
        "Changes that those watches were shown";
    WATCH_BYTES: Gauge "aspen_watch_recent_bytes" []
        "The newest changes, kept in memory for them";
    WATCH_HISTORY: Counter "aspen_watch_history_reads_total" []
        "How often a watch was behind those, and was shown older ones from the state";
    WATCHES_LOST: Counter "aspen_watches_compacted_total" []
        "Watches that were so slow that their changes were compacted, and that had to start over";

    GROUPS: Gauge "aspen_raft_groups" ["role"]
        "Groups that the node holds, by what it is to them";
    ASLEEP: Gauge "aspen_raft_groups_asleep" []
        "Of those, groups in which nothing happens and whose clocks stand still";
    PROPOSALS: Counter "aspen_raft_proposals_total" []
        "Commands that were let into a group's queue here";
    PROPOSALS_REFUSED: Counter "aspen_raft_proposals_refused_total" []
        "Commands that found the queue full, and were answered busy";
    PROPOSALS_NOW: Gauge "aspen_raft_proposals_waiting" []
        "Commands in those queues that are not answered yet";
    LEADER_CHANGES: Counter "aspen_raft_leader_changes_total" []
        "How often a group here heard of a leader that it did not have before";
    CHECKPOINTS: Counter "aspen_raft_checkpoints_total" []
        "How often a group's state was made durable, so that its log can go";
    SNAPSHOTS_SENT: Counter "aspen_raft_snapshots_sent_total" []
        "Snapshots that another node installed from here";
    SNAPSHOTS_RECEIVED: Counter "aspen_raft_snapshots_received_total" []
        "Snapshots that were installed here";

    GROUP_TERM: Gauge "aspen_raft_group_term" ["group"]
        "The term that the group is in";
    GROUP_LEADS: Gauge "aspen_raft_group_leads" ["group"]
        "1 if this node leads the group";
    GROUP_LAST: Gauge "aspen_raft_group_last_index" ["group"]
        "The last entry of the group's log on this node";
    GROUP_COMMITTED: Gauge "aspen_raft_group_committed_index" ["group"]
        "The last entry that this node knows to be committed";
    GROUP_APPLIED: Gauge "aspen_raft_group_applied_index" ["group"]
        "The last entry that this node has applied";
    GROUP_LAG: Gauge "aspen_raft_group_lag_entries" ["group"]
        "On the leader alone: how many entries the slowest of the others is behind";
    GROUP_PROPOSALS: Counter "aspen_raft_group_proposals_total" ["group"]
        "Commands that were let into the group's queue here";
    GROUP_LEADER_CHANGES: Counter "aspen_raft_group_leader_changes_total" ["group"]
        "How often the group here heard of a leader that it did not have before";

    LOG_SYNCS: Histogram "aspen_log_sync_seconds" []
        "How long the log's fsyncs took; each is for what all groups had queued";
    LOG_BATCHES: Histogram "aspen_log_batch_operations" []
        "How many operations were written together";
    LOG_BYTES: Counter "aspen_log_written_bytes_total" []
        "Bytes that were written to the log";
    LOG_SIZE: Gauge "aspen_log_size_bytes" []
        "What the files of the log hold, as of some seconds ago";
    STATE_SIZE: Gauge "aspen_state_size_bytes" []
        "What the state files of all groups hold, as of some seconds ago";
    FREE_BYTES: Gauge "aspen_disk_free_bytes" []
        "What is free of the disk that holds the data directory";
    FREE_RATIO: Gauge "aspen_disk_free_ratio" []
        "The same as a part of the whole, in steps of a hundredth";

    PEER_CONNECTED: Gauge "aspen_peer_connected" ["peer"]
        "1 if there is a link to the member";
    PEER_PATH: Gauge "aspen_peer_path" ["peer", "kind"]
        "1, with the kind of way that the link takes: direct or relayed";
    PEER_ROUND_TRIP: Gauge "aspen_peer_round_trip_seconds" ["peer"]
        "How long a packet to the member and its answer take";
    PEER_LINKS: Counter "aspen_peer_links_total" ["peer"]
        "Links to the member that were made, by either side";
    PEER_SENT: Counter "aspen_peer_sent_bytes_total" ["peer"]
        "Bytes that went to the member";
    PEER_RECEIVED: Counter "aspen_peer_received_bytes_total" ["peer"]
        "Bytes that came from the member";
    PEER_PACKETS: Counter "aspen_peer_sent_packets_total" ["peer"]
        "Packets that went to the member";
    PEER_LOST: Counter "aspen_peer_lost_packets_total" ["peer"]
        "Of those, packets that were lost";

    HTTP_REQUESTS: Counter "aspen_http_requests_total" ["route", "method", "status"]
        "Requests that the HTTP door answered; status 0 is a client that was gone by then";
    HTTP_NOW: Gauge "aspen_http_requests_in_flight" []
        "Requests that are not answered yet, this one included";
    HTTP_CONNECTIONS: Gauge "aspen_http_connections" []
        "Connections to the HTTP door";
    HTTP_WAITS: Counter "aspen_http_connection_waits_total" []
        "How often there was no place for a further connection, which waited for one";
    HTTP_REFUSED: Counter "aspen_http_refused_total" ["limit"]
        "Requests that the HTTP door refused as too much, by the limit that they met";
}
