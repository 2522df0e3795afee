//! What a data directory knows of its node: `node.toml`.
//!
//! It is written as a whole, durably, at each step of a node's life: made, invited, a member,
//! removed. What stands in it decides what a start does, so a step that was cut off anywhere is
//! taken again or was already done. It holds no secret but the ticket of a join under way, and is
//! readable by its owner only.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::roster::builds::LEVEL_FIRST;
use crate::seams::disk::{Disk, OpenMode};
use crate::seams::failpoint::Failpoint;
use crate::seams::{Random, Seams};
use crate::store::log::EntryId;
use crate::types::{Address, ClusterId, EndpointId, Form, GroupId, NodeId, Revision, Spelt};

const FILE: &str = "node.toml";
const FORMAT: u32 = 3;

/// Which node lives in a data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// The version of this file.
    format: u32,
    /// The random name of this data directory: who comes back with the key but without this has
    /// lost what it promised to remember, and is taken as new.
    #[serde(with = "hex_128")]
    pub(super) incarnation: u128,
    /// Where it listened last; tried again, so that others find it where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) port: Option<u16>,
    /// How often the node has started: what it says of itself to the others counts from here.
    #[serde(default)]
    pub(super) starts: u64,
    /// The ticket of a join that is not finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) joining: Option<String>,
    /// The level that the cluster uses: no build below it may open what is here.
    #[serde(default = "first_level", skip_serializing_if = "is_first_level")]
    pub(super) level: u32,
    /// Who the node is in its cluster; not there before it founded or was admitted.
    pub(super) member: Option<Membership>,
}

fn first_level() -> u32 {
    LEVEL_FIRST
}

fn is_first_level(level: &u32) -> bool {
    *level == LEVEL_FIRST
}

/// Who a node is in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Membership {
    pub(super) node_id: NodeId,
    #[serde(with = "cluster_id_text")]
    pub(super) cluster_id: ClusterId,
    pub(super) cluster_name: String,
    /// The node made the cluster, and so its meta group, and has not taken that again from others.
    pub(super) is_founder: bool,
    /// The cluster removed the node: it has nothing to do any more.
    pub(super) is_removed: bool,
    /// Groups that are kept here, or are about to be.
    #[serde(default)]
    pub(super) held: Vec<Held>,
    /// The members that the node was told of at its admission, or knew of last: whom it lets in, and
    /// whom it asks, until it has the roster.
    #[serde(default)]
    pub(super) told_of: Vec<KnownMember>,
}

/// A group of which something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Held {
    pub(super) group: GroupId,
    /// The revision of the roster by which the node has it.
    pub(super) as_of: Revision,
    pub(super) stage: HeldStage,
    /// How far the group was when this replica began with nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<EntryId>,
}

/// How far a group is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HeldStage {
    /// It is opened for the first time: its data may be there.
    New,
    /// It was opened: its data must be there.
    Open,
    /// It is given up: some of its data may be there.
    Erased,
}

/// A member, as a node that joins is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KnownMember {
    pub(super) node: NodeId,
    #[serde(with = "endpoint_text")]
    pub(super) endpoint: EndpointId,
    /// Where it was then: the address book may be lost, and is written later than this.
    #[serde(default)]
    pub(super) addresses: Vec<Address>,
}

/// Format 2, whose nodes all had the same groups: read, and written no more.
#[derive(Deserialize)]
struct IdentityV2 {
    #[serde(with = "hex_128")]
    incarnation: u128,
    port: Option<u16>,
    #[serde(default)]
    starts: u64,
    joining: Option<String>,
    member: Option<MembershipV2>,
}

#[derive(Deserialize)]
struct MembershipV2 {
    node_id: NodeId,
    #[serde(with = "cluster_id_text")]
    cluster_id: ClusterId,
    cluster_name: String,
    is_founder: bool,
    is_removed: bool,
    opened: Vec<GroupId>,
    #[serde(default)]
    told_of: Vec<KnownMember>,
}

/// Format 1, of nodes that were alone: read, and written no more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityV1 {
    #[expect(dead_code, reason = "it was looked at before")]
    format: u32,
    node_id: NodeId,
    #[serde(with = "cluster_id_text")]
    cluster_id: ClusterId,
    cluster_name: String,
    #[serde(default)]
    founded: Vec<GroupId>,
}

#[derive(Deserialize)]
struct FormatOf {
    format: u32,
}

