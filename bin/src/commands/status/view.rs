//! What a node says of its cluster, as text that fits where it is read.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::advice;
use crate::commands::keyspace::{Keyspace, Keyspaces};
use crate::commands::operations::Operation;
use crate::output::counted;
use crate::screen::Screen;

/// More groups than these are summed up, and only those shown that need a look.
const GROUPS_SHOWN: usize = 8;
/// Entries by which a replica may be behind without being shown for it.
const LAG_SHOWN: u64 = 1_000;
/// Most operations that are shown; `aspen operations` has all.
const OPERATIONS_SHOWN: usize = 5;

#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) node: Identity,
    pub(super) members: Vec<Member>,
    pub(super) groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Identity {
    pub(super) id: u64,
    endpoint_id: String,
    listen: Vec<String>,
    version: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Member {
    pub(super) node: u64,
    name: String,
    role: String,
    pub(super) state: String,
    pub(super) health: String,
    pub(super) draining: bool,
    pub(super) maintenance: bool,
    pub(super) replicas: u64,
    leads: u64,
    version: String,
    told: Option<Told>,
}

#[derive(Debug, Deserialize)]
struct Told {
    writes_per_second: u32,
    free_percent: u8,
}

#[derive(Debug, Deserialize)]
pub(super) struct Group {
    pub(super) id: u64,
    role: String,
    asleep: bool,
    term: u64,
    pub(super) leader: Option<u64>,
    last_log_index: u64,
    applied_index: u64,
    revision: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    replicas: Vec<Replica>,
    pub(super) damage: Option<Value>,
    pub(super) repair: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Replica {
    node: u64,
    stored_index: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Health {
    pub(super) state: String,
    ready: bool,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Part {
    name: String,
    pub(super) state: String,
    reason: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Operations {
    operations: Vec<Operation>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct View {
    pub(super) cluster: Cluster,
    pub(super) health: Health,
    pub(super) keyspaces: Keyspaces,
    pub(super) operations: Operations,
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

impl View {
    /// One screen.
    pub(super) fn text(&self, screen: &Screen) -> String {
        let mut parts = vec![
            self.facts(screen),
            screen.table(&self.members()),
            screen.table(&self.shards()),
            self.groups(screen),
            self.parts(screen),
        ];
        parts.push(self.under_way(screen));
        let next = advice::next(&self.cluster, &self.health);
        let next = next.iter().map(|sentence| screen.wrapped(&format!("next: {sentence}"), 6));
        parts.push(next.collect::<Vec<_>>().join("\n"));
        parts.retain(|part| !part.is_empty());
        parts.join("\n\n")
    }

    fn facts(&self, screen: &Screen) -> String {
        let Identity { id, endpoint_id, listen, version } = &self.cluster.node;
        let ready = if self.health.ready { "ready" } else { "not ready" };
        let lines = [
            format!("cluster   {} ({})", self.cluster.name, self.cluster.id),
            format!("node      {id} (aspen {version})"),
            format!("endpoint  {endpoint_id}"),
            format!("listens   {}", listen.join(", ")),
        ];
        let lines = lines.iter().map(|line| screen.wrapped(line, 10));
        let health = screen.painted(&self.health.state);
        let health = format!("health    {health}, {}", screen.painted(ready));
        lines.chain([health]).collect::<Vec<_>>().join("\n")
    }

    fn members(&self) -> Vec<Vec<String>> {
        let members = &self.cluster.members;
        // As long as all run the same, that of this node says it.
        let differ = members.iter().any(|member| member.version != members[0].version);
        let heading = [
            "NODE", "NAME", "ROLE", "STATE", "HEALTH", "SHARDS", "LEADS", "WRITES/S", "LAG", "FREE",
        ];
        let heading = heading.into_iter().chain(differ.then_some("VERSION")).map(str::to_owned);
        let lags = self.lags();
        let rows = members.iter().map(|member| {
            let told = |show: &dyn Fn(&Told) -> String| {
                member.told.as_ref().map_or_else(|| "-".to_owned(), show)
            };
            let state = match (member.draining, member.maintenance) {
                _ if member.state != "active" => &member.state,
                (true, _) => "draining",
                (false, true) => "maintenance",
                (false, false) => &member.state,
            };
            let mut row = vec![
                member.node.to_string(),
                if member.name.is_empty() { "-".to_owned() } else { member.name.clone() },
                member.role.clone(),
                state.to_owned(),
                member.health.clone(),
                member.replicas.to_string(),
                member.leads.to_string(),
                told(&|told| told.writes_per_second.to_string()),
                lags.get(&member.node).map_or_else(|| "-".to_owned(), u64::to_string),
                told(&|told| format!("{} %", told.free_percent)),
            ];
            row.extend(differ.then(|| member.version.clone()));
            row
        });
        std::iter::once(heading.collect()).chain(rows).collect()
    }

    /// How many entries each member is behind: the others in the groups that this node leads, this one
    /// in what it has of its own log.
    fn lags(&self) -> BTreeMap<u64, u64> {
        let mut lags = BTreeMap::new();
        for group in &self.cluster.groups {
            for replica in &group.replicas {
                let lag = group.last_log_index.saturating_sub(replica.stored_index);
                *lags.entry(replica.node).or_default() += lag;
            }
            let own = group.last_log_index.saturating_sub(group.applied_index);
            *lags.entry(self.cluster.node.id).or_default() += own;
        }
        lags
    }

    fn shards(&self) -> Vec<Vec<String>> {
        let rows = self.keyspaces.keyspaces.iter().map(Keyspace::row);
        std::iter::once(row(["KEYSPACE", "SHARDS", "REPLICAS", "IN PLACE"])).chain(rows).collect()
    }

    /// The groups that this node holds: each, or of many the sum and those that need a look.
    fn groups(&self, screen: &Screen) -> String {
        let groups = &self.cluster.groups;
        if groups.len() <= GROUPS_SHOWN {
            return screen.table(&rows_of(groups.iter()));
        }
        let mut roles: BTreeMap<&str, usize> = BTreeMap::new();
        groups.iter().for_each(|group| *roles.entry(&group.role).or_default() += 1);
        let roles = roles.into_iter().map(|(role, count)| format!("{count} {role}"));
        let asleep = groups.iter().filter(|group| group.asleep).count();
        let roles = roles.collect::<Vec<_>>().join(", ");
        let sum = format!(
            "node {} holds {}: {roles}; {asleep} asleep",
            self.cluster.node.id,
            counted(groups.len() as u64, "group"),
        );
        let sum = screen.wrapped(&sum, 2);
        let needs_look = |group: &&Group| {
            let lag = group.last_log_index.saturating_sub(group.applied_index);
            let is_unwell = group.damage.is_some() || group.repair.is_some();
            is_unwell || group.leader.is_none() || lag > LAG_SHOWN
        };
        let unwell = rows_of(groups.iter().filter(needs_look).take(GROUPS_SHOWN));
        match unwell.len() {
            1 => sum,
            _ => format!("{sum}\n{}", screen.table(&unwell)),
        }
    }

    /// How well each part is; of those that are well the names alone.
    fn parts(&self, screen: &Screen) -> String {
        let (well, unwell): (Vec<&Part>, Vec<&Part>) =
            self.health.parts.iter().partition(|part| part.state == "healthy");
        // Of many groups the number is enough.
        let is_group = |part: &&Part| part.name.starts_with("group ");
        let (groups, well): (Vec<&Part>, Vec<&Part>) = well.into_iter().partition(is_group);
        let groups = (!groups.is_empty()).then(|| counted(groups.len() as u64, "group"));
        let well: Vec<String> = well.iter().map(|part| part.name.clone()).chain(groups).collect();
        let unwell = unwell.iter().map(|part| {
            let reason = part.reason.as_deref().unwrap_or_default();
            let line = screen.wrapped(&format!("{}: {} ({reason})", part.name, part.state), 2);
            line.replacen(&part.state, &screen.painted(&part.state), 1)
        });
        let mut lines: Vec<String> = unwell.collect();
        if !well.is_empty() {
            lines.push(screen.wrapped(&format!("healthy: {}", well.join(", ")), 2));
        }
        lines.join("\n")
    }

    fn under_way(&self, screen: &Screen) -> String {
        let operations = &self.operations.operations;
        if operations.is_empty() {
            return String::new();
        }
        let rows = operations.iter().take(OPERATIONS_SHOWN).map(Operation::row);
        let rows: Vec<_> = std::iter::once(row(Operation::HEADING)).chain(rows).collect();
        let more = operations.len().saturating_sub(OPERATIONS_SHOWN);
        match more {
            0 => screen.table(&rows),
            _ => format!("{}\nand {more} more: `aspen operations`", screen.table(&rows)),
        }
    }
}

fn rows_of<'a>(groups: impl Iterator<Item = &'a Group>) -> Vec<Vec<String>> {
    let heading =
        ["GROUP", "ROLE", "TERM", "LEADER", "VOTERS", "LEARNERS", "LOG", "APPLIED", "REVISION"];
    let rows = groups.map(|group| {
        let role = match (&group.damage, &group.repair) {
            (_, Some(_)) => "repaired",
            (Some(_), None) => "damaged",
            (None, None) => &group.role,
        };
        vec![
            group.id.to_string(),
            role.to_owned(),
            group.term.to_string(),
            group.leader.map_or_else(|| "none".to_owned(), |id| id.to_string()),
            numbers(&group.voters),
            numbers(&group.learners),
            group.last_log_index.to_string(),
            group.applied_index.to_string(),
            group.revision.to_string(),
        ]
    });
    std::iter::once(row(heading)).chain(rows).collect()
}

fn numbers(nodes: &[u64]) -> String {
    match nodes {
        [] => "-".to_owned(),
        _ => nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
    }
}
