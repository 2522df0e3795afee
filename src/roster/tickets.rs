//! Tickets are made and revoked.
//!
//! What a ticket says is committed when it is made, before anyone can hold it: so its uses are
//! counted, it can be listed and revoked, and a ticket that is unknown is refused. The issuer signs
//! what is answered here; the roster never sees a secret key. Making one drops others that have
//! expired.

use aspen_tickets::{Body as _, Role, Scope, USES_ANY, Verbs};

use super::Roster;
use super::change::Change;
use super::records::{Grant, Invitation, Record, RecordKey};
use super::refused::Refused;
use crate::limits::{
    GRANT_USES_MAX, GRANTS_MAX, INVITATIONS_MAX, MEMBER_NAME_BYTES_MAX, ROSTER_DROPS_MAX,
    TICKET_LIFE_S_MAX,
};
use crate::types::EndpointId;

/// A ticket to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTicket<T> {
    /// Its id, drawn at random.
    pub id: u128,
    /// How long it is to live, in seconds.
    pub life_s: u64,
    /// How many it is for; [`USES_ANY`] for any number.
    pub uses: u32,
    /// The key of the member that makes and will sign it.
    pub issuer: EndpointId,
    /// What it is for.
    pub what: T,
}

/// What a client ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// A label for people; may be empty.
    pub name: String,
    /// Which keys.
    pub scope: Scope,
    /// What may be done with them.
    pub verbs: Verbs,
}

/// Makes an invitation for nodes; what is answered is to be signed.
pub fn invite(
    roster: &Roster,
    new: &NewTicket<Role>,
    now_s: u64,
) -> Result<(aspen_tickets::Invitation, Change), Refused> {
    check(roster, new, now_s, u32::MAX)?;
    let drops: Vec<RecordKey> = roster
        .invitations()
        .filter(|(_, invitation)| invitation.expires_s <= now_s)
        .map(|(id, _)| RecordKey::Invitation(id))
        .take(ROSTER_DROPS_MAX)
        .collect();
    if roster.invitations.len() - drops.len() >= INVITATIONS_MAX {
        return Err(Refused::TooManyTickets { limit: INVITATIONS_MAX as u64 });
    }
    let invitation = Invitation {
        role: new.what,
        created_s: now_s,
        expires_s: now_s + new.life_s,
        uses: new.uses,
        used: 0,
        issuer: new.issuer,
        revoked: false,
    };
    let ticketed = invitation.ticketed(new.id);
    let mut change = roster.change_in_sequence()?;
    drops.into_iter().for_each(|key| change.forget(key));
    change.create(Record::Invitation(new.id, invitation));
    Ok((ticketed, change))
}

/// Makes a grant for clients; what is answered is to be signed.
pub fn grant(
    roster: &Roster,
    new: &NewTicket<Access>,
    now_s: u64,
) -> Result<(aspen_tickets::Grant, Change), Refused> {
    check(roster, new, now_s, GRANT_USES_MAX)?;
    let Access { name, scope, verbs } = new.what.clone();
    if name.len() > MEMBER_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(malformed("the ticket's name is too long or has control characters"));
    }
    let grant = Grant {
        name,
        scope,
        verbs,
        created_s: now_s,
        expires_s: now_s + new.life_s,
        uses: new.uses,
        used: 0,
        issuer: new.issuer,
        revoked: false,
    };
    let ticketed = grant.ticketed(new.id);
    ticketed.check().map_err(malformed)?;
    let (drops, dropped) = expired_grants(roster, now_s);
    if roster.grants.len() - dropped >= GRANTS_MAX {
        return Err(Refused::TooManyTickets { limit: GRANTS_MAX as u64 });
    }
    let mut change = roster.change_in_sequence()?;
    drops.into_iter().for_each(|key| change.forget(key));
    change.create(Record::Grant(new.id, grant));
    Ok((ticketed, change))
}

/// Revokes an invitation or a grant. It stays in the list until it expires. Asking again changes
/// nothing. Clients that a grant serves are to be turned away by whoever serves them.
pub fn revoke(roster: &Roster, id: u128) -> Result<Change, Refused> {
    let mut change = Change::default();
    if let Some(at) = roster.invitations.get(&id) {
        if !at.record.revoked {
            let revoked = Invitation { revoked: true, ..at.record.clone() };
            change.replace(Record::Invitation(id, revoked), at.mod_revision);
        }
    } else if let Some(at) = roster.grants.get(&id) {
        if !at.record.revoked {
            let revoked = Grant { revoked: true, ..at.record.clone() };
            change.replace(Record::Grant(id, revoked), at.mod_revision);
        }
    } else {
        return Err(Refused::UnknownTicket);
    }
    Ok(change)
}

/// What any ticket needs, however often it was used: time left, and an issuer that belongs.
pub(super) fn still_good(
    roster: &Roster,
    issuer: EndpointId,
    expires_s: u64,
    now_s: u64,
) -> Result<(), Refused> {
    if expires_s <= now_s {
        return Err(Refused::Expired { ago_s: now_s - expires_s });
    }
    if roster.active(issuer).is_none() {
        return Err(Refused::IssuerGone);
    }
    Ok(())
}

fn check<T>(roster: &Roster, new: &NewTicket<T>, now_s: u64, uses_max: u32) -> Result<(), Refused> {
    roster.founded()?;
    if roster.active(new.issuer).is_none() {
        return Err(Refused::NotMember);
    }
    if new.life_s == 0 || new.life_s > TICKET_LIFE_S_MAX || now_s.checked_add(new.life_s).is_none()
    {
        return Err(Refused::LifeOutOfBounds);
    }
    // An id names one ticket of either kind: it is what is revoked.
    if roster.invitations.contains_key(&new.id) || roster.grants.contains_key(&new.id) {
        return Err(Refused::TicketExists);
    }
    if new.uses == 0 || (new.uses > uses_max && new.uses != USES_ANY) {
        return Err(Refused::UsesOutOfBounds { limit: uses_max });
    }
    Ok(())
}

/// Expired grants with the clients they served, as many as one change drops; and how many grants
/// they are. A grant's clients go with it or before it, never after.
fn expired_grants(roster: &Roster, now_s: u64) -> (Vec<RecordKey>, usize) {
    let (mut drops, mut dropped) = (Vec::new(), 0);
    for (id, _) in roster.grants().filter(|(_, grant)| grant.expires_s <= now_s) {
        let clients = roster.clients_of(id).map(|endpoint| RecordKey::Client(id, endpoint));
        let both: Vec<RecordKey> = clients.chain([RecordKey::Grant(id)]).collect();
        if drops.len() + both.len() > ROSTER_DROPS_MAX + 1 {
            break;
        }
        drops.extend(both);
        dropped += 1;
    }
    (drops, dropped)
}

fn malformed(what: impl ToString) -> Refused {
    Refused::Malformed { what: what.to_string() }
}
