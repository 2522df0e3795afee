//! `/metrics`: all that the node counts and measures, for Prometheus.
//!
//! The parts count and the node gathers; here it gets its names and its form. Nothing is asked of
//! other nodes, and no file is opened: the page is there also when the node is unwell.

mod names;
mod page;

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Response, header};

use super::AtNode;
use super::decode::Params;
use super::openapi;
use super::operation::{ANY, Content, Operation, Reply};
use super::problem::Problem;
use crate::health::PartState;
use crate::limits::SHOWN_GROUPS_MAX;
use crate::node::{Instruments, PeerMeasures};
use crate::raft::GroupCounts;
use crate::roster::builds::split;
use crate::seams::network::Traffic;
use crate::seams::version;
use crate::status::{GroupGauges, Role};
use crate::types::{Address, GroupId};
use names::*;
use page::{CONTENT_TYPE, Page};

pub use names::{FAMILIES, Family, Shape};

/// Times are counted in nanoseconds and shown in seconds.
const PER_SECOND: f64 = 1e9;

pub(super) static METRICS: Operation = Operation {
    id: "showMetrics",
    part: openapi::NODE,
    about: "All that the node counts, for Prometheus",
    answers: &[Reply::of(200, "the page", Content::of::<String>("text/plain"))],
    problems: &[ANY],
    ..Operation::NEW
};

