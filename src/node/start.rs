//! From settings to a running node.
//!
//! The order matters: the directory is this process's alone before anything in it is read; the
//! node listens before it joins, so that it can say where; it is a member, durably, before it
//! opens a group; and its doors open when everything behind them is there.

use std::net::SocketAddr;
use std::sync::Arc;

use aspen_tickets::JoinTicket;
use futures_util::future::BoxFuture;
use tokio::sync::{OnceCell, watch};

use super::balancing::{HeardLoads, Silences, balancing};
use super::builder::{KvServiceBuilder, StartError, StorageBackend};
use super::cluster::{Cluster, Parts};
use super::departures::departures;
use super::identity::{Identity, KnownMember, Membership};
use super::join::{self, JoinError, Question};
use super::mesh::{Host, HostParts, Searching, search};
use super::news::news;
use super::places::{Home, Opened, Places};
use super::repairs::repairing;
use super::resting::resting;
use super::serve::NodeServe;
use super::service::KvService;
use super::tokens::Looks;
use super::{Door, DoorContext, Instruments};
use crate::actors::{Groups, Members, Rumours, RunService, Sources, Speaker, Tree, TreeSpec};
use crate::client::{Desk, GroupClient, KvClient, Member};
use crate::limits::MEMBER_ADDRESSES_MAX;
use crate::net::{AddressBook, AddressSource, Endpoint, Listen, Neighbours, NodeKey, Peers, Reach};
use crate::raft::{Counts, FindReplica, Inbound, Rounds, Transport};
use crate::roster::admit::Description;
use crate::roster::builds::split;
use crate::roster::refused::Refused;
use crate::seams::failpoint::Failpoint;
use crate::seams::network::{Gate, Gossip, Network, Plugged};
use crate::seams::{self, Here, Seams};
use crate::status::NodeIdentity;
use crate::types::{Address, ClusterId, GroupId, KeyspaceName, NodeId};

const FIRST_NODE: NodeId = NodeId(1);
const CLUSTER_NAME: &str = "aspen";

/// Not an `async fn`: whoever awaits one compiles it, with all that it awaits, in his own crate.
pub(super) fn start(
    settings: KvServiceBuilder,
) -> BoxFuture<'static, Result<KvService, StartError>> {
    Box::pin(Here::at_a_new_node().scope(open(settings)))
}

async fn open(settings: KvServiceBuilder) -> Result<KvService, StartError> {
    let seams = settings.seams.clone().unwrap_or_else(|| match settings.storage {
        StorageBackend::Redb => Seams::real(),
        StorageBackend::Memory => Seams::in_memory(),
    });
    if settings.node_id == Some(0) {
        return Err(StartError::Setting("a node's number is 1 or greater".into()));
    }
    settings.times.check().map_err(StartError::Setting)?;
    if settings.mesh.is_some() && settings.reach == Reach::Loopback {
        let sentence = "a mesh is of nodes on one LAN, and the reach is this machine only; use \
                        --reach lan";
        return Err(StartError::Setting(sentence.into()));
    }
    for door in &settings.doors {
        door.open().map_err(StartError::Listen)?;
    }
    let opened = {
        let (dir, seams) = (settings.dir.clone(), seams.clone());
        seams::blocking(move || Opened::open(dir, &seams)).await?
    };
    Starting { settings, seams, opened }.run().await
}

/// A start under way.
struct Starting {
    settings: KvServiceBuilder,
    seams: Seams,
    opened: Opened,
}

