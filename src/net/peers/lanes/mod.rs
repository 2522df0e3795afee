//! Lanes: ordered channels to the groups of a peer, all over one stream.
//!
//! Each side of a link opens at most one stream of lanes and opens lanes on it; a lane carries
//! messages both ways. [`state`] holds what waits on each lane and decides what goes next; two
//! tasks carry it: one gathers frames of all lanes that have something to say, in turn, into one
//! write; the other reads frames and hands them to their lanes. Neither ever waits for a lane: what
//! a lane may have sent and not taken is bounded by its credit, so a lane that nobody reads fills
//! up and leaves the others alone.
//!
//! Lanes end with their stream, the stream with its link. Nothing is sent again.

mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::peer::Connected;
use crate::limits::{LANE_FRAGMENT_BYTES_MAX, LANE_MESSAGE_BYTES_MAX, LANES_WRITE_BYTES};
use crate::seams::Tasks;
use crate::seams::network::{CloseCode, LinkLost, StreamIn, StreamOut};
use crate::types::{EndpointId, GroupId};
use crate::wire::frame::{Frame, LaneId};
use crate::wire::{Malformed, StreamKind};
use state::{Offer, State};

/// A lane says nothing more.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LaneEnded {
    /// One side has closed it.
    #[error("the lane was closed")]
    Closed,
    /// Its stream is gone; ask for a new lane.
    #[error("the lane was lost: {0}")]
    Lost(LinkLost),
}

/// An ordered channel of messages to one group of a peer, and back. Dropped, it says what was given
/// to it and then ends for the other side too.
pub struct Lane {
    mux: Arc<Mux>,
    id: LaneId,
    group: GroupId,
    bell: Arc<Bell>,
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({} of group {})", self.id, self.group)
    }
}

/// Wakes those who wait on a lane.
#[derive(Debug, Default)]
struct Bell {
    /// There may be room to send.
    space: Notify,
    /// There may be a message.
    arrived: Notify,
}

impl Bell {
    fn ring(&self) {
        self.space.notify_waiters();
        self.arrived.notify_waiters();
    }
}

impl Lane {
    /// The group that it is for.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Gives a message to the lane; waits while too much waits there already. That it was given
    /// says nothing about its arrival.
    pub async fn send(&self, message: Bytes) -> Result<(), LaneEnded> {
        assert!(message.len() <= LANE_MESSAGE_BYTES_MAX, "the sender keeps to the bound");
        loop {
            if self.offer(&message)? {
                return Ok(());
            }
            let mut space = pin!(self.bell.space.notified());
            space.as_mut().enable();
            if self.offer(&message)? {
                return Ok(());
            }
            space.await;
        }
    }

    /// Puts a message on the lane, if there is room.
    fn offer(&self, message: &Bytes) -> Result<bool, LaneEnded> {
        match self.mux.state().offer(self.id, message)? {
            Offer::Taken { wake } => {
                if wake {
                    self.mux.work.notify_one();
                }
                Ok(true)
            }
            Offer::Full => Ok(false),
        }
    }

    /// The next message; after the last one, why there are no more.
    pub async fn recv(&self) -> Result<Bytes, LaneEnded> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            let mut arrived = pin!(self.bell.arrived.notified());
            arrived.as_mut().enable();
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            arrived.await;
        }
    }

    /// Takes a message off the lane, if there is one.
    fn take(&self) -> Result<Option<Bytes>, LaneEnded> {
        let (message, wake) = self.mux.state().take(self.id)?;
        if wake {
            self.mux.work.notify_one();
        }
        Ok(message)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.mux.state().close(self.id) {
            self.mux.work.notify_one();
        }
    }
}

/// One stream of lanes, on either side.
pub(super) struct Mux {
    state: Mutex<State>,
    /// Tells the writer that a lane has something to say.
    work: Notify,
    ended: CancellationToken,
}

impl fmt::Debug for Mux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mux")
    }
}

