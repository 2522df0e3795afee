//! A cluster of three processes on loopback: this one, which writes to its own node, and two of the
//! command.

use std::collections::BTreeSet;
use std::time::Duration;

use aspen::roster::records::Stage;
use aspen::types::{GroupId, NodeId};
use aspen::{KvClient, KvService, KvServiceBuilder, MemberRole, Op, Reach};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::costs::{memory_mib, processor_time};
use super::running::Node;
use super::{Result, key, say_times, value, write_as};

const WRITERS: [u64; 3] = [1, 64, 256];
const HANDOVERS: usize = 20;
const KILLS: usize = 10;
/// Writers while the lead changes.
const STEADY_WRITERS: u64 = 8;
/// Before the lead changes again.
const PAUSE: Duration = Duration::from_millis(500);
/// The state that a node joins with: as many keys of 256 bytes.
const JOIN_KEYS: u64 = 400_000;
const JOINS: usize = 5;
const FILL_BATCH: u64 = 500;

/// So many shards side by side with one; and so many that nobody uses, in two keyspaces.
const GROUPS: u32 = 100;
const IDLE_GROUPS: u32 = 1_000;
/// As many as fill one group, as give each of a hundred ten, and as fill a hundred.
const GROUPS_WRITERS: [u64; 3] = [64, 1_024, 4_096];
/// Until the leads are where they are to be.
const LEADS_SPREAD: Duration = Duration::from_secs(6);
const LEAD_MAX: Duration = Duration::from_secs(10);
/// Until those that sleep are put away, and the allocator has given back what it will.
const IDLE_SETTLE: Duration = Duration::from_secs(60);
const IDLE_MEASURED: Duration = Duration::from_secs(30);

/// Three nodes, the first in this process.
struct Three {
    here: KvService,
    others: Vec<(NodeId, Node, TempDir)>,
    _here_dir: TempDir,
}

/// From a join to a voter.
pub(super) async fn joins() -> Result<()> {
    joined("an empty cluster", 0).await?;
    joined("a cluster with 100 MB", JOIN_KEYS).await
}

/// Puts while nothing else happens.
pub(super) async fn writes() -> Result<()> {
    let (three, _) = Three::start(0).await?;
    three.lead(NodeId(1)).await?;
    for writers in WRITERS {
        let times = write_as(&three.here.client(), writers).await?;
        say_times("puts in one of three processes, which leads", writers, times);
    }
    three.stop().await
}

/// Puts in one shard and in many, in turns. The one is led by each node in turn, since of many two
/// thirds are not led where the writers are.
pub(super) async fn groups() -> Result<()> {
    let (three, _) = Three::start(0).await?;
    let many = three.keyspace("many", GROUPS).await?;
    let one = three.here.client();
    for writers in GROUPS_WRITERS {
        let (mut in_one, mut in_many) = (0.0, 0.0);
        for leader in [1, 2, 3] {
            three.lead(NodeId(leader)).await?;
            let times = write_as(&one, writers).await?;
            in_one += count(&times);
            say_times(&format!("puts in one group led by node {leader}"), writers, times);
            let times = write_as(&many, writers).await?;
            in_many += count(&times);
            say_times(&format!("puts in {GROUPS} groups"), writers, times);
        }
        let ratio = in_many / in_one;
        println!("| {GROUPS} groups against one, {writers} at a time | {ratio:.2} times as many |");
    }
    three.stop().await
}

/// Many groups that nobody uses.
pub(super) async fn idle_groups() -> Result<()> {
    let (three, _) = Three::start(0).await?;
    sleep(PAUSE).await;
    let process = three.others[0].1.child.id();
    let before = memory_mib(process, "VmRSS")?;
    for name in ["first", "second"] {
        three.keyspace(name, IDLE_GROUPS / 2).await?;
    }
    sleep(IDLE_SETTLE).await;
    let memory = memory_mib(process, "VmRSS")? - before;
    let (began, used) = (Instant::now(), processor_time(process)?);
    sleep(IDLE_MEASURED).await;
    let used = processor_time(process)? - used;
    let percent = 100.0 * used.div_duration_f64(began.elapsed());
    println!("| {IDLE_GROUPS} idle groups, a follower's processor | {percent:.2} % of a core |");
    let kib = memory * 1024.0 / f64::from(IDLE_GROUPS);
    println!("| {IDLE_GROUPS} idle groups, resident | {kib:.1} KiB a group |");
    three.stop().await
}

/// Puts while the lead changes, by plan and by force.
pub(super) async fn failover() -> Result<()> {
    let (mut three, _) = Three::start(0).await?;
    three.handovers().await?;
    three.kills().await?;
    three.stop().await
}

async fn joined(what: &str, keys: u64) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..JOINS {
        let (three, joined) = Three::start(keys).await?;
        times.push(joined);
        three.stop().await?;
    }
    say(&format!("from the second join to a third voter in {what}"), times);
    Ok(())
}

fn say(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let (median, longest) =
        (times[times.len() / 2].as_millis(), times[times.len() - 1].as_millis());
    println!("| {what} | median {median} ms, longest {longest} ms |");
}