/// A module that keeps a type in the file as the text that people know it by.
macro_rules! as_text {
    ($module:ident, $type:ty) => {
        mod $module {
            use serde::{Deserialize, Deserializer, Serializer};

            pub(super) fn serialize<S: Serializer>(id: &$type, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(id)
            }

            pub(super) fn deserialize<'de, D: Deserializer<'de>>(
                from: D,
            ) -> Result<$type, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(cluster_id_text, crate::types::ClusterId);
as_text!(endpoint_text, crate::types::EndpointId);

mod hex_128 {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{id:032x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        u128::from_str_radix(&String::deserialize(from)?, 16).map_err(serde::de::Error::custom)
    }
}

pub(super) const FORM: Form = Form {
    name: "node.toml",
    again: |bytes| {
        let identity = Identity::read(bytes, &Random::from_seed(0)).ok()?;
        Some(identity.text().expect("what was read is written").into_bytes())
    },
    spelt: Spelt::Freely,
};

/// Groups that an earlier format says were opened.
fn held_open(groups: Vec<GroupId>) -> Vec<Held> {
    let held = |group| Held { group, as_of: 0, stage: HeldStage::Open, after: None };
    groups.into_iter().map(held).collect()
}

impl Identity {
    /// A new data directory, of no cluster yet.
    pub(super) fn new(random: &Random) -> Self {
        let incarnation = random.next_u128();
        Identity {
            format: FORMAT,
            incarnation,
            port: None,
            starts: 0,
            joining: None,
            level: LEVEL_FIRST,
            member: None,
        }
    }

    /// Reads the directory's identity; `None` if nobody lives there yet.
    pub(super) fn load(seams: &Seams, dir: &Path) -> io::Result<Option<Self>> {
        let (disk, path) = (seams.disk.as_ref(), dir.join(FILE));
        if !disk.exists(&path)? {
            return Ok(None);
        }
        let file = disk.open(&path, OpenMode::Existing)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_at(&mut bytes, 0)?;
        Identity::read(&bytes, &seams.random).map(Some).map_err(|what| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
        })
    }

    /// Reads the file's bytes. The first format has no incarnation, which is drawn for it.
    fn read(bytes: &[u8], random: &Random) -> Result<Self, String> {
        let damaged = |what: &str| {
            format!("it is damaged ({what}); put a copy of it back, or choose another one")
        };
        let text = std::str::from_utf8(bytes).map_err(|error| damaged(&error.to_string()))?;
        let wrong = |error: toml::de::Error| damaged(error.message());
        match toml::from_str::<FormatOf>(text).map_err(wrong)?.format {
            FORMAT => toml::from_str(text).map_err(wrong),
            2 => toml::from_str(text).map(Identity::of_v2).map_err(wrong),
            1 => toml::from_str(text).map(|v1| Identity::of_v1(v1, random)).map_err(wrong),
            newer => Err(format!(
                "it has format {newer}, and this build reads 1 to {FORMAT}; start a newer build"
            )),
        }
    }

    /// The text of the file.
    fn text(&self) -> io::Result<String> {
        toml::to_string(self).map_err(io::Error::other)
    }

    fn of_v2(v2: IdentityV2) -> Self {
        let IdentityV2 { incarnation, port, starts, joining, member } = v2;
        let member = member.map(|member| Membership {
            node_id: member.node_id,
            cluster_id: member.cluster_id,
            cluster_name: member.cluster_name,
            is_founder: member.is_founder,
            is_removed: member.is_removed,
            held: held_open(member.opened),
            told_of: member.told_of,
        });
        Identity { format: FORMAT, incarnation, port, starts, joining, level: LEVEL_FIRST, member }
    }

    fn of_v1(v1: IdentityV1, random: &Random) -> Self {
        let member = Membership {
            node_id: v1.node_id,
            cluster_id: v1.cluster_id,
            cluster_name: v1.cluster_name,
            is_founder: true,
            is_removed: false,
            held: held_open(v1.founded),
            told_of: Vec::new(),
        };
        Identity { member: Some(member), ..Identity::new(random) }
    }

    /// Writes the identity as a whole, durably.
    pub(super) fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let text = self.text()?;
        let unfinished: PathBuf = dir.join("node.toml.new");
        if disk.exists(&unfinished)? {
            disk.remove(&unfinished)?;
        }
        let file = disk.open(&unfinished, OpenMode::CreateNewPrivate)?;
        file.write_at(text.as_bytes(), 0)?;
        file.sync_data()?;
        Failpoint::BeforeIdentityNamed.check()?;
        disk.rename(&unfinished, &dir.join(FILE))?;
        Failpoint::AfterIdentityNamed.pass();
        disk.sync_dir(dir)
    }
}
