//! Two sides of one stream of lanes, their bytes cut anywhere, against plain queues.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

use super::state::{Offer, State};
use super::{Bell, LaneEnded};
use crate::limits::{LANE_OUTBOX_BYTES, LANE_WINDOW_BYTES, LANES_WRITE_BYTES};
use crate::types::GroupId;
use crate::wire::frame::{Frame, LaneId};

#[derive(Clone, Debug)]
enum Step {
    Open,
    /// Lane, side, length.
    Send(usize, bool, usize),
    Take(usize, bool),
    Close(usize, bool),
    /// From which side, and at most how many bytes arrive.
    Carry(bool, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![4 => 0usize..300, 2 => 60_000usize..70_000, 1 => 0usize..2_000_000];
    prop_oneof![
        1 => Just(Step::Open),
        8 => (0usize..8, any::<bool>(), length).prop_map(|(l, s, n)| Step::Send(l, s, n)),
        8 => (0usize..8, any::<bool>()).prop_map(|(l, s)| Step::Take(l, s)),
        1 => (0usize..8, any::<bool>()).prop_map(|(l, s)| Step::Close(l, s)),
        8 => (any::<bool>(), 1usize..400_000).prop_map(|(s, n)| Step::Carry(s, n)),
    ]
}

/// A side, and what it has written that has not arrived.
struct Side {
    state: State,
    wire: BytesMut,
    arrived: BytesMut,
}

/// What one side has sent on a lane and the other has not taken, and whether either has closed it.
#[derive(Default)]
struct Way {
    sent: VecDeque<Bytes>,
    bytes: usize,
}

struct World {
    sides: [Side; 2],
    lanes: Vec<LaneId>,
    /// By lane and the side that sends.
    ways: BTreeMap<(LaneId, usize), Way>,
    closed: BTreeMap<LaneId, [bool; 2]>,
    count: u8,
}

impl World {
    fn new() -> Self {
        let side = |opens| Side {
            state: State::new(opens),
            wire: BytesMut::new(),
            arrived: BytesMut::new(),
        };
        World {
            sides: [side(true), side(false)],
            lanes: Vec::new(),
            ways: BTreeMap::new(),
            closed: BTreeMap::new(),
            count: 0,
        }
    }

    fn open(&mut self) {
        let lane = self.sides[0].state.open(GroupId(1), Arc::new(Bell::default())).unwrap();
        self.lanes.push(lane);
        self.closed.insert(lane, [false; 2]);
    }

    /// A lane that this side has a handle on.
    fn pick(&self, n: usize, side: usize) -> Option<LaneId> {
        let lane = *self.lanes.get(n % self.lanes.len().max(1))?;
        (!self.closed[&lane][side]).then_some(lane)
    }

    fn send(&mut self, lane: LaneId, side: usize, length: usize) {
        self.count = self.count.wrapping_add(1);
        let message = Bytes::from(vec![self.count; length]);
        let way = self.ways.entry((lane, side)).or_default();
        match self.sides[side].state.offer(lane, &message) {
            Ok(Offer::Taken { .. }) => {
                way.bytes += length;
                way.sent.push_back(message);
                // What is not taken is bounded, however the other side behaves: a window, an
                // outbox, and a message past each.
                let bound = LANE_WINDOW_BYTES + LANE_OUTBOX_BYTES + 2 * 2_000_000;
                assert!(way.bytes <= bound, "{} bytes wait on a lane", way.bytes);
            }
            Ok(Offer::Full) => {}
            // The other side has not heard of it yet, or has closed it.
            Err(ended) => assert_eq!(ended, LaneEnded::Closed),
        }
    }

    fn take(&mut self, lane: LaneId, side: usize) -> bool {
        let way = self.ways.entry((lane, 1 - side)).or_default();
        match self.sides[side].state.take(lane) {
            Ok((Some(message), _)) => {
                let expected = way.sent.pop_front();
                assert_eq!(expected.as_ref(), Some(&message), "in order, whole, once");
                way.bytes -= message.len();
                true
            }
            Ok((None, _)) => false,
            Err(ended) => {
                assert_eq!(ended, LaneEnded::Closed);
                false
            }
        }
    }

    fn carry(&mut self, from: usize, bytes: usize) -> bool {
        let side = &mut self.sides[from];
        if side.wire.is_empty() {
            side.state.fill(&mut side.wire, LANES_WRITE_BYTES);
        }
        let moved = side.wire.split_to(bytes.min(side.wire.len()));
        let to = &mut self.sides[1 - from];
        to.arrived.extend_from_slice(&moved);
        while let Some(frame) = Frame::decode(&mut to.arrived).expect("frames are well formed") {
            if let Frame::Open { lane, .. } = frame {
                to.state.opened(lane, Arc::new(Bell::default())).expect("a new lane");
            } else {
                to.state.take_frame(frame).expect("each side keeps to the protocol");
            }
        }
        to.state.settle();
        !moved.is_empty()
    }

    /// Everyone reads until nothing moves any more.
    fn drain(&mut self) {
        loop {
            let mut moved = false;
            for side in 0..2 {
                moved |= self.carry(side, usize::MAX);
                for lane in self.lanes.clone() {
                    if !self.closed[&lane][side] {
                        moved |= self.take(lane, side);
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_happens_messages_arrive_in_order_and_nothing_is_stuck(
        steps in vec(step(), 1..300),
    ) {
        let mut world = World::new();
        world.open();
        for step in steps {
            match step {
                Step::Open => world.open(),
                Step::Send(n, side, length) => {
                    if let Some(lane) = world.pick(n, side.into()) {
                        world.send(lane, side.into(), length);
                    }
                }
                Step::Take(n, side) => {
                    if let Some(lane) = world.pick(n, side.into()) {
                        world.take(lane, side.into());
                    }
                }
                Step::Close(n, side) => {
                    // The other side has a handle only once it was told of the lane.
                    let side: usize = side.into();
                    if let Some(lane) = world.pick(n, side)
                        && (side == 0 || world.sides[1].state.knows(lane))
                    {
                        world.sides[side].state.close(lane);
                        world.closed.get_mut(&lane).unwrap()[side] = true;
                    }
                }
                Step::Carry(side, bytes) => {
                    world.carry(side.into(), bytes);
                }
            }
        }
        world.drain();
        for ((lane, sender), way) in &world.ways {
            // A reader that went away, or a lane that the reader ended, owes nothing.
            if !world.closed[lane][1 - sender] {
                prop_assert!(way.sent.is_empty(), "lane {} has lost messages", lane);
            }
        }
        // What both sides have closed is forgotten.
        for (lane, closed) in &world.closed {
            if closed == &[true, true] {
                prop_assert!(!world.sides[0].state.knows(*lane));
                prop_assert!(!world.sides[1].state.knows(*lane));
            }
        }
    }
}

#[test]
fn lanes_take_turns() {
    let mut state = State::new(true);
    let lanes: Vec<LaneId> =
        (0..3).map(|_| state.open(GroupId(1), Arc::new(Bell::default())).unwrap()).collect();
    let mut out = BytesMut::new();
    state.fill(&mut out, usize::MAX);
    for &lane in &lanes {
        let message = Bytes::from(vec![0; 200_000]);
        assert!(matches!(state.offer(lane, &message), Ok(Offer::Taken { .. })));
    }
    out.clear();
    state.fill(&mut out, usize::MAX);
    let mut order = Vec::new();
    while let Some(frame) = Frame::decode(&mut out).unwrap() {
        let Frame::Data { lane, .. } = frame else { panic!("{frame:?}") };
        order.push(lane);
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3]);
}