impl Three {
    /// Three voters, the first with so many keys before the others join; and how long it took from
    /// the start of the third's process until it voted.
    async fn start(keys: u64) -> Result<(Three, Duration)> {
        let dir = tempfile::tempdir()?;
        let here = KvServiceBuilder::new(1, dir.path()).with_reach(Reach::Loopback).start().await?;
        fill(&here.client(), keys).await?;
        let life = Duration::from_secs(3_600);
        let ticket = here.cluster().invite(MemberRole::Voter, life, None).await?.to_string();
        let mut others = Vec::new();
        let mut joined = Duration::ZERO;
        for number in [2, 3] {
            let dir = tempfile::tempdir()?;
            let began = Instant::now();
            let node = Node::run(dir.path(), &["join", &ticket]).until_ready().await?;
            others.push((NodeId(number), node, dir));
            if number == 3 {
                // The second follows until there is a third: three vote, or one.
                voters(&here, &[1, 2, 3]).await;
                joined = began.elapsed();
            }
        }
        Ok((Three { here, others, _here_dir: dir }, joined))
    }

    /// A keyspace of so many shards, all of which have three replicas and lead where they are to.
    async fn keyspace(&self, name: &str, shards: u32) -> Result<KvClient> {
        let began = Instant::now();
        let cluster = self.here.cluster();
        let keyspace = cluster.create_keyspace(name, shards, 3).await?;
        let is_settled = || {
            let roster = cluster.roster();
            let stage = |group| roster.shard(group).map(|(shard, _)| shard.stage);
            keyspace.groups().all(|group| stage(group) == Some(Stage::Settled))
        };
        while !is_settled() {
            sleep(Duration::from_millis(20)).await;
        }
        println!("| {shards} shards settled | {} ms |", began.elapsed().as_millis());
        sleep(LEADS_SPREAD).await;
        Ok(self.here.client().keyspace(name)?)
    }

    /// Makes a node lead the group that holds the keys. What still settles after much load may hold
    /// the lead where it is, and is waited for.
    async fn lead(&self, node: NodeId) -> Result<()> {
        let deadline = Instant::now() + LEAD_MAX;
        loop {
            match self.here.cluster().transfer(GroupId::FIRST_SHARD, node).await {
                Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
                moved => return Ok(moved?),
            }
        }
    }

    /// The longest that a write takes while the lead is handed over.
    async fn handovers(&self) -> Result<()> {
        let mut longest = Vec::new();
        for turn in 0..HANDOVERS {
            let to = NodeId(1 + (turn as u64 + 1) % 3);
            let during = async {
                sleep(PAUSE).await;
                self.lead(to).await?;
                sleep(PAUSE).await;
                Result::Ok(())
            };
            longest.push(longest_write(&self.here.client(), during).await?);
        }
        say(&format!("the longest of {STEADY_WRITERS} writers' puts around a transfer"), longest);
        Ok(())
    }

    /// The longest that a write takes when the process of the leader is killed.
    async fn kills(&mut self) -> Result<()> {
        let mut longest = Vec::new();
        for turn in 0..KILLS {
            let at = turn % self.others.len();
            self.lead(self.others[at].0).await?;
            let kv = self.here.client();
            let (_, node, dir) = &mut self.others[at];
            let during = async {
                sleep(PAUSE).await;
                node.kill();
                sleep(4 * PAUSE).await;
                Result::Ok(())
            };
            longest.push(longest_write(&kv, during).await?);
            *node = Node::start(dir.path()).await?;
            voters(&self.here, &[1, 2, 3]).await;
        }
        say(
            &format!("the longest of {STEADY_WRITERS} writers' puts around SIGKILL of the leader"),
            longest,
        );
        Ok(())
    }

    async fn stop(self) -> Result<()> {
        for (_, node, _dir) in self.others {
            node.stop().await;
        }
        Ok(self.here.shutdown().await?)
    }
}

async fn voters(node: &KvService, wanted: &[u64]) {
    let wanted: BTreeSet<NodeId> = wanted.iter().copied().map(NodeId).collect();
    while !node.groups().iter().all(|group| group.voters == wanted) {
        sleep(Duration::from_millis(2)).await;
    }
}

/// Writes without a rest while something goes on; answers the longest time of one write.
async fn longest_write(
    kv: &KvClient,
    during: impl Future<Output = Result<()>>,
) -> Result<Duration> {
    let (over, _) = watch::channel(false);
    let mut writing = tokio::task::JoinSet::new();
    for writer in 0..STEADY_WRITERS {
        let (kv, over) = (kv.clone(), over.subscribe());
        writing.spawn(async move {
            let mut longest = Duration::ZERO;
            while !*over.borrow() {
                let began = Instant::now();
                kv.put(key(writer), value(writer)).await?;
                longest = longest.max(began.elapsed());
            }
            Ok::<_, aspen::Error>(longest)
        });
    }
    during.await?;
    over.send_replace(true);
    let mut longest = Duration::ZERO;
    while let Some(written) = writing.join_next().await {
        longest = longest.max(written??);
    }
    Ok(longest)
}

async fn fill(kv: &KvClient, count: u64) -> Result<()> {
    for first in (0..count).step_by(FILL_BATCH as usize) {
        let numbers = first..count.min(first + FILL_BATCH);
        numbers.fold(kv.txn(), |txn, n| txn.then(Op::put(key(n), value(n)))).await?;
    }
    Ok(())
}

fn count(times: &[Vec<Duration>]) -> f64 {
    times.iter().map(Vec::len).sum::<usize>() as f64
}
