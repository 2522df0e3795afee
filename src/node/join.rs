//! Joining, both sides: a ticket holder asks, a member admits.
//!
//! The messages are one question and one answer on one stream of a `join` link. A node asks with
//! the same incarnation until it has kept the answer, and the cluster gives the same answer to the
//! same incarnation: a join that was cut off anywhere is finished by asking again.

use std::sync::Arc;
use std::time::Duration;

use aspen_tickets::JoinTicket;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::cluster::{Cluster, ClusterError};
use crate::limits::{JOIN_ANSWER_MAX, JOIN_ASK_MAX, JOIN_BYTES_MAX, JOIN_RETRY, LOOKUP_MAX};
use crate::net::{read_message, write_message};
use crate::roster::admit::Description;
use crate::roster::refused::Refused;
use crate::seams::failpoint::Failpoint;
use crate::seams::network::{CloseCode, Link, LinkLost, Network, Priority, Protocol};
use crate::types::{Address, ClusterId, EndpointId, Form, NodeId};
use crate::wire::envelope::{form, open, seal};

/// The version of the messages; the first byte of each.
const VERSION: u8 = 1;

/// What a node says that wants to become a member. Its key is that of the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) ticket: String,
    /// The number it would like to have.
    pub(super) wanted: Option<NodeId>,
    /// What it says of itself.
    pub(super) description: Description,
}

/// What it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JoinAnswer {
    Admitted(Admitted),
    Refused(Refused),
    /// Not decided; ask again.
    NotNow(String),
}

/// Who the new member is, and whom it needs to know to be one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Admitted {
    pub(super) node: NodeId,
    pub(super) cluster_id: ClusterId,
    pub(super) cluster_name: String,
    pub(super) members: Vec<Acquaintance>,
}

/// A member and where it was last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Acquaintance {
    pub(super) node: NodeId,
    pub(super) endpoint: EndpointId,
    pub(super) addresses: Vec<Address>,
}

pub(super) const QUESTION: Form = form::<Question, VERSION>("question of who joins");
pub(super) const ANSWER: Form = form::<JoinAnswer, VERSION>("answer to who joins");

/// Why a node did not become a member.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum JoinError {
    #[error("{0}")]
    Refused(Refused),
    #[error(
        "no node of the ticket can be reached ({last}); check that one runs and can be reached from \
         here, or ask for a new ticket"
    )]
    Unreachable { last: String },
    #[error(
        "the cluster can't decide at the moment ({0}); run the command again later, it goes on from here"
    )]
    NotNow(String),
}

/// Asks the ticket's nodes in turn until one has an answer or the time is up.
pub(super) async fn ask(
    network: &dyn Network,
    ticket: &JoinTicket,
    question: &Question,
) -> Result<Admitted, JoinError> {
    let deadline = Instant::now() + JOIN_ASK_MAX;
    let mut undecided = None;
    loop {
        let mut last = String::new();
        for peer in ticket.peers() {
            let id = EndpointId(peer.endpoint);
            let asked = ask_or_find(network, id, &peer.addresses, question);
            match timeout(JOIN_ANSWER_MAX + LOOKUP_MAX, asked).await {
                Ok(Ok(JoinAnswer::Admitted(admitted))) => return Ok(admitted),
                Ok(Ok(JoinAnswer::Refused(refused))) => return Err(JoinError::Refused(refused)),
                Ok(Ok(JoinAnswer::NotNow(why))) => undecided = Some(why),
                Ok(Err(lost)) => last = lost.reason,
                Err(_) => last = "no answer in time".into(),
            }
        }
        // Nobody there is told at once; who is there and can't decide is worth waiting for.
        match &undecided {
            None => return Err(JoinError::Unreachable { last }),
            Some(why) if Instant::now() + JOIN_RETRY > deadline => {
                return Err(JoinError::NotNow(why.clone()));
            }
            Some(_) => sleep(JOIN_RETRY).await,
        }
    }
}

/// Asks a node where the ticket says that it is, and where it is found by its key.
async fn ask_or_find(
    network: &dyn Network,
    peer: EndpointId,
    addresses: &[Address],
    question: &Question,
) -> Result<JoinAnswer, LinkLost> {
    let lost = match ask_one(network, peer, addresses, question).await {
        // Whoever says no is there.
        Err(lost) if lost.code.is_none() => lost,
        answered => return answered,
    };
    match network.find(peer).await {
        found if found.is_empty() => Err(lost),
        found => ask_one(network, peer, &found, question).await,
    }
}

async fn ask_one(
    network: &dyn Network,
    peer: EndpointId,
    addresses: &[Address],
    question: &Question,
) -> Result<JoinAnswer, LinkLost> {
    let link = network.connect(peer, addresses, Protocol::Join).await?;
    let exchange = async {
        let (mut out, mut input) = link.open(Priority::Request).await?;
        write_message(&mut out, &seal(VERSION, question)).await.map_err(broken)?;
        out.shutdown().await.map_err(broken)?;
        let answer = read_message(&mut input, JOIN_BYTES_MAX).await.map_err(broken)?;
        open(VERSION, &answer).map_err(broken)
    };
    let answer = match exchange.await {
        Ok(answer) => answer,
        // What the peer said when it closed the link tells more than the stream that broke.
        Err(error) => return Err(link.closed().now_or_never().unwrap_or(error)),
    };
    link.close(CloseCode::Done, "answered");
    Ok(answer)
}

/// Answers the one question of a link.
pub(super) async fn answer(cluster: Cluster, link: Arc<dyn Link>) {
    let answered = timeout(JOIN_ANSWER_MAX, async {
        let (mut out, mut input) = link.accept().await?;
        let bytes = read_message(&mut input, JOIN_BYTES_MAX).await.map_err(broken)?;
        let question: Question = open(VERSION, &bytes).map_err(broken)?;
        let answer = decide(&cluster, link.peer(), question).await;
        write_message(&mut out, &seal(VERSION, &answer)).await.map_err(broken)?;
        out.shutdown().await.map_err(broken)
    });
    match answered.await {
        // The asker closes the link once it has the answer.
        Ok(Ok(())) => drop(timeout(JOIN_LINGER, link.closed()).await),
        Ok(Err(error)) => link.close(CloseCode::Malformed, &error.reason),
        Err(_) => link.close(CloseCode::Malformed, "the question or its answer took too long"),
    }
}

const JOIN_LINGER: Duration = Duration::from_secs(2);

async fn decide(cluster: &Cluster, peer: EndpointId, question: Question) -> JoinAnswer {
    let ticket = match question.ticket.parse::<JoinTicket>() {
        Ok(ticket) => ticket,
        Err(_) => return JoinAnswer::Refused(Refused::Tampered),
    };
    let deadline = Instant::now() + JOIN_ANSWER_MAX;
    Failpoint::BeforeAdmitted.pass();
    let admitted = timeout_at(deadline, cluster.admit(peer, &ticket, &question)).await;
    Failpoint::AfterAdmitted.pass();
    match admitted {
        Ok(Ok(admitted)) => JoinAnswer::Admitted(admitted),
        Ok(Err(ClusterError::Refused(refused))) => {
            tracing::warn!(%peer, %refused, "a node was not admitted");
            JoinAnswer::Refused(refused)
        }
        Ok(Err(error)) => JoinAnswer::NotNow(error.to_string()),
        Err(_) => JoinAnswer::NotNow("no majority answers".into()),
    }
}

fn broken(error: impl std::fmt::Display) -> LinkLost {
    LinkLost::silently(error.to_string())
}
