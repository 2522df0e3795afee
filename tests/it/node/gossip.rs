//! What members tell each other of themselves, and what comes of one that abuses it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use aspen::net::AddressSource;
use aspen::node::MemberFacts;
use aspen::roster::announcement::{Announcement, topic};
use aspen::types::{Address, ClusterId, EndpointId, NodeId};
use aspen::{KvService, KvServiceBuilder, MemberRole, Reach};
use futures_util::StreamExt;
use iroh::address_lookup::memory::MemoryLookup;
use iroh_gossip::api::{Event, GossipReceiver, GossipSender};

use super::temp_dir;
use crate::wait::until;

fn member(dir: &Path, at: usize) -> KvServiceBuilder {
    KvServiceBuilder::auto(dir.join(at.to_string())).with_reach(Reach::Loopback)
}

async fn three(dir: &Path) -> Vec<KvService> {
    let first = member(dir, 1).start().await.expect("the first node");
    let cluster = first.cluster();
    let ticket = cluster.invite(MemberRole::Voter, Duration::from_secs(600), None).await;
    let ticket = ticket.expect("a ticket");
    let mut nodes = vec![first];
    for at in 2..=3 {
        nodes.push(member(dir, at).join(ticket.clone()).start().await.expect("it joins"));
    }
    nodes
}

fn seen(node: &KvService) -> BTreeMap<NodeId, MemberFacts> {
    node.cluster().members().into_iter().map(|facts| (facts.member.node, facts)).collect()
}

fn last_told(node: &KvService, of: NodeId) -> Option<(u64, u64)> {
    Some(seen(node)[&of].told.as_ref()?.announcement.order())
}

#[tokio::test(flavor = "multi_thread")]
async fn members_tell_each_other_where_they_are_and_what_they_do() {
    let dir = temp_dir();
    let nodes = three(dir.path()).await;
    for node in &nodes {
        until("all are heard of, with both groups and their addresses", async || {
            seen(node).values().all(|facts| {
                let told = facts.told.as_ref().map(|told| &told.announcement);
                told.is_some_and(|told| told.groups.len() == 2 && !told.addresses.is_empty())
            })
        })
        .await;
        assert!(seen(node).values().all(|facts| facts.offences == 0));
    }
    let leads = |node: &KvService, of| {
        let told = seen(node)[&of].told.clone().expect("it was heard");
        told.announcement.groups[0].role
    };
    let before = last_told(&nodes[2], NodeId(1)).expect("it was heard");
    let group = aspen::types::GroupId::FIRST_SHARD;
    nodes[0].cluster().transfer(group, NodeId(2)).await.expect("it can lead");
    until("a change of roles is told at once", async || {
        leads(&nodes[2], NodeId(2)) == aspen::roster::announcement::PartRole::Leader
    })
    .await;
    assert!(last_told(&nodes[2], NodeId(1)).expect("it was heard") > before);
    for node in nodes {
        node.shutdown().await.expect("an orderly end");
    }
}

/// A member that says what it likes: node 3's key and number, and no node behind them.
struct Abuser {
    _endpoint: iroh::Endpoint,
    _gossip: iroh_gossip::net::Gossip,
    secret: iroh::SecretKey,
    cluster: ClusterId,
    sender: GossipSender,
    receiver: GossipReceiver,
}

impl Abuser {
    async fn enter(dir: &Path, others: &[KvService]) -> Abuser {
        let bytes =
            std::fs::read(dir.join("3/node.key")).expect("the key of the node that stopped");
        let secret = iroh::SecretKey::from_bytes(&bytes.try_into().expect("32 bytes"));
        let book = MemoryLookup::new();
        let mut known = Vec::new();
        for node in others {
            let id = node.node().endpoint_id.parse().expect("a key");
            let listens = node.node().listen.iter().copied().map(iroh::TransportAddr::Ip);
            book.add_endpoint_info(iroh::EndpointAddr::from_parts(id, listens));
            known.push(id);
        }
        let endpoint = iroh::Endpoint::builder(iroh::endpoint::presets::Minimal)
            .relay_mode(iroh::RelayMode::Disabled)
            .secret_key(secret.clone())
            .address_lookup(book)
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")
            .expect("loopback")
            .bind()
            .await
            .expect("a socket");
        let gossip = iroh_gossip::net::Gossip::builder().spawn(endpoint.clone());
        let roster = others[0].cluster().roster();
        let cluster = roster.cluster().expect("it is founded");
        let id = iroh_gossip::TopicId::from_bytes(topic(&cluster.gossip_secret));
        let entered = gossip.subscribe_and_join(id, known).await.expect("it is a member");
        let (sender, receiver) = entered.split();
        let cluster = cluster.id;
        Abuser { _endpoint: endpoint, _gossip: gossip, secret, cluster, sender, receiver }
    }

