//! A snapshot on its way to a replica that lags behind the log.
//!
//! Chunks are read from the state's view while it changes, sent as the stream takes them, and kept
//! until the receiver has acknowledged them. A link that breaks costs only what was under way: on
//! the next one the receiver says how much it has, and the sending goes on there, if that is still
//! within what is kept. Otherwise, or if the receiver refuses what arrived, the sending ends and
//! openraft takes a new snapshot. All that a node sends take turns, so that together they are no faster
//! than the cluster's settings allow. No more than [`SNAPSHOT_WINDOW_BYTES`] and a chunk are held.
//!
//! ```text
//! sender    offer · chunk* · empty message
//! receiver  Has(at) · Has(at)* · Installing* · Installed | HigherVote | Refused
//! ```

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, stream};
use thiserror::Error;
use tokio::time::{Instant, sleep, sleep_until};

use super::contacts::{Contacts, Transport};
use super::messages::{Offer, Receipt, decode, encode};
use crate::limits::{
    CONTROL_BYTES_MAX, SNAPSHOT_RESUME_MAX, SNAPSHOT_RESUME_PAUSE, SNAPSHOT_SILENCE_MAX,
    SNAPSHOT_WINDOW_BYTES,
};
use crate::machine::tables::TableError;
use crate::net::{read_message, write_message};
use crate::seams;
use crate::seams::network::{StreamIn, StreamOut};
use crate::store::log::Vote;
use crate::store::snapshot::SnapshotSource;
use crate::types::NodeId;
use crate::wire::StreamKind;

/// A snapshot was not taken over, and the receiver has discarded what it had: take a new one.
#[derive(Clone, Debug, Error)]
#[error("{0}")]
pub(super) struct SendFailed(String);

/// Why one link's part of a sending ended.
enum Broken {
    /// Another link may go on.
    Link(String),
    /// None can.
    ForGood(SendFailed),
}

/// The outcome of reading a chunk, with the source for the next.
type Read = (Box<SnapshotSource>, Result<Option<Bytes>, TableError>);

/// A snapshot being sent.
pub(super) struct Sending {
    contacts: Contacts,
    to: NodeId,
    offer: Offer,
    chunks: Chunks,
}

impl Sending {
    pub(super) fn new(
        contacts: Contacts,
        to: NodeId,
        vote: Vote,
        sending: u128,
        source: Box<SnapshotSource>,
    ) -> Self {
        let (mark, about_bytes) = (source.mark().clone(), source.about_bytes());
        let offer = Offer { route: contacts.route(to), vote, sending, mark, about_bytes };
        let chunks = Chunks::new(source, contacts.transport.clone());
        Sending { contacts, to, offer, chunks }
    }

    /// Sends it, over as many links as it takes. Answers the receiver's vote.
    pub(super) async fn run(mut self) -> Result<Vote, SendFailed> {
        let mut progress = (self.chunks.acknowledged, Instant::now());
        loop {
            let reason = match self.over_one_link().await {
                Ok(vote) => {
                    self.contacts.counts.snapshots_sent.one();
                    return Ok(vote);
                }
                Err(Broken::ForGood(failed)) => return Err(failed),
                Err(Broken::Link(reason)) => reason,
            };
            if self.chunks.acknowledged > progress.0 {
                progress = (self.chunks.acknowledged, Instant::now());
            } else if self.chunks.acknowledged == 0 {
                // Nothing would be saved, and meanwhile the state's old pages can't be used again.
                return Err(SendFailed(reason));
            }
            tracing::info!(
                group = self.contacts.group.0, to = %self.to, at = self.chunks.acknowledged, reason,
                "the sending of a snapshot was interrupted"
            );
            if progress.1.elapsed() >= SNAPSHOT_RESUME_MAX {
                return Err(SendFailed(reason));
            }
            sleep(SNAPSHOT_RESUME_PAUSE).await;
        }
    }

