//! What waits on the lanes of one stream, and what goes next. Pure: no task, no clock.
//!
//! Invariants:
//! - a lane is in `ready` exactly once while it has something to write, and takes its turn there;
//! - a lane has sent at most its credit and one message more: a message begins only while there is
//!   credit left, and is then counted whole on both sides;
//! - what a receiver has not taken is therefore bounded, and a sender that goes past it breaks the
//!   protocol;
//! - a lane is forgotten once this side has closed it and has said so, or the other side had.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Bell, LaneEnded};
use crate::limits::{
    LANE_FRAGMENT_BYTES_MAX, LANE_MESSAGE_BYTES_MAX, LANE_MESSAGE_COST, LANE_OUTBOX_BYTES,
    LANE_WINDOW_BYTES, LANES_MAX,
};
use crate::seams::network::LinkLost;
use crate::types::GroupId;
use crate::wire::Malformed;
use crate::wire::frame::{Frame, LaneId, put_data};

/// Credit is given back once so much of it has gathered: few frames, never a lane that waits for
/// credit nobody will give.
const CREDIT_BYTES: usize = LANE_WINDOW_BYTES / 4;

/// All lanes of one stream.
pub(super) struct State {
    lanes: BTreeMap<LaneId, LaneState>,
    /// Lanes that have something to write, in their order of turn.
    ready: VecDeque<LaneId>,
    /// Lanes whose waiters must be woken.
    touched: Vec<LaneId>,
    /// Whether this side opens lanes.
    opens: bool,
    /// The greatest lane that was opened.
    last: LaneId,
    end: Option<LinkLost>,
}

/// What became of a message.
pub(super) enum Offer {
    /// It waits on its lane.
    Taken {
        /// Whether the writer must be told.
        wake: bool,
    },
    /// Too much waits already.
    Full,
}

struct LaneState {
    bell: Arc<Bell>,
    /// The group, until the other side has been told of the lane.
    announce: Option<GroupId>,
    outbox: VecDeque<Bytes>,
    outbox_cost: usize,
    /// How much of the first message is written.
    written: usize,
    /// What may still be sent; below 0 by a message that was begun with the last of it.
    credit: i64,
    inbox: VecDeque<Bytes>,
    /// The beginning of a message.
    partial: BytesMut,
    within_message: bool,
    /// What the other side may still send.
    granted: i64,
    /// What was taken and not given back as credit yet.
    taken: usize,
    closed_here: bool,
    closed_there: bool,
    queued: bool,
}

impl LaneState {
    fn new(bell: Arc<Bell>, announce: Option<GroupId>) -> Self {
        LaneState {
            bell,
            announce,
            outbox: VecDeque::new(),
            outbox_cost: 0,
            written: 0,
            credit: LANE_WINDOW_BYTES as i64,
            inbox: VecDeque::new(),
            partial: BytesMut::new(),
            within_message: false,
            granted: LANE_WINDOW_BYTES as i64,
            taken: 0,
            closed_here: false,
            closed_there: false,
            queued: false,
        }
    }

    fn has_work(&self) -> bool {
        if self.closed_there {
            return false;
        }
        let may_send = self.written > 0 || self.credit > 0;
        self.announce.is_some()
            || (!self.outbox.is_empty() && may_send)
            || (self.taken >= CREDIT_BYTES && !self.closed_here)
            || (self.closed_here && self.outbox.is_empty())
    }

    /// Appends this lane's turn: at most one piece of a long message, or as many short ones.
    fn write(&mut self, id: LaneId, out: &mut BytesMut) {
        if let Some(group) = self.announce.take() {
            Frame::Open { lane: id, group }.encode(out);
        }
        if self.taken >= CREDIT_BYTES {
            Frame::Credit { lane: id, bytes: self.taken as u32 }.encode(out);
            self.granted += self.taken as i64;
            self.taken = 0;
        }
        let begin = out.len();
        while out.len() - begin < LANE_FRAGMENT_BYTES_MAX
            && let Some(message) = self.outbox.front()
            && (self.written > 0 || self.credit > 0)
        {
            if self.written == 0 {
                self.credit -= cost(message) as i64;
            }
            let rest = &message[self.written..];
            let piece = rest.len().min(LANE_FRAGMENT_BYTES_MAX);
            let last = piece == rest.len();
            put_data(out, id, &rest[..piece], last);
            if last {
                self.outbox_cost -= cost(message);
                self.written = 0;
                self.outbox.pop_front();
            } else {
                self.written += piece;
            }
        }
    }

