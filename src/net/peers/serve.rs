//! Serving peers: each stream that one opens is read by a task of its own, within bounds of time,
//! number and bytes, and handed to [`Serve`].
//!
//! A stream that can't be understood closes its link, `Malformed`: the peer speaks something else,
//! and the rest of what it says is no better. One that stands still is dropped by itself.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::io::AsyncWriteExt;

use super::peer::{Connected, Peer};
use super::{Inner, Lane, lanes, within};
use crate::limits::{CALL_TRANSFER_MAX, CONTROL_BYTES_MAX};
use crate::net::message::{
    MessageError, length, read_body, read_length, read_preface, write_message,
};
use crate::seams::network::{CloseCode, Link, LinkLost, StreamIn, StreamOut};
use crate::types::{EndpointId, Form, GroupId, Spelt};
use crate::wire::{Malformed, StreamKind};

/// What a node does for its peers. Every peer has passed the gate; what one may do beyond that is
/// decided here, by its key.
pub trait Serve: Debug + Send + Sync + 'static {
    /// Answers a call.
    fn call(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refused>>;

    /// Serves a stream of its own, to its end.
    fn stream(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        out: StreamOut,
        input: StreamIn,
    ) -> BoxFuture<'static, ()>;

    /// Serves a lane to one group, to its end.
    fn lane(&self, peer: EndpointId, group: GroupId, lane: Lane) -> BoxFuture<'static, ()>;

    /// Serves a link of a node that joins or of a client, to its end: the link is dropped, and so
    /// closed, when this returns.
    fn link(&self, link: Arc<dyn Link>) -> BoxFuture<'static, ()>;
}

/// A call that was not carried out; it had no effect.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct Refused {
    /// What kind of refusal.
    pub code: RefusedCode,
    /// Why, for people.
    pub reason: String,
}

/// The kinds of refusal, as numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedCode {
    /// A limit was reached; try again later.
    Busy = 1,
    /// What the call is about is not on this node.
    NotHere = 2,
    /// The caller may not do this.
    Denied = 3,
    /// The request can't be understood.
    Malformed = 4,
}

/// The first byte of an answer; a refusal has its code there.
pub(super) const ANSWERED: u8 = 0;

impl Refused {
    /// A refusal.
    pub fn new(code: RefusedCode, reason: impl Into<String>) -> Self {
        Refused { code, reason: reason.into() }
    }

    pub(super) fn decode(code: u8, reason: &[u8]) -> Option<Self> {
        use RefusedCode::*;
        let code = [Busy, NotHere, Denied, Malformed].into_iter().find(|it| *it as u8 == code)?;
        Some(Refused::new(code, String::from_utf8_lossy(reason)))
    }
}

/// The form of a refusal: its code and reason.
pub(in crate::net) const REFUSED: Form = Form {
    name: "refusal",
    again: |bytes| {
        let (code, reason) = bytes.split_first()?;
        let refused = Refused::decode(*code, reason)?;
        Some([&[refused.code as u8], refused.reason.as_bytes()].concat())
    },
    spelt: Spelt::Freely,
};

/// Serves a link until it ends.
pub(super) async fn link(inner: Arc<Inner>, peer: Arc<Peer>, connected: Arc<Connected>) {
    let lost = loop {
        match next_stream(&peer, &connected).await {
            Ok((permit, out, input)) => {
                let (serving, peer, connected) = (inner.clone(), peer.clone(), connected.clone());
                inner.tasks.spawn(async move {
                    let _permit = permit;
                    let _under_way = connected.under_way.token();
                    if let Err(error) = stream(&serving, &peer, &connected, out, input).await {
                        drop_stream(&peer, &connected, &error);
                    }
                });
            }
            Err(lost) => break lost,
        }
    };
    tracing::debug!(peer = %peer.id, %lost, code = ?lost.code, "a link has ended");
    inner.link_lost(peer.id, &connected, lost);
}

/// The next stream of the peer, once one more may be served.
async fn next_stream(
    peer: &Peer,
    connected: &Connected,
) -> Result<(tokio::sync::OwnedSemaphorePermit, StreamOut, StreamIn), LinkLost> {
    let permit = tokio::select! {
        biased;
        lost = connected.link.closed() => return Err(lost),
        permit = peer.streams.clone().acquire_owned() => permit,
    };
    let permit = permit.expect("the semaphore is never closed");
    let (out, input) = connected.link.accept().await?;
    Ok((permit, out, input))
}

fn drop_stream(peer: &Peer, connected: &Connected, error: &MessageError) {
    tracing::debug!(peer = %peer.id, %error, "dropped a stream of a peer");
    if let MessageError::Malformed(error) = error {
        connected.link.close(CloseCode::Malformed, &error.to_string());
    }
}

async fn stream(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connected: &Arc<Connected>,
    out: StreamOut,
    mut input: StreamIn,
) -> Result<(), MessageError> {
    let kind = read_preface(&mut input).await?;
    connected.hear();
    match kind {
        StreamKind::Hello | StreamKind::Ticket => {
            Err(Malformed::Other("a stream of a kind that has no place here").into())
        }
        StreamKind::Lanes => Ok(lanes::accepted(inner, peer.id, connected, out, input).await?),
        StreamKind::Snapshot | StreamKind::Watch => {
            inner.serve.stream(peer.id, kind, out, input).await;
            Ok(())
        }
        _ => call(inner, peer, kind, out, input).await,
    }
}

/// Answers a call: its bytes are counted among the peer's until it is answered.
async fn call(
    inner: &Inner,
    peer: &Peer,
    kind: StreamKind,
    mut out: StreamOut,
    mut input: StreamIn,
) -> Result<(), MessageError> {
    let read = async {
        let bytes = read_length(&mut input, kind.message_bytes_max()).await?;
        let held = peer.hold(kind, bytes).await;
        Ok((held, read_body(&mut input, bytes).await?))
    };
    let (_held, request) =
        within(CALL_TRANSFER_MAX, read).await.unwrap_or(Err(MessageError::Slow))?;
    let answer = inner.serve.call(peer.id, kind, request).await;
    let write = async {
        match answer {
            Ok(answer) => {
                assert!(answer.len() <= kind.message_bytes_max(), "an answer keeps to its bound");
                let mut head = [ANSWERED; 5];
                head[1..].copy_from_slice(&length(&answer));
                out.write_all(&head).await?;
                out.write_all(&answer).await?;
            }
            Err(refused) => {
                let reason = &refused.reason.as_bytes();
                out.write_all(&[refused.code as u8]).await?;
                write_message(&mut out, &reason[..reason.len().min(CONTROL_BYTES_MAX)]).await?;
            }
        }
        out.shutdown().await
    };
    within(CALL_TRANSFER_MAX, write).await.unwrap_or(Ok(()))?;
    Ok(())
}