impl Starting {
    async fn run(self) -> Result<KvService, StartError> {
        let Starting { settings, seams, opened } = self;
        let Opened { home, key, log, space } = opened;
        check_identity(&settings, &home).await?;
        let members = Members::default();
        if settings.mesh.is_some() {
            members.receive_mesh();
        }
        let Footing { network, gossip, listen, places: whereabouts, endpoint } =
            footing(&settings, &seams, &key, &home, &members).await?;
        // A node of this machine only has no neighbours.
        let is_local = settings.reach == Reach::Loopback
            || settings.listen.is_some_and(|listen| listen.ip().is_loopback());
        let neighbours = endpoint.as_deref().filter(|_| !is_local).map(Neighbours::listen);
        let mut book = {
            let (seams, path) = (seams.clone(), home.dir.join("peers"));
            seams::blocking(move || AddressBook::open(&seams, &path)).await
        };
        let settled = settle(&settings, &seams, &home, &network, neighbours.as_ref()).await;
        let member = match settled {
            Ok(member) => member,
            Err(error) => {
                // Whoever refused it has been heard out, and is told that nothing more comes.
                network.close().await;
                return Err(error);
            }
        };
        let me = member.node_id;
        Here::is_node(me);
        for known in &member.told_of {
            if book.addresses(known.endpoint).is_empty() {
                book.note(known.endpoint, &known.addresses, AddressSource::Roster);
            }
        }
        let others = member.told_of.iter().map(|known| (known.node, known.endpoint));
        members.told_of(others.chain([(me, network.id())]));

        let Identity { incarnation, starts: start, .. } = home.identity().await;
        let description = describe(&settings, incarnation, network.as_ref());
        let groups = Groups::default();
        let running = groups.clone();
        let find: FindReplica = Arc::new(move |group| running.find(group));
        let inbound = Inbound::new(find, Arc::new(members.clone()));
        let desk = Desk::new(groups.clone(), Arc::new(members.clone()));
        let desk = desk.with_read_only(settings.read_only);
        let (counts, operations) = (Counts::default(), desk.counts());
        let host = settings.mesh.clone().zip(neighbours.clone()).map(|(mesh, neighbours)| {
            let (network, random) = (network.clone(), seams.random.clone());
            let cluster_id = member.cluster_id;
            Host::new(HostParts { mesh, cluster_id, network, neighbours, random })
        });
        let serve = Arc::new(NodeServe::new(inbound, desk.clone(), host.clone()));
        let peers = Peers::start(network.clone(), book, serve.clone(), seams.random.clone());
        desk.pass_on_by(&peers);
        if let Some(endpoint) = &endpoint {
            endpoint.look_up_in(peers.shared_book());
        }
        let transport = Transport::new(peers.clone(), Arc::new(members.clone()));
        let places = Places {
            me,
            home: home.clone(),
            log: log.clone(),
            space: space.clone(),
            times: settings.times,
            transport,
            members: members.clone(),
            rounds: Rounds::default(),
            counts: counts.clone(),
            random: seams.random.clone(),
        };
        let random = || seams.random.clone();
        let asking = Member::new(network.id(), desk, Some(peers.clone()), random());
        let nodes = Arc::new(asking.clone());
        let kv = KvClient::over(nodes.clone(), KeyspaceName::default(), random());
        let (going, gone) = watch::channel(None);
        let cluster = Cluster::new(Parts {
            me,
            key: key.clone(),
            meta: GroupClient::over(nodes, GroupId::META, random()),
            member: asking,
            looks: Looks::default(),
            owner: OnceCell::new(),
            members: members.clone(),
            groups: groups.clone(),
            network: network.clone(),
            peers: peers.clone(),
            seams: seams.clone(),
            data_dir: home.dir.clone(),
            gone: gone.clone(),
            rumours: Rumours::new(key.endpoint_id()),
            silences: Silences::default(),
            loads: HeardLoads::default(),
        });
        serve.complete(cluster.clone());
        let node = NodeIdentity {
            node_id: me,
            endpoint_id: key.endpoint_id().to_string(),
            cluster_id: member.cluster_id,
            cluster_name: member.cluster_name.clone(),
            listen,
        };
        let rumours = cluster.inner.rumours.clone();
        let (key, random) = (key.clone(), seams.random.clone());
        let (space_left, told_groups) = (space.clone(), groups.clone());
        let (started_at, log_counts) = (seams.wall.since_epoch(), log.counts());
        let measured = space.clone();
        let heard = rumours.clone();
        let speaker = gossip.map(|gossip| Speaker {
            gossip,
            key,
            me,
            start,
            random,
            space: space_left,
            groups: told_groups,
            rumours,
        });
        let spec = TreeSpec {
            log,
            space,
            groups: groups.clone(),
            holdings: Arc::new(places),
            me,
            members,
            peers: peers.clone(),
            sources: Sources {
                speaker,
                neighbours,
                lookup: endpoint.and_then(|endpoint| endpoint.lookup()),
                places: whereabouts.clone(),
            },
            rumours: heard,
        };
        let (doors, told) = (settings.doors.clone(), settings.told);
        let tree = Tree::grow(spec, |board| {
            let context = DoorContext {
                client: kv.clone(),
                cluster: cluster.clone(),
                node: node.clone(),
                health: board.reports(),
                groups: board.groups(),
                instruments: Instruments {
                    started_at,
                    operations,
                    raft: counts,
                    log: log_counts,
                    space: measured,
                    board: board.clone(),
                },
            };
            if let Some(told) = told {
                // Whoever asked may have lost interest.
                let _ = told.send(context.clone());
            }
            let door = |door: Arc<dyn Door>| (door.name().to_owned(), run_door(door, &context));
            let seeing_off = departures(cluster.clone(), home.clone(), going.clone());
            let itself = (description.clone(), settings.capacity);
            let telling = news(cluster.clone(), itself, whereabouts, going);
            let mut parts = vec![
                ("departures".to_owned(), seeing_off),
                ("news".to_owned(), telling),
                ("balancing".to_owned(), balancing(cluster.clone())),
                ("resting".to_owned(), resting(cluster.clone())),
                ("repairs".to_owned(), repairing(cluster.clone(), home.clone())),
            ];
            parts.extend(host.map(|host| ("mesh".to_owned(), host.part())));
            parts.into_iter().chain(doors.into_iter().map(door)).collect()
        })
        .await
        .map_err(|error| StartError::Other(error.to_string()))?;
        let (shards, replicas) = (settings.shards, settings.replicas);
        let doors = settings.doors;
        let client = kv.clone();
        let service = KvService { tree, client, cluster, node, home, doors, network, peers, gone };
        service.begin(&member, description, shards, replicas).await?;
        Ok(service)
    }
}

