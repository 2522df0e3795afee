//! A ticket's holder becomes a member.
//!
//! Asking twice is harmless: a node that is a member already, by its key and its data directory's
//! incarnation, gets the same answer again and uses nothing up, so that a join that was cut at any
//! point is finished by asking again. Whoever comes with a member's key and another incarnation has
//! lost that member's data: it is a new node, and the member becomes a tombstone in the same change,
//! so that what it once promised with its vote is never asked of a node that forgot it.

use aspen_tickets::{JoinTicket, Role, Signature, USES_ANY, signed_bytes};
use serde::{Deserialize, Serialize};

use super::builds::check_joiner;
use super::change::Change;
use super::leave::remember;
use super::records::{self, Cluster, Member, Record, RecordKey, State};
use super::refused::Refused;
use super::tickets::still_good;
use super::{At, Roster, repairs};
use crate::limits::{MEMBERS_MAX, NODE_NUMBER_MAX};
use crate::types::{Address, ClusterId, EndpointId, NodeId};

/// Tells whether a key signed these bytes. Pure, but not ours.
pub type Verify<'a> = &'a dyn Fn(EndpointId, &[u8], &[u8; 64]) -> bool;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The random id of its data directory.
    pub incarnation: u128,
    /// A label for people; may be empty.
    pub name: String,
    /// Where it can be dialled, best first.
    pub addresses: Vec<Address>,
    /// The version of Aspen that it runs.
    pub version: String,
}

impl Description {
    pub(super) fn check(&self) -> Result<(), Refused> {
        records::check_description(&self.name, &self.version, &self.addresses)
            .map_err(|what| Refused::Malformed { what: what.to_owned() })
    }
}

/// A node asks to become a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// The cluster that its ticket leads to.
    pub cluster: ClusterId,
    /// Its ticket's invitation.
    pub invitation: aspen_tickets::Invitation,
    /// The ticket's signature.
    pub signature: Signature,
    /// The applicant's key: the one its connection has proven, never one that it only names.
    pub endpoint: EndpointId,
    /// The number it would like.
    pub wanted: Option<NodeId>,
    /// What it says of itself.
    pub description: Description,
}

impl Application {
    /// The application of a ticket's holder.
    pub fn new(
        ticket: &JoinTicket,
        endpoint: EndpointId,
        wanted: Option<NodeId>,
        description: Description,
    ) -> Self {
        Application {
            cluster: ClusterId(ticket.cluster().id),
            invitation: *ticket.invitation(),
            signature: *ticket.signature(),
            endpoint,
            wanted,
            description,
        }
    }
}

/// An applicant's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// Its number.
    pub node: NodeId,
    /// What it may become in its groups.
    pub role: Role,
    /// Whether it was a member before it asked.
    pub again: bool,
    /// The member with the same key whose place it takes, because that one's data is lost.
    pub replaces: Option<NodeId>,
}

/// Decides whether an applicant becomes a member, and as which.
pub fn admit(
    roster: &Roster,
    application: &Application,
    now_s: u64,
    verify: Verify<'_>,
) -> Result<(Admitted, Change), Refused> {
    let cluster = roster.founded()?;
    check_signature(&cluster.record, application, verify)?;
    application.description.check()?;
    let former = match roster.member_of(application.endpoint) {
        Some(member) if member.incarnation == application.description.incarnation => {
            return again(roster, member, &application.description);
        }
        former => former.filter(|member| member.is_present()),
    };
    let invitation = usable(roster, application, now_s)?;
    let version = &application.description.version;
    check_joiner(roster, version, former.map(|former| former.node))?;
    if former.is_none() && roster.present().count() >= MEMBERS_MAX {
        return Err(Refused::ClusterFull);
    }
    admit_new(roster, cluster, application, invitation, former)
}

fn check_signature(
    cluster: &Cluster,
    application: &Application,
    verify: Verify<'_>,
) -> Result<(), Refused> {
    if application.cluster != cluster.id {
        return Err(Refused::OtherCluster { ours: cluster.id, theirs: application.cluster });
    }
    let bytes = signed_bytes(application.cluster.0, &application.invitation);
    let issuer = EndpointId(application.invitation.issuer);
    if verify(issuer, &bytes, &application.signature.0) { Ok(()) } else { Err(Refused::Tampered) }
}

