//! A snapshot that arrives at this replica.
//!
//! One arrives at a time. It is written to a file of its own as it comes; what has arrived when
//! its link breaks is kept for a while, and the same sending may go on there. When it is whole it
//! is checked, compared with what was announced, and handed to Raft, which installs it; readers
//! have the old state until then. Whatever is wrong with it, it is discarded and the sender told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use bytes::Bytes;
use openraft::alias::SnapshotOf;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::counts::GroupCounts;
use super::machine::{Machine, SnapshotData, snapshot_meta};
use super::messages::{Offer, Receipt, encode};
use super::types::{TypeConfig, vote_in, vote_out};
use crate::limits::{
    SNAPSHOT_BYTES_MAX, SNAPSHOT_CHUNK_BYTES, SNAPSHOT_MARK_BYTES_MAX, SNAPSHOT_RESUME_MAX,
    SNAPSHOT_ROW_BYTES_MAX, SNAPSHOT_SIGN_OF_LIFE, SNAPSHOT_SILENCE_MAX,
};
use crate::net::{read_message, write_message};
use crate::seams::network::{StreamIn, StreamOut};
use crate::seams::{self, Tasks};
use crate::status::Arriving;
use crate::store::log::Vote;
use crate::store::snapshot::SnapshotSink;
use crate::store::space::{Room, SpaceGuard};
use crate::store::state::WeakState;

type Raft = openraft::Raft<TypeConfig, Machine>;

/// Longest chunk: it ends with the row that fills it, or with the hash.
const CHUNK_BYTES_MAX: usize =
    SNAPSHOT_CHUNK_BYTES + SNAPSHOT_ROW_BYTES_MAX + SNAPSHOT_MARK_BYTES_MAX + 1024;

/// The link's part of an arrival is over, or the replica stops.
struct Cut;

/// The place of one replica where snapshots arrive.
#[derive(Debug)]
pub(super) struct Arrivals {
    state: WeakState,
    space: SpaceGuard,
    raft: Raft,
    tasks: Tasks,
    /// Held by the link that brings one, and while one is installed.
    place: Arc<Mutex<Place>>,
    /// Cut when another link comes with a snapshot.
    newest: StdMutex<CancellationToken>,
    /// Numbers the files.
    count: AtomicU64,
    /// How far the one that arrives is, for people.
    shown: Shown,
    counts: Arc<GroupCounts>,
}

/// How far an arrival is; clones show the same.
#[derive(Clone, Debug, Default)]
struct Shown(Arc<StdMutex<Option<Arriving>>>);

impl Shown {
    fn set(&self, arriving: Option<Arriving>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = arriving;
    }

    fn get(&self) -> Option<Arriving> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Place {
    arriving: Option<Arrival>,
    /// The last one that was installed, for a sender that did not hear of it.
    installed: Option<(u128, Vote)>,
}

/// A snapshot that has arrived in part.
#[derive(Debug)]
struct Arrival {
    sending: u128,
    sink: SnapshotSink,
    touched: Instant,
    shown: Shown,
    about_bytes: u64,
}

impl Arrival {
    fn show(&self) {
        let (bytes, of_bytes) = (self.sink.received(), self.about_bytes);
        self.shown.set(Some(Arriving { bytes, of_bytes: of_bytes.max(bytes) }));
    }
}

impl Arrivals {
    pub(super) fn new(
        state: WeakState,
        space: SpaceGuard,
        raft: Raft,
        counts: Arc<GroupCounts>,
        tasks: Tasks,
    ) -> Self {
        Arrivals {
            state,
            space,
            raft,
            tasks,
            place: Arc::default(),
            newest: StdMutex::default(),
            count: AtomicU64::new(0),
            shown: Shown::default(),
            counts,
        }
    }

    /// How far the snapshot is that arrives, if one does.
    pub(super) fn arriving(&self) -> Option<Arriving> {
        self.shown.get()
    }

    /// Takes a snapshot from a link, as far as it brings it.
    pub(super) async fn serve(&self, offer: Offer, mut out: StreamOut, mut input: StreamIn) {
        let cut = self.cut_others();
        if let Ok(receipt) = self.receive(&offer, &mut out, &mut input, &cut).await {
            // If the sender does not hear it, it asks again.
            let _ = say(&mut out, &receipt).await;
        }
    }

    /// Ends what other links bring.
    fn cut_others(&self) -> CancellationToken {
        let cut = CancellationToken::new();
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *newest, cut.clone()).cancel();
        cut
    }

    /// Waits for the place, which is held while an earlier snapshot is installed.
    async fn enter(
        &self,
        out: &mut StreamOut,
        cut: &CancellationToken,
    ) -> Result<OwnedMutexGuard<Place>, Cut> {
        while !cut.is_cancelled() {
            match timeout(SNAPSHOT_SIGN_OF_LIFE, self.place.clone().lock_owned()).await {
                Ok(place) => return Ok(place),
                Err(_elapsed) => say(out, &Receipt::Installing).await?,
            }
        }
        Err(Cut)
    }