    fn key(&self) -> EndpointId {
        EndpointId(*self.secret.public().as_bytes())
    }

    /// What an honest node in its place would say.
    fn honest(&self, number: u64) -> Announcement {
        Announcement {
            cluster: self.cluster,
            endpoint: self.key(),
            node: NodeId(3),
            start: 1_000,
            number,
            addresses: vec!["192.0.2.3:1".parse().expect("an address")],
            writes_per_second: 0,
            free_percent: 1,
            version: "0".into(),
            groups_cut: false,
            groups: Vec::new(),
            rest: Default::default(),
        }
    }

    async fn say(&self, announcement: Announcement) {
        self.say_as(&self.secret, announcement).await;
    }

    async fn say_as(&self, key: &iroh::SecretKey, announcement: Announcement) {
        let bytes = announcement.seal(|message| key.sign(message).to_bytes());
        self.sender.broadcast(bytes.into()).await.expect("the swarm takes it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_abuses_gossip_is_ignored_and_counted_and_disturbs_nobody() {
    let dir = temp_dir();
    let mut nodes = three(dir.path()).await;
    until("all are heard of", async || {
        nodes.iter().all(|node| seen(node).values().all(|facts| facts.told.is_some()))
    })
    .await;
    nodes.pop().expect("the third").shutdown().await.expect("an orderly end");
    let first = &nodes[0];
    let mut abuser = Abuser::enter(dir.path(), &nodes).await;
    let of_abuser = || seen(first)[&NodeId(3)].clone();

    // What it may say is heard, and what it says of another's address is not.
    let stolen: Address = first.cluster().roster().member(NodeId(2)).unwrap().addresses[0].clone();
    let mut greedy = abuser.honest(1);
    greedy.addresses.push(stolen.clone());
    abuser.say(greedy.clone()).await;
    until("it is heard", async || last_told(first, NodeId(3)) == Some((1_000, 1))).await;
    until("and held against it", async || of_abuser().offences > 0).await;
    let told = of_abuser().told.expect("it was heard").announcement;
    assert_eq!(told.addresses, abuser.honest(1).addresses);
    assert!(of_abuser().known.iter().all(|known| known.address != stolen));
    let sources = of_abuser().known.into_iter().map(|known| known.source);
    assert!(sources.into_iter().any(|source| source == AddressSource::Gossip));

    // A lie about its number, and what is not signed by whose it is.
    let before = of_abuser().offences;
    abuser.say(Announcement { node: NodeId(1), ..abuser.honest(2) }).await;
    until("the lie is counted", async || of_abuser().offences > before).await;
    let second = first.cluster().roster().member(NodeId(2)).unwrap().endpoint;
    abuser.say(Announcement { endpoint: second, node: NodeId(2), ..abuser.honest(u64::MAX) }).await;

    // Replays of what the second has said, a flood of its own, and a thousand nodes that are none.
    let replayed = loop {
        match abuser.receiver.next().await.expect("the topic goes on").expect("and is read") {
            Event::Received(message) if message.content.windows(32).any(|at| at == second.0) => {
                break message.content;
            }
            _ => {}
        }
    };
    let random = aspen::seams::Random::from_seed(7);
    for number in 0..2_000u64 {
        abuser.say(abuser.honest(10 + number)).await;
        let mut replay = replayed.to_vec();
        abuser.sender.broadcast(replay.clone().into()).await.expect("the swarm takes it");
        // As it is a different message to the swarm, it is passed on.
        replay.push(number as u8);
        abuser.sender.broadcast(replay.into()).await.expect("the swarm takes it");
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        let nobody = iroh::SecretKey::from_bytes(&bytes);
        let endpoint = EndpointId(*nobody.public().as_bytes());
        abuser.say_as(&nobody, Announcement { endpoint, ..abuser.honest(1) }).await;
    }
    until("the flood is counted", async || of_abuser().offences > before + 10).await;

    // Nobody else is disturbed: the second is believed and heard, and the store serves.
    let heard = last_told(first, NodeId(2)).expect("it was heard");
    assert!(heard.1 < u64::MAX, "nobody speaks for another");
    until("the second is heard again", async || last_told(first, NodeId(2)) > Some(heard)).await;
    assert_eq!(seen(first).len(), 3);
    for node in &nodes {
        node.client().put("k", "v").await.expect("the store serves");
    }
    assert_eq!(seen(first)[&NodeId(1)].offences, 0);
    drop(abuser);
    for node in nodes {
        node.shutdown().await.expect("an orderly end");
    }
}
