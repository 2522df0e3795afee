//! News: what this node and the others have to tell each other of members.
//!
//! Where this node is may be news to the others, when it starts and whenever it moves, and without it
//! whoever leads can't reach it. And
//! whom this node turns away may be a member whose admission it has slept through, and may even
//! lead the group that would tell it: then it asks the other members.

use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster::{Cluster, ClusterError};
use super::departures::Gone;
use super::start::told_of;
use crate::actors::{RunService, until_stopped};
use crate::limits::NEWS_PAUSE;
use crate::roster::admit::Description;
use crate::roster::refused::Refused;
use crate::types::Address;

/// The part that tells the others what this node says of itself, and asks them who is a member
/// when somebody was turned away.
pub(super) fn news(
    cluster: Cluster,
    itself: (Description, Option<u32>),
    places: watch::Receiver<Vec<Address>>,
    gone: watch::Sender<Option<Gone>>,
) -> RunService {
    until_stopped(move || {
        let (cluster, itself) = (cluster.clone(), itself.clone());
        let (places, gone) = (places.clone(), gone.clone());
        async move {
            tokio::join!(tell(&cluster, itself, places, &gone), ask(&cluster));
        }
    })
}

/// Until they know, and again when it has moved.
async fn tell(
    cluster: &Cluster,
    (mut description, capacity): (Description, Option<u32>),
    mut places: watch::Receiver<Vec<Address>>,
    gone: &watch::Sender<Option<Gone>>,
) {
    loop {
        description.addresses = told_of(places.borrow_and_update().clone());
        let telling = tell_once(cluster, &description, capacity, gone);
        tokio::select! {
            biased;
            changed = places.changed() => if changed.is_err() { return },
            () = telling => if places.changed().await.is_err() { return },
        }
    }
}

async fn tell_once(
    cluster: &Cluster,
    description: &Description,
    capacity: Option<u32>,
    gone: &watch::Sender<Option<Gone>>,
) {
    loop {
        let told = async {
            cluster.describe(description).await?;
            match capacity {
                Some(capacity) => cluster.weigh(capacity).await,
                None => Ok(()),
            }
        };
        match told.await {
            Ok(()) => return,
            // A cluster that is being founded may not have this node yet; it has in a moment.
            Err(ClusterError::Refused(Refused::NotFounded | Refused::UnknownNode { .. })) => {}
            // It is no build for this cluster, whatever it does.
            Err(ClusterError::Refused(
                refused @ (Refused::BuildTooOld { .. } | Refused::BuildApart { .. }),
            )) => {
                gone.send_replace(Some(Gone::Unfit(refused.to_string())));
                return;
            }
            Err(ClusterError::Refused(refused)) => {
                tracing::warn!(%refused, "the others don't take what this node says of itself");
                return;
            }
            Err(error) => tracing::debug!(%error, "the others don't know yet where this node is"),
        }
        sleep(NEWS_PAUSE).await;
    }
}

async fn ask(cluster: &Cluster) {
    // Strangers knock as often as they like: it is said once, until somebody answers again.
    let mut is_told = false;
    loop {
        cluster.inner.members.turned_away().await;
        match cluster.hear().await {
            Ok(_) => is_told = false,
            Err(error) if is_told => {
                tracing::debug!(%error, "who is a member can't be asked now");
            }
            Err(error) => {
                is_told = true;
                tracing::warn!(
                    %error,
                    "a node was turned away that may be a member, and no member that is known here \
                     can say; if all of those have left the cluster meanwhile, remove this node by \
                     one that is there, and have it join with a new ticket and a new data directory"
                );
            }
        }
        sleep(NEWS_PAUSE).await;
    }
}
