//! The roster: what its records are, what it decides, what it never lets happen.

mod announcements;
mod balance;
mod builds;
mod decisions;
mod floods;
mod formats;
mod hearsay;
mod history;
mod keyspaces;
mod loads;
mod mesh;
mod placement;
mod recovery;
mod repairs;
mod scope;
mod undertakings;

use aspen::roster::Roster;
use aspen::roster::admit::{Admitted, Application, Description, admit};
use aspen::roster::change::Change;
use aspen::roster::found::{Founding, found};
use aspen::roster::refused::Refused;
use aspen::roster::tickets::{NewTicket, invite};
use aspen::types::{ClusterId, EndpointId, NodeId};
use aspen_tickets::{Body, Invitation, Role, Signature, signed_bytes};

const NOW_S: u64 = 1_000_000;
const CLUSTER: ClusterId = ClusterId(77);

fn key(number: u8) -> EndpointId {
    EndpointId([number; 32])
}

fn described(incarnation: u128) -> Description {
    Description { incarnation, version: "0.1.0".into(), ..Description::default() }
}

/// Stands in for a signature: the signer's key and a digest of what it signed.
fn sign(signer: EndpointId, bytes: &[u8]) -> Signature {
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&signer.0);
    signature[32..].copy_from_slice(blake3::hash(bytes).as_bytes());
    Signature(signature)
}

fn signed<B: Body>(body: &B) -> Signature {
    sign(EndpointId(*body.issuer()), &signed_bytes(CLUSTER.0, body))
}

fn verify(signer: EndpointId, bytes: &[u8], signature: &[u8; 64]) -> bool {
    sign(signer, bytes).0 == *signature
}

/// Commits what must hold.
fn commit(roster: &mut Roster, change: &Change) {
    assert_eq!(roster.commit(change), Ok(true));
}

/// A founder: number 1, key 1, incarnation 1.
fn founding() -> Founding {
    Founding {
        id: CLUSTER,
        name: "lab".into(),
        gossip_secret: [5; 32],
        node: NodeId(1),
        endpoint: key(1),
        description: described(1),
        shards: 2,
        replicas: 3,
    }
}

/// A cluster with its founder.
fn founded() -> Roster {
    let mut roster = Roster::default();
    let change = found(&roster, founding(), NOW_S).expect("there is nothing yet");
    commit(&mut roster, &change);
    roster
}

/// An invitation by the founder, committed.
fn invited(roster: &mut Roster, id: u128, role: Role, uses: u32) -> Invitation {
    let new = NewTicket { id, life_s: 3_600, uses, issuer: key(1), what: role };
    let (invitation, change) = invite(roster, &new, NOW_S).expect("a good invitation");
    commit(roster, &change);
    invitation
}

fn application(invitation: &Invitation, endpoint: EndpointId, incarnation: u128) -> Application {
    Application {
        cluster: CLUSTER,
        invitation: *invitation,
        signature: signed(invitation),
        endpoint,
        wanted: None,
        description: described(incarnation),
    }
}

/// Decides and commits an application.
fn join(roster: &mut Roster, application: &Application) -> Result<Admitted, Refused> {
    let (admitted, change) = admit(roster, application, NOW_S, &verify)?;
    commit(roster, &change);
    Ok(admitted)
}
