//! The first member founds the cluster: its record, its own as a voter, and the default keyspace,
//! all of which it holds until others are there.

use aspen_tickets::Role;

use super::Roster;
use super::admit::Description;
use super::change::Change;
use super::keyspaces::{NewKeyspace, create_first};
use super::records::{Cluster, Member, Record, State};
use super::refused::Refused;
use crate::limits::NODE_NUMBER_MAX;
use crate::types::{ClusterId, EndpointId, KeyspaceName, NodeId};

/// What a new cluster begins with.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The cluster's id, drawn at random.
    pub id: ClusterId,
    /// Its name, for people.
    pub name: String,
    /// What members derive the gossip topic from, drawn at random.
    pub gossip_secret: [u8; 32],
    /// The founder's number.
    pub node: NodeId,
    /// The founder's key.
    pub endpoint: EndpointId,
    /// What the founder says of itself.
    pub description: Description,
    /// How many shards the default keyspace has.
    pub shards: u32,
    /// And how many replicas each of them is to have.
    pub replicas: u8,
}

/// Founds a cluster where there are no records.
pub fn found(roster: &Roster, founding: Founding, now_s: u64) -> Result<Change, Refused> {
    if let Some(cluster) = roster.cluster() {
        return Err(Refused::AlreadyFounded { id: cluster.id });
    }
    let Founding { id, name, gossip_secret, node, endpoint, description, shards, replicas } =
        founding;
    if node.0 == 0 || node.0 > NODE_NUMBER_MAX {
        return Err(Refused::NodeOutOfBounds { node });
    }
    description.check()?;
    let next_node = NodeId(node.0 + 1);
    let cluster = Cluster { id, name, gossip_secret, next_node, forgotten: NodeId(0) };
    cluster.check().map_err(|what| Refused::Malformed { what: what.to_owned() })?;
    let Description { incarnation, name, addresses, version } = description;
    let founder = Member {
        node,
        endpoint,
        incarnation,
        name,
        role: Role::Voter,
        addresses,
        version,
        state: State::Active,
        invitation: 0,
    };
    let mut change = Change::default();
    change.create(Record::Cluster(cluster));
    change.create(Record::Member(founder));
    let keyspace = NewKeyspace { name: KeyspaceName::default(), shards, replicas };
    create_first(roster, &mut change, &keyspace, node, now_s)?;
    Ok(change)
}