/// Refuses a directory whose node is not the one that was asked for.
async fn check_identity(settings: &KvServiceBuilder, home: &Home) -> Result<(), StartError> {
    let identity = home.identity().await;
    let (version, level) = split(seams::version());
    if level < identity.level {
        let (version, level) = (version.to_owned(), identity.level);
        return Err(StartError::TooOld(Refused::BuildTooOld { version, level }));
    }
    let Some(member) = identity.member else { return Ok(()) };
    let dir = || home.dir.clone();
    if member.is_removed {
        return Err(StartError::Removed { node: member.node_id, cluster: member.cluster_name });
    }
    if let Some(asked) = settings.node_id.map(NodeId)
        && asked != member.node_id
    {
        return Err(StartError::OtherNode { dir: dir(), has: member.node_id, asked });
    }
    if let Some(ticket) = &settings.ticket {
        let asked = ClusterId(ticket.cluster().id);
        if asked != member.cluster_id {
            return Err(StartError::OtherCluster { dir: dir(), has: member.cluster_id, asked });
        }
    }
    Ok(())
}

/// What a node has of the network.
struct Footing {
    network: Arc<dyn Network>,
    gossip: Option<Arc<dyn Gossip>>,
    /// The sockets it is bound to.
    listen: Vec<SocketAddr>,
    /// Where it can be dialled.
    places: watch::Receiver<Vec<Address>>,
    /// The machine's own network, which has more to offer.
    endpoint: Option<Arc<Endpoint>>,
}

/// Gets the node its place: on the machine's network, or on one that is simulated.
async fn footing(
    settings: &KvServiceBuilder,
    seams: &Seams,
    key: &NodeKey,
    home: &Home,
    members: &Members,
) -> Result<Footing, StartError> {
    let gate = Arc::new(members.clone());
    let footing = match &seams.fabric {
        Some(fabric) => {
            let Plugged { network, gossip } = fabric.plug(key.endpoint_id(), gate);
            let places = watch::channel(network.addresses()).1;
            let listen = network.addresses().iter().filter_map(Address::ip).collect();
            Footing { network, gossip: Some(gossip), listen, places, endpoint: None }
        }
        None => {
            let endpoint = Arc::new(bind(settings, key, home, gate).await?);
            let gossip = endpoint.gossip().map(|gossip| Arc::new(gossip) as _);
            let (listen, places) = (endpoint.listen(), endpoint.places());
            let network = endpoint.clone();
            Footing { network, gossip, listen, places, endpoint: Some(endpoint) }
        }
    };
    let port = footing.listen.first().map(SocketAddr::port);
    let kept = home.change(|identity| {
        identity.port = port;
        identity.starts += 1;
    });
    let kept = kept.await;
    kept.map_err(|error| StartError::Directory { dir: home.dir.clone(), error })?;
    Ok(footing)
}

/// Binds the endpoint: where it is told to, or where it was, or anywhere.
async fn bind(
    settings: &KvServiceBuilder,
    key: &NodeKey,
    home: &Home,
    gate: Arc<dyn Gate>,
) -> Result<Endpoint, StartError> {
    let (reach, internet) = (settings.reach, &settings.internet);
    let bind = |listen| Endpoint::bind_with(key, reach, listen, internet, gate.clone());
    let last = home.identity().await.port.map(Listen::Port);
    let listen = settings.listen.map(Listen::At).or(last).unwrap_or_default();
    let endpoint = match bind(listen).await {
        Err(error) if matches!(listen, Listen::Port(_)) => {
            tracing::info!(%error, "the port of the last start can't be used; this node takes another, and the others are told");
            bind(Listen::Anywhere).await
        }
        bound => bound,
    };
    endpoint.map_err(StartError::Listen)
}

/// Of a node's addresses those that others are told, the likeliest first.
pub(super) fn told_of(mut addresses: Vec<Address>) -> Vec<Address> {
    Address::keep_few(&mut addresses, MEMBER_ADDRESSES_MAX);
    addresses
}

/// What the node says of itself to the others.
fn describe(settings: &KvServiceBuilder, incarnation: u128, network: &dyn Network) -> Description {
    let addresses = told_of(network.addresses());
    Description {
        incarnation,
        name: settings.node_name.clone().unwrap_or_default(),
        addresses,
        version: seams::version().into(),
    }
}