/// The same answer again, with what the node newly says of itself.
fn again(
    roster: &Roster,
    member: &Member,
    description: &Description,
) -> Result<(Admitted, Change), Refused> {
    let node = member.node;
    match member.state {
        State::Active => {}
        State::Leaving => return Err(Refused::Leaving { node }),
        State::Removed => return Err(Refused::Removed { node }),
    }
    let change = super::leave::update(roster, node, description)?;
    Ok((Admitted { node, role: member.role, again: true, replaces: None }, change))
}

/// The committed invitation behind an application, if it admits one more.
fn usable<'a>(
    roster: &'a Roster,
    application: &Application,
    now_s: u64,
) -> Result<&'a At<records::Invitation>, Refused> {
    let asked = &application.invitation;
    still_good(roster, EndpointId(asked.issuer), asked.expires_s, now_s)?;
    let at = roster.invitations.get(&asked.id).ok_or(Refused::UnknownTicket)?;
    let invitation = &at.record;
    if invitation.ticketed(asked.id) != *asked {
        return Err(Refused::Tampered);
    }
    if invitation.revoked {
        return Err(Refused::Revoked);
    }
    if invitation.uses != USES_ANY && invitation.used >= invitation.uses {
        return Err(Refused::UsedUp { uses: invitation.uses });
    }
    Ok(at)
}

fn admit_new(
    roster: &Roster,
    cluster: &At<Cluster>,
    application: &Application,
    invitation: &At<records::Invitation>,
    former: Option<&Member>,
) -> Result<(Admitted, Change), Refused> {
    let mut after = cluster.record.clone();
    let node = number(roster, &mut after, application.wanted)?;
    let role = invitation.record.role;
    if let Some(former) = former
        && role == Role::Learner
    {
        super::leave::check_voter_remains(roster, former.node)?;
    }

    let mut drops = Vec::new();
    if former.is_some() {
        remember(roster, &mut after, &mut drops);
    }
    let mut change = Change::in_sequence(cluster, after);
    let mut used = invitation.record.clone();
    used.used = used.used.saturating_add(1);
    change.replace(Record::Invitation(application.invitation.id, used), invitation.mod_revision);
    if let Some(former) = former {
        let at = roster.known(former.node)?;
        let removed = Member { state: State::Removed, ..former.clone() };
        change.replace(Record::Member(removed), at.mod_revision);
        if roster.duties.contains_key(&former.node) {
            change.forget(RecordKey::Duty(former.node));
        }
        repairs::forget(roster, &mut change, former.node);
    }
    drops.into_iter().for_each(|key| change.forget(key));
    change.create(Record::Member(new_member(node, role, application)));
    let replaces = former.map(|member| member.node);
    Ok((Admitted { node, role, again: false, replaces }, change))
}

fn new_member(node: NodeId, role: Role, application: &Application) -> Member {
    let Description { incarnation, name, addresses, version } = application.description.clone();
    Member {
        node,
        endpoint: application.endpoint,
        incarnation,
        name,
        role,
        addresses,
        version,
        state: State::Active,
        invitation: application.invitation.id,
    }
}

/// The number asked for, or the next: one that no node has or had.
fn number(
    roster: &Roster,
    cluster: &mut Cluster,
    wanted: Option<NodeId>,
) -> Result<NodeId, Refused> {
    let in_bounds = |node: NodeId| (1..=NODE_NUMBER_MAX).contains(&node.0);
    if let Some(node) = wanted {
        if !in_bounds(node) {
            return Err(Refused::NodeOutOfBounds { node });
        }
        if node <= cluster.forgotten || roster.member(node).is_some() {
            return Err(Refused::NodeTaken { node });
        }
        return Ok(node);
    }
    let mut node = NodeId(cluster.next_node.0.max(cluster.forgotten.0 + 1));
    while roster.member(node).is_some() {
        node.0 += 1;
    }
    if !in_bounds(node) {
        return Err(Refused::NodeOutOfBounds { node });
    }
    cluster.next_node = NodeId(node.0 + 1);
    Ok(node)
}
