//! A watch over the network: the node's side, which shows changes as they come, and the client's.
//!
//! The node first says from where it shows, then sends changes in messages of bounded size and,
//! after each batch of whole revisions, how far it is; also now and then without changes, so that
//! either side notices when the other is gone. The client gives a batch out only when it is whole,
//! so a stream that breaks in the middle of one loses nothing and shows nothing twice: the watch
//! is begun anew, here or elsewhere, after the last whole batch.

use std::fmt;
use std::io;

use futures_util::future::BoxFuture;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::desk::Desk;
use super::nodes::{Changes, NotAnswered};
use super::request::{Change, Failure, Shown, WatchAsked};
use crate::error::{Denied, Error, Result};
use crate::limits::{
    CALL_BYTES_MAX, CALL_TRANSFER_MAX, CLIENT_DEADLINE, WATCH_MESSAGE_BYTES, WATCH_PROGRESS,
    WATCH_SILENCE_MAX,
};
use crate::net::{read_message, write_message};
use crate::raft::{WatchBatch, WatchEvent};
use crate::seams::network::{StreamIn, StreamOut};
use crate::types::Revision;

/// Shows a watch until it ends, the client is gone, or it may not see more.
pub(super) async fn serve(
    desk: &Desk,
    asked: WatchAsked,
    may_go_on: &(dyn Fn() -> Result<(), Denied> + Send + Sync),
    out: &mut StreamOut,
    input: &mut StreamIn,
) {
    let ended = match show(desk, asked, may_go_on, out, input).await {
        Ok(failure) => failure,
        // Nobody reads any more.
        Err(_gone) => return,
    };
    let _ = send(out, Shown::Ended(ended)).await;
}

/// As above; answers why it ended, or an error if the client is gone.
async fn show(
    desk: &Desk,
    asked: WatchAsked,
    may_go_on: &(dyn Fn() -> Result<(), Denied> + Send + Sync),
    out: &mut StreamOut,
    input: &mut StreamIn,
) -> io::Result<Failure> {
    let group = asked.group;
    let now = Instant::now();
    let begun = desk.watch(group, asked.request(), now, now + CLIENT_DEADLINE).await;
    let mut watch = match begun {
        Ok(watch) => watch,
        Err(failure) => return Ok(failure),
    };
    loop {
        if let Err(denied) = may_go_on() {
            return Ok(Failure::Final(denied.into()));
        }
        send(out, Shown::Upto(watch.next_revision() - 1)).await?;
        let next = tokio::select! {
            biased;
            // The client says nothing more but that it is gone.
            _ = input.read_u8() => return Err(io::ErrorKind::ConnectionAborted.into()),
            next = watch.next() => next,
            () = sleep(WATCH_PROGRESS) => continue,
        };
        match next {
            Ok(Some(batch)) => send_changes(out, batch.events).await?,
            Ok(None) => {
                let reason = "its replica on this node stopped".into();
                return Ok(Failure::Final(Error::Unavailable { group, reason }));
            }
            Err(error) => return Ok(Failure::Final(error)),
        }
    }
}

async fn send_changes(out: &mut StreamOut, events: Vec<WatchEvent>) -> io::Result<()> {
    let (mut message, mut bytes) = (Vec::new(), 0);
    for change in events.into_iter().map(Change::from) {
        bytes += change.weight();
        message.push(change);
        if bytes >= WATCH_MESSAGE_BYTES {
            send(out, Shown::Changes(std::mem::take(&mut message))).await?;
            bytes = 0;
        }
    }
    if message.is_empty() { Ok(()) } else { send(out, Shown::Changes(message)).await }
}

/// A client that does not read is given up.
async fn send(out: &mut StreamOut, shown: Shown) -> io::Result<()> {
    let message = shown.encode();
    match timeout(CALL_TRANSFER_MAX, write_message(out, &message)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A watch that another node shows.
pub(super) struct RemoteWatch {
    input: StreamIn,
    /// Open for as long as the watch is wanted.
    _out: StreamOut,
    next: Revision,
    /// Of a batch that is not whole yet: at most one, which the node holds as a whole too.
    events: Vec<WatchEvent>,
}

impl fmt::Debug for RemoteWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteWatch(from {})", self.next)
    }
}

impl RemoteWatch {
    /// Begins a watch on a stream whose head was sent.
    pub(super) async fn begin(
        (mut out, mut input): (StreamOut, StreamIn),
        asked: &WatchAsked,
        deadline: Instant,
    ) -> Result<Self, NotAnswered> {
        let begin = async {
            write_message(&mut out, &asked.encode()).await.map_err(NotAnswered::malformed)?;
            let message = read_message(&mut input, CALL_BYTES_MAX);
            let message = message.await.map_err(NotAnswered::malformed)?;
            Shown::decode(&message).map_err(NotAnswered::malformed)
        };
        let first = match timeout_at(deadline, begin).await {
            Ok(first) => first?,
            Err(_) => return Err(NotAnswered::Lost { reason: "no answer came in time".into() }),
        };
        match first {
            Shown::Upto(revision) => {
                let next = revision.saturating_add(1);
                Ok(RemoteWatch { input, _out: out, next, events: Vec::new() })
            }
            Shown::Ended(failure) => Err(NotAnswered::Failed(failure)),
            Shown::Changes(_) => Err(NotAnswered::malformed("a watch did not begin as one does")),
        }
    }

    async fn read(&mut self) -> Option<Shown> {
        let read = read_message(&mut self.input, CALL_BYTES_MAX);
        let message = timeout(WATCH_SILENCE_MAX, read).await.ok()?.ok()?;
        Shown::decode(&message).ok()
    }
}

impl Changes for RemoteWatch {
    fn next_revision(&self) -> Revision {
        self.next
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<WatchBatch>>> {
        Box::pin(async move {
            while let Some(shown) = self.read().await {
                match shown {
                    Shown::Changes(changes) => {
                        self.events.extend(changes.into_iter().map(WatchEvent::from));
                    }
                    Shown::Upto(revision) => {
                        self.next = revision.saturating_add(1);
                        if !self.events.is_empty() {
                            let events = std::mem::take(&mut self.events);
                            return Ok(Some(WatchBatch { revision, events }));
                        }
                    }
                    // Another node may go on.
                    Shown::Ended(Failure::Final(Error::Unavailable { .. } | Error::Corrupt(_)))
                    | Shown::Ended(
                        Failure::NotLeader { .. }
                        | Failure::NotHere { .. }
                        | Failure::Unknown { .. },
                    ) => break,
                    Shown::Ended(Failure::Final(error)) => return Err(error),
                }
            }
            Ok(None)
        })
    }
}
