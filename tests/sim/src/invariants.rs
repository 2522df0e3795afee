//! What must hold at every moment, whatever goes wrong; looked at again and again.
//!
//! - Replicas of a group that have applied as many entries have applied the same ones and hold the
//!   same, bit by bit: so nobody ever applies what others don't. That is what one leader a term is for
//!   in Raft's paper; openraft's leaders are ordered by term and number, and two of one term may
//!   both believe to lead for a while.
//! - Nothing on a node finds damage, as no disk here damages what it said to be durable.

use std::collections::BTreeMap;

use aspen::error::Error;
use aspen::store::log::EntryId;
use aspen::types::GroupId;

use crate::cluster::Cluster;
use crate::network::HostId;
use crate::node::Placed;

/// How often it is looked who leads.
const LOOK_MS: u64 = 20;
/// How often what replicas hold is compared.
const COMPARE_MS: u64 = 1_000;

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Invariants {
    /// By a group and how far it is: what a replica held, and whose.
    held: BTreeMap<(GroupId, u64), (Digest, HostId)>,
}

/// What a replica holds, and by which entry.
pub(crate) type Digest = (Option<EntryId>, [u8; 32]);

impl Invariants {
    /// Looks at all nodes, if it is time to. Answers who leads something, if it was looked.
    pub(crate) fn look(&mut self, cluster: &Cluster) -> Result<Option<Vec<HostId>>, String> {
        let now_ms = cluster.now_ms();
        if now_ms.is_multiple_of(COMPARE_MS) {
            for (host, placed) in cluster.placed() {
                self.compare(host, placed)?;
            }
        }
        if !now_ms.is_multiple_of(LOOK_MS) {
            return Ok(None);
        }
        Ok(Some(cluster.leaders().map(|(host, _, _)| host).collect()))
    }

    /// Compares what a node's replicas hold with what others held when they were as far.
    fn compare(&mut self, host: HostId, placed: &Placed) -> Result<(), String> {
        for (group, digest) in digests(host, placed)? {
            let Some(applied) = digest.0 else { continue };
            let at = (group, applied.index);
            let (other, whose) = *self.held.entry(at).or_insert((digest, host));
            if other != digest {
                return Err(format!(
                    "hosts {whose} and {host} hold different things of group {group}: by {:?} and \
                     by {applied:?}",
                    other.0
                ));
            }
        }
        Ok(())
    }
}

/// What each replica of a node holds.
pub(crate) fn digests(host: HostId, placed: &Placed) -> Result<Vec<(GroupId, Digest)>, String> {
    let mut all = Vec::new();
    for (group, replica) in placed.replicas() {
        match replica.digest() {
            Ok(digest) => all.push((group, digest)),
            Err(Error::Corrupt(corrupt)) => {
                return Err(format!("damage on host {host}: {corrupt}"));
            }
            // It has just lost its power, or stops.
            Err(_) => {}
        }
    }
    Ok(all)
}
