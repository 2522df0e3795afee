//! `recover`: a new cluster of what one stopped node has, when most of its cluster is lost for good.
//!
//! Without a confirmation it only says what would be done, and above all what would be lost.

use std::path::Path;

use aspen::node::{Kept, Recovery, RecoveryError, Share, StartError, recover, survey};
use aspen::types::ClusterId;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::output;

/// Tells what would be done, or does it.
pub(crate) fn run(dir: &Path, confirm: Option<ClusterId>, json: bool) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("the command can't run: {error}")))?;
    let (recovery, made) = runtime.block_on(async {
        match confirm {
            None => survey(dir).await.map(|recovery| (recovery, None)),
            Some(id) => recover(dir, id).await.map(|(recovery, id)| (recovery, Some(id))),
        }
    })?;
    if json {
        return output::json_line(&document(&recovery, made));
    }
    let told = sentences(dir, &recovery, made);
    output::line(&told.join("\n"))
}

impl From<RecoveryError> for Failure {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Directory(StartError::DirectoryInUse { dir }) => {
                Failure::refused(format!(
                    "a node runs on the data directory {}; stop it before it is recovered",
                    dir.display()
                ))
            }
            error => Failure::refused(error),
        }
    }
}

fn document(recovery: &Recovery, made: Option<ClusterId>) -> Value {
    let kept = |kept: &Kept| {
        let damage = kept.damage.as_ref().map(ToString::to_string);
        let Kept { last, behind, .. } = kept;
        json!({ "term": last.term, "entry": last.index, "damage": damage, "behind": behind })
    };
    let shards: Vec<Value> = recovery
        .shards
        .iter()
        .map(|share| {
            json!({
                "group": share.group,
                "keyspace": share.keyspace.as_ref().map(ToString::to_string),
                "shard": share.shard,
                "kept": share.kept.as_ref().map(kept),
            })
        })
        .collect();
    json!({
        "node": recovery.node,
        "cluster_id": recovery.cluster_id.to_string(),
        "cluster_name": recovery.cluster_name,
        "others": recovery.others,
        "meta": kept(&recovery.meta),
        "shards": shards,
        "new_cluster_id": made.map(|id| id.to_string()),
    })
}

fn sentences(dir: &Path, recovery: &Recovery, made: Option<ClusterId>) -> Vec<String> {
    let Recovery { node, cluster_id, cluster_name, others, meta, shards } = recovery;
    let dir = dir.display();
    let numbers: Vec<String> = others.iter().map(ToString::to_string).collect();
    let others = numbers.join(", ");
    let is_one = numbers.len() == 1;
    let mut told = match made {
        None => vec![
            format!(
                "Node {node} of the cluster {cluster_name} ({cluster_id}) would become the only"
            ),
            format!("member of a new cluster, made of what is in {dir}:"),
        ],
        Some(id) => vec![
            format!("Node {node} is the only member of the new cluster {cluster_name} ({id}),"),
            format!("made of what was in {dir}:"),
        ],
    };
    told.push(String::new());
    let mut rows = vec![["GROUP", "WHAT", "KEPT UP TO"].map(str::to_owned).to_vec()];
    rows.push(vec!["0".into(), "members, keyspaces, settings".into(), upto(Some(meta))]);
    rows.extend(
        shards
            .iter()
            .map(|share| vec![share.group.to_string(), name_of(share), upto(share.kept.as_ref())]),
    );
    told.push(output::table(&rows));
    told.push(String::new());
    let lost = shards.iter().filter(|share| share.kept.is_none()).count();
    if lost > 0 {
        let shards = output::counted(lost as u64, "shard");
        told.push(format!("LOST: {shards} of which this node has nothing begin anew, empty."));
    }
    let nodes = if is_one { "node" } else { "nodes" };
    told.push(format!(
        "LOST: whatever was acknowledged by {nodes} {others} alone, and did not reach this one."
    ));
    told.push(match is_one {
        true => format!("Node {others} must never be started again: what it has is another truth."),
        false => {
            format!("Nodes {others} must never be started again: what they have is another truth.")
        }
    });
    told.push("All tickets of the old cluster are void.".into());
    told.push(String::new());
    told.push(match made {
        None => format!(
            "Nothing was done. If the others are lost for good:\n  \
             aspen recover --data-dir {dir} --confirm {cluster_id}"
        ),
        Some(id) => format!(
            "What was here before is in {dir}/before-{id}. Next:\n  aspen start --data-dir {dir}"
        ),
    });
    told
}

fn name_of(share: &Share) -> String {
    match (&share.keyspace, share.shard) {
        (Some(keyspace), Some(shard)) => format!("shard {shard} of {keyspace}"),
        _ => "a shard of no keyspace".to_owned(),
    }
}

fn upto(kept: Option<&Kept>) -> String {
    let Some(Kept { last, damage, behind }) = kept else {
        return "NOTHING: it is lost".to_owned();
    };
    let mut upto = format!("entry {} of term {}", last.index, last.term);
    if let Some(damage) = damage {
        upto.push_str(&format!(", and no further: {}", damage.what));
    }
    if let Some(entry) = behind {
        upto.push_str(&format!(": it was still being filled, and had entry {entry} to come"));
    }
    upto
}