    /// Takes a piece of a message; says whether the message is whole.
    fn receive(&mut self, bytes: &Bytes, last: bool) -> Result<bool, Malformed> {
        if !self.within_message && self.granted <= 0 {
            return Err(Malformed::Other("a lane was sent more than it has room for"));
        }
        let length = self.partial.len() + bytes.len();
        if length > LANE_MESSAGE_BYTES_MAX {
            let max = LANE_MESSAGE_BYTES_MAX;
            return Err(Malformed::TooLong { bytes: length, max });
        }
        self.within_message = !last;
        if !last {
            self.partial.extend_from_slice(bytes);
            return Ok(false);
        }
        let message = if self.partial.is_empty() {
            bytes.clone()
        } else {
            self.partial.extend_from_slice(bytes);
            std::mem::take(&mut self.partial).freeze()
        };
        self.granted -= cost(&message) as i64;
        if !self.closed_here {
            self.inbox.push_back(message);
        }
        Ok(true)
    }
}

/// What a message counts against credit and outbox.
fn cost(message: &Bytes) -> usize {
    message.len() + LANE_MESSAGE_COST
}

impl State {
    pub(super) fn new(opens: bool) -> Self {
        State {
            lanes: BTreeMap::new(),
            ready: VecDeque::new(),
            touched: Vec::new(),
            opens,
            last: 0,
            end: None,
        }
    }

    /// A new lane of this side.
    pub(super) fn open(&mut self, group: GroupId, bell: Arc<Bell>) -> Result<LaneId, LinkLost> {
        debug_assert!(self.opens, "only the side that opened the stream opens lanes");
        if let Some(lost) = &self.end {
            return Err(lost.clone());
        }
        if self.lanes.len() >= LANES_MAX || self.last == LaneId::MAX {
            return Err(LinkLost::silently(format!("{LANES_MAX} lanes to the peer are open")));
        }
        self.last += 1;
        self.lanes.insert(self.last, LaneState::new(bell, Some(group)));
        self.queue(self.last);
        Ok(self.last)
    }

    /// A new lane of the other side.
    pub(super) fn opened(&mut self, id: LaneId, bell: Arc<Bell>) -> Result<(), Malformed> {
        if self.opens || id <= self.last {
            return Err(Malformed::Other("a lane was opened from the wrong side, or twice"));
        }
        if self.lanes.len() >= LANES_MAX {
            return Err(Malformed::Other("more lanes are open than may be"));
        }
        self.last = id;
        self.lanes.insert(id, LaneState::new(bell, None));
        Ok(())
    }

    /// Puts a message on its lane.
    pub(super) fn offer(&mut self, id: LaneId, message: &Bytes) -> Result<Offer, LaneEnded> {
        if let Some(lost) = &self.end {
            return Err(LaneEnded::Lost(lost.clone()));
        }
        let lane = self.lanes.get_mut(&id).ok_or(LaneEnded::Closed)?;
        if lane.closed_there {
            return Err(LaneEnded::Closed);
        }
        if lane.outbox_cost >= LANE_OUTBOX_BYTES {
            return Ok(Offer::Full);
        }
        lane.outbox_cost += cost(message);
        lane.outbox.push_back(message.clone());
        Ok(Offer::Taken { wake: self.queue(id) })
    }

    /// Takes the next message of a lane, if one is there, and says whether the writer must be told.
    pub(super) fn take(&mut self, id: LaneId) -> Result<(Option<Bytes>, bool), LaneEnded> {
        let end = self.end.clone();
        let lane = self.lanes.get_mut(&id).ok_or(LaneEnded::Closed)?;
        let Some(message) = lane.inbox.pop_front() else {
            return match end {
                _ if lane.closed_there => Err(LaneEnded::Closed),
                Some(lost) => Err(LaneEnded::Lost(lost)),
                None => Ok((None, false)),
            };
        };
        lane.taken += cost(&message);
        let wake = end.is_none() && self.queue(id);
        Ok((Some(message), wake))
    }

