//! Programs with a ticket, as far as the roster decides about them.

use aspen_tickets::ClientTicket;
use futures_util::future::BoxFuture;

use super::cluster::{Cluster, ClusterError};
use crate::client::{Authorise, NotPermitted};
use crate::net::verify;
use crate::roster::clients::{self, Permit, Presented};
use crate::roster::refused::Refused;
use crate::types::EndpointId;

/// What the secret of sessions is derived for.
const SESSIONS: &str = "aspen 2026-11 sessions of clients with a ticket";

impl Authorise for Cluster {
    fn authorise(
        &self,
        client: EndpointId,
        ticket: ClientTicket,
    ) -> BoxFuture<'static, Result<Permit, NotPermitted>> {
        let cluster = self.clone();
        let presented = Presented::new(&ticket, client);
        Box::pin(async move {
            let decide = |roster: &_, now_s| clients::authorise(roster, &presented, now_s, &verify);
            cluster.decide(decide).await.map_err(|error| match error {
                ClusterError::Refused(refused) => NotPermitted::Refused(refused),
                other => NotPermitted::Unavailable { reason: other.to_string() },
            })
        })
    }

    fn still(&self, permit: &Permit) -> Result<(), Refused> {
        clients::check(&self.roster(), permit, self.now_s())
    }

    fn session_secret(&self) -> [u8; 32] {
        let secret = self.roster().cluster().map(|cluster| cluster.gossip_secret);
        blake3::derive_key(SESSIONS, &secret.unwrap_or_default())
    }
}
