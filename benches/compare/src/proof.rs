//! Whatever was acknowledged is there after all nodes were killed at once.

use std::sync::Arc;

use crate::Result;
use crate::load::{Load, name, value};
use crate::targets::Cluster;

/// Kills all servers, starts them again, and looks at every key.
pub(crate) async fn holds(cluster: &mut Cluster, load: &Arc<Load>) -> Result<()> {
    cluster.restart().await?;
    let mut session = cluster.session().await?;
    for key in 0..load.keys() {
        let named = name(key);
        let found = session.get(&named).await?;
        let number = found.first_chunk().map(|number| u64::from_be_bytes(*number));
        let may_hold = load.may_hold(key);
        let is_right =
            number.is_some_and(|number| may_hold.contains(&number) && found == value(key, number));
        if !is_right {
            let what = format!("{number:?} and may hold {may_hold:?}");
            return Err(format!("{}: {named} holds {what}", cluster.kind().name()).into());
        }
    }
    Ok(())
}
