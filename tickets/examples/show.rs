//! Shows and checks a ticket, with this crate alone: `cargo run -p aspen-tickets --example show
//! TICKET`. Without a ticket it makes one up.

use std::error::Error;
use std::net::SocketAddr;

use aspen_tickets::{
    ClientTicket, Cluster, Invitation, JoinTicket, Peer, Role, Signature, TicketError, signed_bytes,
};
use iroh_base::SecretKey;

fn main() -> Result<(), Box<dyn Error>> {
    let text = match std::env::args().nth(1) {
        Some(text) => text,
        None => made_up()?.to_string(),
    };
    match text.parse::<JoinTicket>() {
        Ok(ticket) => {
            let Invitation { role, expires_s, .. } = ticket.invitation();
            println!("an invitation to join `{}` as a {role}", ticket.cluster().name);
            println!("until {expires_s} s after 1970");
            peers(ticket.peers());
            ticket.verify()?;
        }
        Err(TicketError::WrongKind { .. }) => {
            let ticket: ClientTicket = text.parse()?;
            println!("a grant to {} in `{}`", ticket.grant().verbs, ticket.cluster().name);
            println!("of {:?}", ticket.grant().scope);
            println!("until {} s after 1970", ticket.grant().expires_s);
            peers(ticket.peers());
            ticket.verify()?;
        }
        Err(error) => return Err(error.into()),
    }
    println!("its signature fits; whether it still admits, the cluster knows");
    Ok(())
}

fn peers(peers: &[Peer]) {
    for peer in peers {
        println!("at {:?}", peer.addresses);
    }
}

fn made_up() -> Result<JoinTicket, TicketError> {
    let key = SecretKey::from_bytes(&[1; 32]);
    let cluster = Cluster { id: 1, name: "lab".into() };
    let peer = Peer {
        endpoint: *key.public().as_bytes(),
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 4681)).into()],
    };
    let invitation = Invitation {
        id: 2,
        role: Role::Voter,
        expires_s: 1_800_000_000,
        uses: 1,
        issuer: *key.public().as_bytes(),
    };
    let signature = key.sign(&signed_bytes(cluster.id, &invitation)).to_bytes();
    JoinTicket::new(cluster, vec![peer], invitation, Signature(signature))
}
