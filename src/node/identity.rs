//! What a data directory knows of its node: `node.toml`, written once and then only added to.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::seams::Seams;
use crate::seams::disk::{Disk, OpenMode};
use crate::types::{ClusterId, GroupId, NodeId};

const FILE: &str = "node.toml";
const FORMAT: u32 = 1;

/// Which node lives in a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// The version of this file.
    format: u32,
    pub(super) node_id: NodeId,
    #[serde(with = "cluster_id_text")]
    pub(super) cluster_id: ClusterId,
    pub(super) cluster_name: String,
    /// Groups that were founded here: their data must be there.
    #[serde(default)]
    pub(super) founded: Vec<GroupId>,
}

mod cluster_id_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::types::ClusterId;

    pub(super) fn serialize<S: Serializer>(id: &ClusterId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ClusterId, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Identity {
    /// A new node of a new cluster.
    pub(super) fn new(node_id: NodeId, cluster_name: String, seams: &Seams) -> Self {
        let cluster_id = ClusterId(seams.random.next_u128());
        Identity { format: FORMAT, node_id, cluster_id, cluster_name, founded: Vec::new() }
    }

    /// Reads the directory's identity; `None` if nobody lives there yet.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> io::Result<Option<Self>> {
        let path = dir.join(FILE);
        if !disk.exists(&path)? {
            return Ok(None);
        }
        let file = disk.open(&path, OpenMode::Existing)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_at(&mut bytes, 0)?;
        let invalid = |what: String| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
        };
        let text = String::from_utf8(bytes).map_err(|error| invalid(error.to_string()))?;
        let identity: Identity =
            toml::from_str(&text).map_err(|error| invalid(error.message().to_owned()))?;
        if identity.format != FORMAT {
            return Err(invalid(format!(
                "it has format {}; this build reads {FORMAT}: use a newer one",
                identity.format
            )));
        }
        Ok(Some(identity))
    }

    /// Writes the identity as a whole, durably.
    pub(super) fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let unfinished: PathBuf = dir.join("node.toml.new");
        if disk.exists(&unfinished)? {
            disk.remove(&unfinished)?;
        }
        let file = disk.open(&unfinished, OpenMode::CreateNew)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        disk.rename(&unfinished, &dir.join(FILE))?;
        disk.sync_dir(dir)
    }
}