    /// The last word to the sender, if the link bears it.
    async fn receive(
        &self,
        offer: &Offer,
        out: &mut StreamOut,
        input: &mut StreamIn,
        cut: &CancellationToken,
    ) -> Result<Receipt, Cut> {
        let mut place = self.enter(out, cut).await?;
        if let Some((sending, vote)) = place.installed
            && sending == offer.sending
        {
            return Ok(Receipt::Installed(vote));
        }
        if place.arriving.as_ref().is_none_or(|arrival| arrival.sending != offer.sending) {
            // The file of what was there is removed before there is another.
            place.arriving = None;
            match self.begin(offer).await {
                Ok(arrival) => place.arriving = Some(arrival),
                Err(reason) => return Ok(Receipt::Refused(reason)),
            }
        }
        loop {
            let Some(arrival) = &mut place.arriving else { return Err(Cut) };
            arrival.touched = Instant::now();
            arrival.show();
            say(out, &Receipt::Has(arrival.sink.received())).await?;
            let message = timeout(SNAPSHOT_SILENCE_MAX, read_message(input, CHUNK_BYTES_MAX));
            let Some(Ok(Ok(chunk))) = cut.run_until_cancelled(message).await else {
                return Err(Cut);
            };
            if chunk.is_empty() {
                return self.await_install(self.install(offer, place), out, cut).await;
            }
            let written = self.write(place, chunk).await;
            place = match written {
                Ok(place) => place,
                Err(reason) => return Ok(Receipt::Refused(reason)),
            };
        }
    }

    async fn begin(&self, offer: &Offer) -> Result<Arrival, String> {
        let state = self.state.upgrade().ok_or("the replica stops")?;
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let sink = seams::blocking(move || state.receive_snapshot(number)).await;
        let sink = sink.map_err(|error| error.to_string())?;
        let Offer { sending, about_bytes, .. } = *offer;
        self.tasks.spawn(give_up(self.place.clone(), sending));
        let shown = self.shown.clone();
        Ok(Arrival { sending, sink, touched: Instant::now(), shown, about_bytes })
    }

    /// Adds a chunk to the arrival, or lets go of all of it. The arrival never leaves its place:
    /// the link may end in the middle of this, and another go on.
    async fn write(
        &self,
        mut place: OwnedMutexGuard<Place>,
        chunk: Bytes,
    ) -> Result<OwnedMutexGuard<Place>, String> {
        let is_full = self.space.room() == Room::Full;
        seams::blocking(move || {
            let arrival = place.arriving.as_mut().ok_or("it was given up")?;
            let written = if arrival.sink.received() + chunk.len() as u64 > SNAPSHOT_BYTES_MAX {
                Err(format!("it has more than {SNAPSHOT_BYTES_MAX} bytes"))
            } else if is_full {
                Err("this node's disk is nearly full; free some space".into())
            } else {
                arrival.sink.write(&chunk).map_err(|error| error.to_string())
            };
            if written.is_err()
                && let Some(arrival) = place.arriving.take()
            {
                arrival.shown.set(None);
            }
            written.map(|()| place)
        })
        .await
    }

    /// Checks and installs what has arrived, in a task that the link's end does not cut off: Raft
    /// must be heard out.
    fn install(
        &self,
        offer: &Offer,
        mut place: OwnedMutexGuard<Place>,
    ) -> oneshot::Receiver<Receipt> {
        let (told, installed) = oneshot::channel();
        let (raft, offer, counts) = (self.raft.clone(), offer.clone(), self.counts.clone());
        self.tasks.spawn(async move {
            let Some(Arrival { sink, shown, .. }) = place.arriving.take() else { return };
            let receipt = match install(&raft, &offer, sink).await {
                Ok(vote) => {
                    counts.snapshots_received.one();
                    place.installed = Some((offer.sending, vote));
                    Receipt::Installed(vote)
                }
                Err(reason) => {
                    let group = offer.route.group;
                    tracing::warn!(group = group.0, reason, "a snapshot that arrived is discarded");
                    Receipt::Refused(reason)
                }
            };
            shown.set(None);
            drop(place);
            // The link may be gone; the sender then asks on another.
            let _ = told.send(receipt);
        });
        installed
    }

    /// Tells the sender that its snapshot is still being installed, until it is.
    async fn await_install(
        &self,
        mut installed: oneshot::Receiver<Receipt>,
        out: &mut StreamOut,
        cut: &CancellationToken,
    ) -> Result<Receipt, Cut> {
        loop {
            if cut.is_cancelled() {
                return Err(Cut);
            }
            say(out, &Receipt::Installing).await?;
            match timeout(SNAPSHOT_SIGN_OF_LIFE, &mut installed).await {
                Ok(receipt) => return receipt.map_err(|_| Cut),
                Err(_elapsed) => {}
            }
        }
    }
}

async fn say(out: &mut StreamOut, receipt: &Receipt) -> Result<(), Cut> {
    let message = encode(receipt);
    match timeout(SNAPSHOT_SILENCE_MAX, write_message(out, &message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Cut),
    }
}

/// Lets go of an arrival that nobody goes on with.
async fn give_up(place: Arc<Mutex<Place>>, sending: u128) {
    loop {
        sleep(SNAPSHOT_RESUME_MAX).await;
        // While a link brings it the place is held.
        let Ok(mut place) = place.try_lock() else { continue };
        match &place.arriving {
            Some(arrival) if arrival.sending == sending => {
                if arrival.touched.elapsed() >= SNAPSHOT_RESUME_MAX {
                    arrival.shown.set(None);
                    place.arriving = None;
                    return;
                }
            }
            _ => return,
        }
    }
}

/// The vote after the snapshot was installed, or why it was not.
async fn install(raft: &Raft, offer: &Offer, sink: SnapshotSink) -> Result<Vote, String> {
    let received = seams::blocking(move || sink.finish()).await.map_err(|e| e.to_string())?;
    if *received.mark() != offer.mark {
        return Err("it holds another state than was announced".into());
    }
    let meta = snapshot_meta(received.mark()).map_err(|error| error.to_string())?;
    let snapshot = SnapshotData::Received(received);
    let snapshot = SnapshotOf::<TypeConfig, _> { meta, snapshot };
    match raft.install_full_snapshot(vote_in(offer.vote), snapshot).await {
        Ok(response) => Ok(vote_out(&response.vote)),
        Err(fatal) => Err(fatal.to_string()),
    }
}