/// Makes sure that the directory's node is a member of a cluster: it is already, or joins with
/// the ticket given now or earlier or that its mesh has for it, or founds one.
async fn settle(
    settings: &KvServiceBuilder,
    seams: &Seams,
    home: &Home,
    network: &Arc<dyn Network>,
    neighbours: Option<&Neighbours>,
) -> Result<Membership, StartError> {
    let unusable = |error| StartError::Directory { dir: home.dir.clone(), error };
    let identity = home.identity().await;
    if let Some(member) = identity.member {
        return Ok(member);
    }
    let mesh = settings.mesh.as_ref().zip(neighbours).filter(|_| settings.ticket.is_none());
    let mut ticket = settings.ticket.as_ref().map(JoinTicket::to_string).or(identity.joining);
    let mut is_kept = ticket.is_some();
    let member = loop {
        if let (None, Some((mesh, neighbours))) = (&ticket, mesh) {
            let random = &seams.random;
            let found = search(Searching { mesh, network, neighbours, random }).await;
            ticket = found.map(|ticket| ticket.to_string());
        }
        let Some(given) = ticket.take() else { break founded(settings, seams) };
        match join_by(settings, home, network.as_ref(), given).await {
            // Who gave the ticket may be gone since, or have moved: the mesh knows the way anew.
            Err(error @ StartError::NotJoined(_)) if mesh.is_some() => {
                tracing::warn!(%error, "not in the mesh's cluster yet; looking again");
            }
            Err(error @ StartError::NotAdmitted(_)) if mesh.is_some() && is_kept => {
                tracing::warn!(%error, "the ticket of an earlier start is no good any more");
            }
            joined => break joined?,
        }
        is_kept = false;
    };
    Failpoint::BeforeMember.pass();
    let kept = home.change(|identity| {
        identity.joining = None;
        identity.member = Some(member.clone());
    });
    kept.await.map_err(unusable)?;
    Failpoint::AfterMember.pass();
    Ok(member)
}

/// The membership of the first node of a new cluster.
fn founded(settings: &KvServiceBuilder, seams: &Seams) -> Membership {
    Membership {
        node_id: settings.node_id.map_or(FIRST_NODE, NodeId),
        cluster_id: ClusterId(seams.random.next_u128()),
        cluster_name: settings.name.clone().unwrap_or_else(|| match &settings.mesh {
            Some(mesh) => mesh.name().to_owned(),
            None => CLUSTER_NAME.to_owned(),
        }),
        is_founder: true,
        is_removed: false,
        held: Vec::new(),
        told_of: Vec::new(),
    }
}

/// Joins by a ticket, which is kept as long as it may be good.
async fn join_by(
    settings: &KvServiceBuilder,
    home: &Home,
    network: &dyn Network,
    ticket: String,
) -> Result<Membership, StartError> {
    let unusable = |error| StartError::Directory { dir: home.dir.clone(), error };
    // Kept first: from here on a start without the ticket goes on joining.
    let kept = home.change(|identity| identity.joining = Some(ticket.clone())).await;
    kept.map_err(unusable)?;
    let description = describe(settings, home.identity().await.incarnation, network);
    let joined = join_with(settings, ticket, description, network).await;
    if let Err(StartError::NotAdmitted(_)) = &joined {
        // A ticket that is no good is not asked with again.
        home.change(|identity| identity.joining = None).await.map_err(unusable)?;
    }
    joined
}

async fn join_with(
    settings: &KvServiceBuilder,
    ticket: String,
    description: Description,
    network: &dyn Network,
) -> Result<Membership, StartError> {
    let parsed: JoinTicket =
        ticket.parse().map_err(|error| StartError::Setting(format!("the ticket: {error}")))?;
    let wanted = settings.node_id.map(NodeId);
    let question = Question { ticket, wanted, description };
    let admitted = join::ask(network, &parsed, &question).await.map_err(|error| match error {
        JoinError::Refused(refused) => StartError::NotAdmitted(refused),
        other => StartError::NotJoined(other.to_string()),
    })?;
    let told_of = |known: &join::Acquaintance| KnownMember {
        node: known.node,
        endpoint: known.endpoint,
        addresses: known.addresses.clone(),
    };
    Ok(Membership {
        node_id: admitted.node,
        cluster_id: admitted.cluster_id,
        cluster_name: admitted.cluster_name,
        is_founder: false,
        is_removed: false,
        held: Vec::new(),
        told_of: admitted.members.iter().map(told_of).collect(),
    })
}

fn run_door(door: Arc<dyn Door>, context: &DoorContext) -> RunService {
    let context = context.clone();
    Arc::new(move |stop| door.serve(context.clone(), stop))
}