    async fn over_one_link(&mut self) -> Result<Vote, Broken> {
        let link = |error: &dyn std::fmt::Display| Broken::Link(error.to_string());
        let peer = self.contacts.endpoint(self.to).map_err(|error| link(&error))?;
        let deadline = Instant::now() + SNAPSHOT_SILENCE_MAX;
        let peers = &self.contacts.transport.peers;
        let opened = peers.stream(peer, StreamKind::Snapshot, deadline).await;
        let (mut out, input) = opened.map_err(|error| link(&error))?;
        let offer = encode(&self.offer);
        write_message(&mut out, &offer).await.map_err(|error| link(&error))?;
        Transfer { chunks: &mut self.chunks, writing: Writing::Idle(out), is_welcome: false }
            .run(input)
            .await
    }
}

/// What was read of a snapshot and is not acknowledged.
struct Chunks {
    transport: Transport,
    /// `None` after the last chunk.
    reading: Option<BoxFuture<'static, Read>>,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// How much of the snapshot lies before what is kept.
    acknowledged: u64,
    /// How many of the kept chunks were handed to the present link.
    sent: usize,
}

/// Reads the next chunk and waits for its turn.
fn read(mut source: Box<SnapshotSource>, transport: Transport) -> BoxFuture<'static, Read> {
    let reading = async move {
        let read = seams::blocking(move || {
            let chunk = source.next_chunk();
            (source, chunk)
        });
        let (source, chunk) = read.await;
        if let Ok(Some(chunk)) = &chunk {
            let rate = transport.directory.snapshot_bytes_per_second();
            transport.turns.wait(chunk.len(), rate).await;
        }
        (source, chunk)
    };
    reading.boxed()
}

impl Chunks {
    fn new(source: Box<SnapshotSource>, transport: Transport) -> Self {
        let (kept, kept_bytes) = (VecDeque::new(), 0);
        let reading = Some(read(source, transport.clone()));
        Chunks { transport, reading, kept, kept_bytes, acknowledged: 0, sent: 0 }
    }

    fn has_room(&self) -> bool {
        self.kept_bytes < SNAPSHOT_WINDOW_BYTES
    }

    /// The next chunk joins what is kept. To be cancelled at will.
    async fn read_next(&mut self) -> Result<(), SendFailed> {
        let Some(reading) = &mut self.reading else { return std::future::pending().await };
        let (source, chunk) = reading.await;
        self.reading = None;
        if let Some(chunk) = chunk.map_err(|error| SendFailed(format!("reading it: {error}")))? {
            self.reading = Some(read(source, self.transport.clone()));
            self.kept_bytes += chunk.len();
            self.kept.push_back(chunk);
        }
        Ok(())
    }

    /// The next chunk for the present link.
    fn next_to_send(&mut self) -> Option<Bytes> {
        let chunk = self.kept.get(self.sent).cloned()?;
        self.sent += 1;
        Some(chunk)
    }

    fn is_sent(&self) -> bool {
        self.reading.is_none() && self.sent == self.kept.len()
    }

    /// Lets go of what the receiver has; an error if it has what was never sent, or too little.
    fn acknowledge(&mut self, upto: u64) -> Result<(), SendFailed> {
        while self.acknowledged < upto && self.sent > 0 {
            let Some(chunk) = self.kept.pop_front() else { break };
            self.acknowledged += chunk.len() as u64;
            self.kept_bytes -= chunk.len();
            self.sent -= 1;
        }
        if self.acknowledged == upto {
            return Ok(());
        }
        let what = format!("the receiver has {upto} bytes, where {} were to be", self.acknowledged);
        Err(SendFailed(what))
    }
}

/// A sending on one link.
struct Transfer<'a> {
    chunks: &'a mut Chunks,
    writing: Writing,
    /// The receiver has said how much it has.
    is_welcome: bool,
}

