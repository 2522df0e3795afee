//! Gossip as [`seams::network`](crate::seams::network) has it, by iroh's.
//!
//! The swarm authenticates nothing but its links: that only members make them is the gate's word,
//! and what a message says is checked by whoever reads it. A message may be lost, come twice, and
//! in any order.

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use iroh::PublicKey;
use iroh_gossip::TopicId;
use iroh_gossip::api::{Event, GossipReceiver, GossipSender, JoinOptions};
use tokio::time::timeout;

use crate::limits::{
    ANNOUNCEMENT_BYTES_MAX, GOSSIP_MESSAGE_BYTES_MAX, GOSSIP_STOP_MAX, GOSSIP_WAITING_MAX,
};
use crate::seams::network::{self, Topic, Whisper};
use crate::types::EndpointId;

/// The swarm's end at this node; clones are the same.
#[derive(Clone, Debug)]
pub struct Gossip(iroh_gossip::net::Gossip);

/// The swarm of one topic, which has this node in it until this is dropped.
#[derive(Debug)]
struct Swarm {
    sender: GossipSender,
    receiver: GossipReceiver,
}

impl Gossip {
    pub(super) fn start(endpoint: iroh::Endpoint) -> Self {
        let builder = iroh_gossip::net::Gossip::builder();
        Gossip(builder.max_message_size(GOSSIP_MESSAGE_BYTES_MAX).spawn(endpoint))
    }

    /// Takes the link of a member, until it ends.
    pub(super) async fn take(&self, connection: iroh::endpoint::Connection) {
        if self.0.handle_connection(connection.clone()).await.is_ok() {
            connection.closed().await;
        }
    }

    pub(super) async fn stop(&self) {
        let _ = timeout(GOSSIP_STOP_MAX, self.0.shutdown()).await;
    }

    async fn enter(&self, topic: [u8; 32], by: &[EndpointId]) -> Result<Swarm, String> {
        let options = JoinOptions {
            bootstrap: keys(by).collect(),
            subscription_capacity: GOSSIP_WAITING_MAX,
        };
        let entered = self.0.subscribe_with_opts(TopicId::from_bytes(topic), options).await;
        let (sender, receiver) = entered.map_err(|error| format!("{error:#}"))?.split();
        Ok(Swarm { sender, receiver })
    }
}

impl network::Gossip for Gossip {
    fn enter<'a>(
        &'a self,
        topic: [u8; 32],
        by: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<Box<dyn Topic>, String>> {
        Box::pin(async move {
            let swarm: Box<dyn Topic> = Box::new(self.enter(topic, by).await?);
            Ok(swarm)
        })
    }
}

impl Topic for Swarm {
    fn say(&self, message: Vec<u8>) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.say(message))
    }

    fn meet<'a>(&'a self, members: &'a [EndpointId]) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(self.meet(members))
    }

    fn hear(&mut self) -> BoxFuture<'_, Result<Whisper, String>> {
        Box::pin(self.hear())
    }
}

impl Swarm {
    async fn say(&self, message: Vec<u8>) -> Result<(), String> {
        assert!(message.len() <= ANNOUNCEMENT_BYTES_MAX, "a longer one would be lost in silence");
        self.sender.broadcast(message.into()).await.map_err(|error| format!("{error:#}"))
    }

    async fn meet(&self, members: &[EndpointId]) -> Result<(), String> {
        let peers = keys(members).collect();
        self.sender.join_peers(peers).await.map_err(|error| format!("{error:#}"))
    }

    async fn hear(&mut self) -> Result<Whisper, String> {
        match self.receiver.next().await {
            Some(Ok(Event::Received(message))) => Ok(Whisper::Message {
                delivered_by: EndpointId(*message.delivered_from.as_bytes()),
                bytes: message.content,
            }),
            Some(Ok(Event::NeighborUp(_) | Event::NeighborDown(_))) => {
                Ok(Whisper::Neighbours { count: self.receiver.neighbors().count() })
            }
            Some(Ok(Event::Lagged)) => Err("more came than was taken".to_owned()),
            Some(Err(error)) => Err(format!("{error:#}")),
            None => Err("the topic has ended".to_owned()),
        }
    }
}

fn keys(members: &[EndpointId]) -> impl Iterator<Item = PublicKey> {
    // What is no key was never a member's.
    members.iter().filter_map(|member| PublicKey::from_bytes(&member.0).ok())
}