impl Mux {
    fn new(opens: bool) -> Arc<Self> {
        Arc::new(Mux {
            state: Mutex::new(State::new(opens)),
            work: Notify::new(),
            ended: CancellationToken::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the stream and every lane on it; the first reason stays.
    pub(super) fn end(&self, lost: LinkLost) {
        let bells = self.state().end(lost);
        bells.iter().for_each(|bell| bell.ring());
        self.ended.cancel();
    }

    /// A lane of a number that was just given out.
    fn lane(self: &Arc<Self>, id: LaneId, group: GroupId, bell: Arc<Bell>) -> Lane {
        Lane { mux: self.clone(), id, group, bell }
    }
}

/// Opens a lane on the stream of a link, which is opened if need be.
pub(super) async fn open(
    tasks: &Tasks,
    connected: &Arc<Connected>,
    group: GroupId,
) -> Result<Lane, LinkLost> {
    let mut slot = connected.lanes.lock().await;
    if let Some(mux) = slot.as_ref()
        && !mux.ended.is_cancelled()
    {
        return opened(mux, group);
    }
    let (out, input) = connected.open(StreamKind::Lanes).await?;
    let mux = Mux::new(true);
    tasks.spawn(write(mux.clone(), connected.clone(), out));
    let (reading, link) = (mux.clone(), connected.clone());
    tasks.spawn(async move {
        // Only the side that opened the stream opens lanes.
        let refuse = |_| Err(Malformed::Other("a lane was opened from the wrong side"));
        read(reading, link, input, refuse).await;
    });
    *slot = Some(mux.clone());
    opened(&mux, group)
}

fn opened(mux: &Arc<Mux>, group: GroupId) -> Result<Lane, LinkLost> {
    let bell = Arc::new(Bell::default());
    let id = mux.state().open(group, bell.clone())?;
    mux.work.notify_one();
    Ok(mux.lane(id, group, bell))
}

/// Serves a stream of lanes that the peer opened, to its end.
pub(super) async fn accepted(
    inner: &Arc<Inner>,
    peer: EndpointId,
    connected: &Arc<Connected>,
    out: StreamOut,
    input: StreamIn,
) -> Result<(), Malformed> {
    let permit = connected.lanes_of_peer.try_acquire();
    let _permit = permit.map_err(|_| Malformed::Other("one link has one stream of lanes"))?;
    let mux = Mux::new(false);
    inner.tasks.spawn(write(mux.clone(), connected.clone(), out));
    let serve = |lane: Lane| {
        inner.tasks.spawn(inner.serve.lane(peer, lane.group, lane));
        Ok(())
    };
    read(mux, connected.clone(), input, serve).await;
    Ok(())
}

/// Writes what the lanes have to say, as much at once as has gathered, until the stream ends.
async fn write(mux: Arc<Mux>, connected: Arc<Connected>, mut out: StreamOut) {
    let mut frames = BytesMut::new();
    loop {
        let more = mux.state().fill(&mut frames, LANES_WRITE_BYTES);
        if frames.is_empty() {
            tokio::select! {
                biased;
                () = mux.ended.cancelled() => break,
                () = mux.work.notified() => {}
            }
            // Whoever else is about to say something says it now: with many groups half as many
            // datagrams go.
            tokio::task::yield_now().await;
            continue;
        }
        debug_assert!(frames.len() < LANES_WRITE_BYTES + 2 * LANE_FRAGMENT_BYTES_MAX);
        let written = tokio::select! {
            biased;
            () = mux.ended.cancelled() => break,
            written = out.write_all(&frames) => written,
        };
        if let Err(error) = written {
            mux.end(connected.why(error));
            break;
        }
        frames.clear();
        if more {
            // The next write would not wait either: others get their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// Reads frames and hands them to their lanes, until the stream ends. Lanes that the peer opens are
/// given to `begin`.
async fn read(
    mux: Arc<Mux>,
    connected: Arc<Connected>,
    mut input: StreamIn,
    begin: impl Fn(Lane) -> Result<(), Malformed>,
) {
    let mut buffer = BytesMut::new();
    let lost = loop {
        buffer.reserve(READ_BYTES);
        let read = tokio::select! {
            biased;
            () = mux.ended.cancelled() => return,
            read = input.read_buf(&mut buffer) => read,
        };
        match read {
            Ok(0) => break connected.why("it has ended"),
            Ok(_) => connected.hear(),
            Err(error) => break connected.why(error),
        }
        if let Err(error) = take_frames(&mux, &mut buffer, &begin) {
            connected.link.close(CloseCode::Malformed, &error.to_string());
            break LinkLost::silently(error.to_string());
        }
    };
    mux.end(lost);
}

/// How much is asked of the stream at once.
const READ_BYTES: usize = LANE_FRAGMENT_BYTES_MAX;

/// Hands all frames that have arrived whole to their lanes, under one lock, then wakes readers.
fn take_frames(
    mux: &Arc<Mux>,
    buffer: &mut BytesMut,
    begin: &impl Fn(Lane) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let mut begun = Vec::new();
    let mut state = mux.state();
    while let Some(frame) = Frame::decode(buffer)? {
        if let Frame::Open { lane, group } = frame {
            let bell = Arc::new(Bell::default());
            state.opened(lane, bell.clone())?;
            begun.push(mux.lane(lane, group, bell));
        } else {
            state.take_frame(frame)?;
        }
    }
    let (bells, wake) = state.settle();
    drop(state);
    bells.iter().for_each(|bell| bell.ring());
    if wake {
        mux.work.notify_one();
    }
    begun.into_iter().try_for_each(begin)
}