    /// This side is done with a lane; says whether the writer must be told.
    pub(super) fn close(&mut self, id: LaneId) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        lane.closed_here = true;
        lane.inbox.clear();
        if lane.closed_there || self.end.is_some() {
            self.lanes.remove(&id);
            return false;
        }
        self.queue(id)
    }

    /// Takes any frame but one that opens a lane. Lanes that are forgotten are spoken to in vain.
    pub(super) fn take_frame(&mut self, frame: Frame) -> Result<(), Malformed> {
        let id = match &frame {
            Frame::Open { lane, .. }
            | Frame::Data { lane, .. }
            | Frame::Credit { lane, .. }
            | Frame::Close { lane } => *lane,
        };
        let Some(lane) = self.lanes.get_mut(&id) else {
            let forgotten = id <= self.last;
            return forgotten.then_some(()).ok_or(Malformed::Other("a lane was never opened"));
        };
        if lane.closed_there {
            return Err(Malformed::Other("a lane says more after its end"));
        }
        match frame {
            Frame::Open { .. } => unreachable!("opening is not for a lane that is there"),
            Frame::Data { bytes, last, .. } => {
                if lane.receive(&bytes, last)? {
                    self.touched.push(id);
                }
            }
            Frame::Credit { bytes, .. } => {
                lane.credit += i64::from(bytes);
                if lane.credit > LANE_WINDOW_BYTES as i64 {
                    return Err(Malformed::Other("a lane was given more credit than there is"));
                }
                self.touched.push(id);
            }
            Frame::Close { .. } => {
                lane.closed_there = true;
                lane.outbox.clear();
                lane.outbox_cost = 0;
                self.touched.push(id);
            }
        }
        Ok(())
    }

    /// After frames were taken: the bells of the lanes concerned, and whether the writer must be
    /// told.
    pub(super) fn settle(&mut self) -> (Vec<Arc<Bell>>, bool) {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        let mut wake = false;
        let mut bells = Vec::with_capacity(touched.len());
        for id in touched {
            wake |= self.queue(id);
            let Some(lane) = self.lanes.get(&id) else { continue };
            bells.push(lane.bell.clone());
            if lane.closed_here && lane.closed_there {
                self.lanes.remove(&id);
            }
        }
        (bells, wake)
    }

    /// Fills a buffer with frames, a turn to each lane that has something to say; says whether more
    /// is left.
    pub(super) fn fill(&mut self, out: &mut BytesMut, bytes_max: usize) -> bool {
        while out.len() < bytes_max {
            let Some(id) = self.ready.pop_front() else { return false };
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            lane.queued = false;
            if !lane.has_work() {
                continue;
            }
            let was_full = lane.outbox_cost >= LANE_OUTBOX_BYTES;
            lane.write(id, out);
            if was_full && lane.outbox_cost < LANE_OUTBOX_BYTES {
                lane.bell.space.notify_waiters();
            }
            if lane.closed_here && lane.outbox.is_empty() {
                Frame::Close { lane: id }.encode(out);
                self.lanes.remove(&id);
            } else {
                self.queue(id);
            }
        }
        !self.ready.is_empty()
    }

    /// Whether a lane is not forgotten.
    #[cfg(test)]
    pub(super) fn knows(&self, id: LaneId) -> bool {
        self.lanes.contains_key(&id)
    }

    /// The stream is gone; the bells of all who wait.
    pub(super) fn end(&mut self, lost: LinkLost) -> Vec<Arc<Bell>> {
        self.end.get_or_insert(lost);
        self.ready.clear();
        for lane in self.lanes.values_mut() {
            lane.outbox.clear();
            lane.partial = BytesMut::new();
        }
        let bells = self.lanes.values().map(|lane| lane.bell.clone()).collect();
        self.lanes.retain(|_, lane| !lane.closed_here);
        bells
    }

    /// Gives a lane a turn if it has something to say; says whether it is the first of those.
    fn queue(&mut self, id: LaneId) -> bool {
        let Some(lane) = self.lanes.get_mut(&id) else { return false };
        if lane.queued || !lane.has_work() {
            return false;
        }
        lane.queued = true;
        self.ready.push_back(id);
        self.ready.len() == 1
    }
}