pub(super) async fn show(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let mut page = Page::default();
    itself(&mut page, &node);
    operations(&mut page, &node);
    groups(&mut page, &node);
    store(&mut page, &node.door.instruments);
    peers(&mut page, node.door.cluster.peers());
    http(&mut page, &node);
    let mut response = Response::new(Body::from(page.into_text()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(response)
}

fn flag(is_so: bool) -> u8 {
    is_so.into()
}

fn itself(page: &mut Page, node: &AtNode) {
    let door = &node.door;
    page.one(STARTED, door.instruments.started_at.as_secs_f64());
    let (version, level) = split(version());
    page.family(BUILD).put(&[version, &level.to_string()], 1);
    let who = &door.node;
    let (id, cluster_id) = (who.node_id.to_string(), who.cluster_id.to_string());
    page.family(NODE).put(&[&id, &who.endpoint_id, &who.cluster_name, &cluster_id], 1);
    let report = door.health.borrow().clone();
    page.one(READY, flag(report.ready));
    let mut parts = page.family(PARTS);
    for state in [PartState::Healthy, PartState::Degraded, PartState::Unhealthy] {
        let are_so = report.parts.iter().filter(|part| part.state == state).count();
        parts.put(&[state.as_str()], are_so);
    }
    let mut restarts = page.family(RESTARTS);
    for (part, count) in door.instruments.restarted() {
        restarts.put(&[&part], count);
    }
    let mailboxes = door.instruments.mailboxes();
    let handled = mailboxes.handled.get();
    let sent = mailboxes.sent.get();
    page.one(MAILBOX, sent.saturating_sub(handled));
    page.one(MAILBOX_SENT, sent);
    page.one(MAILBOX_WAITS, mailboxes.waits.get());
}

fn operations(page: &mut Page, node: &AtNode) {
    let operations = &node.door.instruments.operations;
    let facts = operations.read();
    let mut counts = page.family(OPERATIONS);
    for operation in &facts {
        for (outcome, count) in &operation.outcomes {
            let labels = [operation.group, operation.kind, operation.consistency, outcome];
            counts.put(&labels, count);
        }
    }
    let mut times = page.family(OPERATION_TIMES);
    for operation in facts.iter().filter(|operation| operation.times.count() > 0) {
        let labels = [operation.group, operation.kind, operation.consistency];
        times.spread(&labels, &operation.times, PER_SECOND);
    }
    page.one(OPERATIONS_NOW, operations.in_flight());
    page.one(RETRIES, operations.retries.get());
}

fn groups(page: &mut Page, node: &AtNode) {
    let gauges = node.door.cluster.gauges();
    let counts = &node.door.instruments.raft;
    page.one(WATCHES, gauges.iter().map(|group| group.watches).sum::<u64>());
    page.one(WATCH_EVENTS, counts.sum(|group| &group.watch_events));
    page.one(WATCH_BYTES, gauges.iter().map(|group| group.watch_bytes).sum::<u64>());
    page.one(WATCH_HISTORY, counts.sum(|group| &group.watch_history_reads));
    page.one(WATCHES_LOST, counts.sum(|group| &group.watches_lost));
    let mut by_role = page.family(GROUPS);
    let held = node.door.groups.borrow().clone();
    for role in Role::ALL {
        by_role.put(&[role.as_str()], held.iter().filter(|group| group.role == role).count());
    }
    let asleep = gauges.iter().filter(|group| group.is_asleep).count();
    page.one(ASLEEP, asleep + node.door.cluster.put_away());
    page.one(PROPOSALS, counts.sum(|group| &group.proposals));
    page.one(PROPOSALS_REFUSED, counts.sum(|group| &group.refused));
    page.one(PROPOSALS_NOW, gauges.iter().map(|group| group.proposals_waiting).sum::<u64>());
    page.one(LEADER_CHANGES, counts.sum(|group| &group.leader_changes));
    page.one(CHECKPOINTS, counts.sum(|group| &group.checkpoints));
    page.one(SNAPSHOTS_SENT, counts.sum(|group| &group.snapshots_sent));
    page.one(SNAPSHOTS_RECEIVED, counts.sum(|group| &group.snapshots_received));

    let shown = shown(gauges);
    let mut put = |family, value: &dyn Fn(&GroupGauges) -> Option<u64>| {
        let mut series = page.family(family);
        for (label, group) in &shown {
            if let Some(value) = value(group) {
                series.put(&[label], value);
            }
        }
    };
    put(GROUP_TERM, &|group| Some(group.term));
    put(GROUP_LEADS, &|group| Some((group.role == Role::Leader).into()));
    put(GROUP_LAST, &|group| Some(group.last_index));
    put(GROUP_COMMITTED, &|group| Some(group.committed_index));
    put(GROUP_APPLIED, &|group| Some(group.applied_index));
    put(GROUP_LAG, &|group| group.lag);
    let of: BTreeMap<GroupId, _> =
        shown.iter().map(|(_, group)| (group.group, counts.of(group.group))).collect();
    let count = |group: &GroupGauges, count: &dyn Fn(&GroupCounts) -> u64| {
        of.get(&group.group).map(|counts| count(counts))
    };
    put(GROUP_PROPOSALS, &|group| count(group, &|counts| counts.proposals.get()));
    put(GROUP_LEADER_CHANGES, &|group| count(group, &|counts| counts.leader_changes.get()));
}

/// The groups that have series of their own, with their names: those that are awake, and of those
/// that came first, and the meta group in any case.
fn shown(gauges: Vec<GroupGauges>) -> Vec<(String, GroupGauges)> {
    let awake = gauges.into_iter().filter(|group| !group.is_asleep || group.group == GroupId::META);
    awake.take(SHOWN_GROUPS_MAX).map(|group| (group.group.to_string(), group)).collect()
}

fn store(page: &mut Page, instruments: &Instruments) {
    let Instruments { log, space, .. } = instruments;
    page.family(LOG_SYNCS).spread(&[], &log.syncs.read(), PER_SECOND);
    page.family(LOG_BATCHES).spread(&[], &log.batches.read(), 1.0);
    page.one(LOG_BYTES, log.bytes.get());
    page.one(LOG_SIZE, space.log_bytes());
    page.one(STATE_SIZE, space.state_bytes());
    page.one(FREE_BYTES, space.free_bytes());
    page.one(FREE_RATIO, space.free_percent() as f64 / 100.0);
}

fn peers(page: &mut Page, peers: Vec<PeerMeasures>) {
    let peers: Vec<(String, PeerMeasures)> =
        peers.into_iter().map(|peer| (peer.node.to_string(), peer)).collect();
    let mut connected = page.family(PEER_CONNECTED);
    for (label, peer) in &peers {
        connected.put(&[label], flag(peer.is_connected));
    }
    let paths = || peers.iter().filter_map(|(label, peer)| Some((label, peer.path.as_ref()?)));
    let mut kinds = page.family(PEER_PATH);
    for (label, path) in paths() {
        let kind = match path.address {
            Address::Ip(_) => "direct",
            Address::Relay(_) => "relayed",
        };
        kinds.put(&[label, kind], 1);
    }
    let mut round_trips = page.family(PEER_ROUND_TRIP);
    for (label, path) in paths() {
        round_trips.put(&[label], path.round_trip.as_secs_f64());
    }
    let mut links = page.family(PEER_LINKS);
    for (label, peer) in &peers {
        links.put(&[label], peer.links);
    }
    let mut put = |family, value: &dyn Fn(&Traffic) -> u64| {
        let mut series = page.family(family);
        for (label, peer) in &peers {
            series.put(&[label], value(&peer.traffic));
        }
    };
    put(PEER_SENT, &|traffic| traffic.bytes_sent);
    put(PEER_RECEIVED, &|traffic| traffic.bytes_received);
    put(PEER_PACKETS, &|traffic| traffic.packets_sent);
    put(PEER_LOST, &|traffic| traffic.packets_lost);
}

fn http(page: &mut Page, node: &AtNode) {
    let counts = &node.app.counts;
    let mut requests = page.family(HTTP_REQUESTS);
    for kind in counts.read() {
        requests.put(&[&kind.route, kind.method, &kind.status.to_string()], kind.count);
    }
    page.one(HTTP_NOW, counts.in_flight());
    page.one(HTTP_CONNECTIONS, counts.connections());
    page.one(HTTP_WAITS, counts.connection_waits.get());
    let mut refused = page.family(HTTP_REFUSED);
    for (limit, count) in counts.refused() {
        refused.put(&[limit], count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(number: u64, is_asleep: bool) -> GroupGauges {
        GroupGauges {
            group: GroupId(number),
            role: Role::Leader,
            is_asleep,
            term: 1,
            last_index: 2,
            committed_index: 2,
            applied_index: 2,
            lag: None,
            proposals_waiting: 0,
            watches: 0,
            watch_bytes: 0,
        }
    }

    #[test]
    fn groups_that_sleep_and_those_past_the_bound_are_only_in_the_sums() {
        let gauges = (0..1_000).map(|number| group(number, number % 2 == 0)).collect();
        let shown: Vec<u64> = shown(gauges).into_iter().map(|(_, group)| group.group.0).collect();
        assert_eq!(shown.len(), SHOWN_GROUPS_MAX);
        assert_eq!(shown[..3], [0, 1, 3]);
    }
}