/// The stream that is written to, or the writing of a message to it.
enum Writing {
    Idle(StreamOut),
    Busy(BoxFuture<'static, std::io::Result<StreamOut>>),
    /// It is on its way from one to the other.
    Between,
}

impl Writing {
    fn message(mut out: StreamOut, message: Bytes) -> Self {
        let writing = async move { write_message(&mut out, &message).await.map(|()| out) };
        Writing::Busy(writing.boxed())
    }

    /// Resolves when a message is written.
    async fn written(&mut self) -> std::io::Result<StreamOut> {
        match self {
            Writing::Busy(writing) => writing.await,
            Writing::Idle(_) | Writing::Between => std::future::pending().await,
        }
    }
}

impl Transfer<'_> {
    async fn run(mut self, input: StreamIn) -> Result<Vote, Broken> {
        // A stream of its own, so that a receipt that is half read is not lost between two looks.
        let receipts = stream::unfold(input, |mut input| async move {
            let receipt = read_message(&mut input, CONTROL_BYTES_MAX).await;
            Some((receipt, input))
        });
        tokio::pin!(receipts);
        let mut is_ended = false;
        let mut silence = Instant::now() + SNAPSHOT_SILENCE_MAX;
        loop {
            if self.is_welcome && !is_ended {
                is_ended = self.write_next();
            }
            let reads = self.is_welcome && self.chunks.reading.is_some() && self.chunks.has_room();
            let waits = !self.is_welcome || is_ended || self.chunks.sent > 0;
            tokio::select! {
                biased;
                receipt = receipts.next() => {
                    silence = Instant::now() + SNAPSHOT_SILENCE_MAX;
                    let receipt = match receipt {
                        Some(Ok(receipt)) => receipt,
                        Some(Err(error)) => return Err(Broken::Link(error.to_string())),
                        None => return Err(Broken::Link("the stream ended".into())),
                    };
                    if let Some(vote) = self.take(&receipt)? {
                        return Ok(vote);
                    }
                }
                written = self.writing.written() => match written {
                    Ok(out) => self.writing = Writing::Idle(out),
                    Err(error) => return Err(Broken::Link(error.to_string())),
                },
                read = self.chunks.read_next(), if reads => {
                    read.map_err(Broken::ForGood)?;
                    // The receiver was not owed anything while there was nothing to send.
                    silence = silence.max(Instant::now() + SNAPSHOT_SILENCE_MAX / 2);
                }
                () = sleep_until(silence), if waits => {
                    return Err(Broken::Link(format!("no word for {SNAPSHOT_SILENCE_MAX:?}")));
                }
            }
        }
    }

    /// Begins to write the next chunk, or the end, if nothing is being written. True at the end.
    fn write_next(&mut self) -> bool {
        let Writing::Idle(_) = self.writing else { return false };
        let (message, is_end) = match self.chunks.next_to_send() {
            Some(chunk) => (chunk, false),
            None if self.chunks.is_sent() => (Bytes::new(), true),
            None => return false,
        };
        if let Writing::Idle(out) = std::mem::replace(&mut self.writing, Writing::Between) {
            self.writing = Writing::message(out, message);
        }
        is_end
    }

    /// Takes what the receiver says; the vote it has in the end.
    fn take(&mut self, receipt: &[u8]) -> Result<Option<Vote>, Broken> {
        match decode(receipt).map_err(Broken::Link)? {
            Receipt::Has(at) if !self.is_welcome => {
                // What was handed to an earlier link may have arrived or not.
                self.chunks.sent = self.chunks.kept.len();
                self.chunks.acknowledge(at).map_err(Broken::ForGood)?;
                self.chunks.sent = 0;
                self.is_welcome = true;
                Ok(None)
            }
            Receipt::Has(at) => {
                self.chunks.acknowledge(at).map_err(Broken::ForGood)?;
                Ok(None)
            }
            Receipt::Installing => Ok(None),
            Receipt::Installed(vote) | Receipt::HigherVote(vote) => Ok(Some(vote)),
            Receipt::Refused(reason) => {
                let reason = format!("the receiver refuses it: {reason}");
                Err(Broken::ForGood(SendFailed(reason)))
            }
        }
    }
}
