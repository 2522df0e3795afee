//! Writers of a few keys of one shard, and watchers of them: some see all keys, some see few, are
//! slow, are cancelled and go on where they were, or begin in the past. A client is both at once. In
//! some runs clients compact the history that others watch; in the others it is there to the end, and
//! every watch is held against all of it.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aspen::client::{WatchBatch, WatchEvent};
use aspen::error::Refusal;
use aspen::{Error, Op, Record};
use futures_util::future::{BoxFuture, join};
use tokio::time::{Instant, sleep, timeout};

use super::client::{CALL_MAX, Client, Effect, number_in};
use super::{History, Stage, Work};
use crate::check::watches::{self, Answer, Asked, Batch, Change, Event, Held, Watch};
use crate::check::{Told, Violation};

/// The beginnings of the keys that are written, and how many keys each has.
const DIRS: [&str; 2] = ["a/", "b/"];
const KEYS: u64 = 3;
/// Which keys watchers ask for.
const FILTERS: [&str; 4] = ["", "a/", "b/", "a/1"];
/// Most keys that are written at once.
const PUTS_MAX: u64 = 3;
/// How often in a hundred times a writer has history dropped before it writes.
const COMPACT_PERCENT: u64 = 4;
/// The longest that a slow watcher waits before it looks for more.
const SLOW: Duration = Duration::from_secs(2);
/// How often a watcher that is shown nothing looks whether the run is over.
const LOOK: Duration = Duration::from_millis(200);

pub(super) struct Watches {
    prefix: String,
    history: History<Asked, Answer>,
    seen: Mutex<Vec<Watch>>,
    happened: Mutex<Option<Watch>>,
    /// Whether clients of this run compact; chosen by the first of them.
    compacts: OnceLock<bool>,
    /// Up to which revision they asked for it.
    compacted: AtomicU64,
}

/// Which watch is asked for.
#[derive(Clone, Debug)]
struct Wanted {
    filter: String,
    shows_before: bool,
    from: Option<u64>,
}

impl Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wanted { filter, from, .. } = self;
        match from {
            Some(from) => write!(f, "watch {filter} from {from}"),
            None => write!(f, "watch {filter}"),
        }
    }
}

/// A watch that has begun, and where what it shows is kept.
struct Begun {
    watch: aspen::client::Watch,
    seen: Watch,
}

impl Display for Begun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "begins at {}", self.seen.from)
    }
}

/// Why a watcher stops looking.
enum Ended {
    /// It was to be cancelled.
    Cancelled,
    /// It showed all that it had to.
    ShowedAll,
    /// The store ended it.
    Lost(Error),
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watches {
    pub(super) fn new(stage: &Stage, prefix: &str) -> Self {
        Watches {
            prefix: format!("{{{prefix}}}/"),
            history: History::new(stage),
            seen: Mutex::default(),
            happened: Mutex::default(),
            compacts: OnceLock::new(),
            compacted: AtomicU64::new(0),
        }
    }

    // --- writers ---

    fn any_key(&self, client: &Client) -> String {
        format!("{}{}{}", self.prefix, client.dice.pick(&DIRS), client.dice.below(KEYS))
    }

    async fn write(&self, client: &Client) {
        let compacts = *self.compacts.get_or_init(|| client.dice.percent(50));
        let mut last = 0;
        while client.thinks().await {
            if compacts && client.dice.percent(COMPACT_PERCENT) {
                self.compact(client, last).await;
            }
            let first = self.any_key(client);
            if client.dice.percent(25) {
                self.delete(client, first).await;
                continue;
            }
            let mut keys = vec![first];
            if client.dice.percent(40) {
                keys.extend((1..PUTS_MAX).map(|_| self.any_key(client)));
                keys.sort_unstable();
                keys.dedup();
            }
            last = self.put(client, keys).await.unwrap_or(last);
        }
    }

    /// Has the history up to a revision dropped, or up to an earlier one.
    async fn compact(&self, client: &Client, last: u64) {
        let upto = if client.dice.percent(50) { last } else { client.dice.below(last + 1) };
        self.compacted.fetch_max(upto, Ordering::Relaxed);
        let compact = async {
            match client.kv.near(&self.prefix)?.compact(upto).await {
                // Another client has had more of it dropped.
                Err(Error::Refused(refusal @ Refusal::Compacted { .. })) => {
                    self.hears_of_compaction(client, &refusal);
                    Ok("it was before")
                }
                done => done.map(|()| "done"),
            }
        };
        let asked = format!("compact up to {upto}");
        client.ask(&asked, Effect::Writes, client.in_time(compact)).await;
    }

    /// Only what somebody wanted to be gone is.
    fn hears_of_compaction(&self, client: &Client, refusal: &Refusal) {
        let wanted = self.compacted.load(Ordering::Relaxed);
        let is_right = matches!(refusal, Refusal::Compacted { asked, compacted }
            if asked <= compacted && *compacted <= wanted);
        if !is_right {
            client.fail(format_args!("was told, where {wanted} was compacted: {refusal}"));
        }
    }

    async fn delete(&self, client: &Client, key: String) {
        let asked = Asked(vec![Change { key: key.clone(), value: None }]);
        let delete = async {
            let done = client.kv.delete(key).await?;
            Ok(Answer { revision: (done.count > 0).then_some(done.revision) })
        };
        client.call(&self.history, asked, Effect::Writes, delete).await;
    }

    /// Writes keys at once; answers the revision if it was told.
    async fn put(&self, client: &Client, keys: Vec<String>) -> Option<u64> {
        let change = |key| Change { key, value: Some(client.stage.value()) };
        let asked = Asked(keys.into_iter().map(change).collect());
        let puts = asked.0.iter().map(|Change { key, value }| (key, value.unwrap_or_default()));
        let puts: Vec<_> = puts.map(|(key, value)| (key.clone(), value.to_string())).collect();
        let put = async {
            let revision = match puts.as_slice() {
                [(key, value)] => client.kv.put(key, value).await?.revision,
                several => {
                    let add = |txn: aspen::client::Txn, (key, value): &(String, String)| {
                        txn.then(Op::put(key, value))
                    };
                    several.iter().fold(client.kv.txn(), add).await?.revision
                }
            };
            Ok(Answer { revision: Some(revision) })
        };
        match client.call(&self.history, asked, Effect::Writes, put).await {
            Told::Done(answer) => answer.revision,
            _ => None,
        }
    }

    // --- watchers ---

    fn any_watch(&self, client: &Client, seen_upto: u64) -> Wanted {
        let filter = format!("{}{}", self.prefix, client.dice.pick(&FILTERS));
        let in_past = client.dice.percent(25);
        let from = in_past.then(|| client.dice.between(1, seen_upto.max(1)));
        Wanted { filter, shows_before: client.dice.percent(50), from }
    }

    async fn watch(&self, client: &Client) {
        let mut seen_upto = 0;
        let mut wanted = self.any_watch(client, seen_upto);
        while client.thinks().await {
            let Told::Done(mut begun) = self.begin(client, &wanted).await else { continue };
            let ended = self.look(client, &mut begun).await;
            seen_upto = seen_upto.max(begun.seen.upto());
            wanted.from = Some(begun.seen.upto() + 1);
            lock(&self.seen).push(begun.seen);
            match ended {
                Ended::ShowedAll => return,
                Ended::Lost(Error::Refused(refusal @ Refusal::Compacted { .. })) => {
                    self.hears_of_compaction(client, &refusal);
                    wanted.from = None;
                }
                Ended::Lost(Error::Unavailable { .. } | Error::Busy { .. }) => {}
                Ended::Lost(error) => client.fail(format_args!("lost a watch: {error}")),
                Ended::Cancelled if client.dice.percent(70) => {
                    wanted.shows_before = client.dice.percent(50);
                }
                Ended::Cancelled => wanted = self.any_watch(client, seen_upto),
            }
        }
        self.see_the_end(client, wanted).await;
    }

    async fn begin(&self, client: &Client, wanted: &Wanted) -> Told<Begun> {
        let begin = async {
            let watch = |from: Option<u64>| {
                let watch = client.kv.watch(&wanted.filter);
                let watch = if wanted.shows_before { watch.prev() } else { watch };
                from.into_iter().fold(watch, |watch, from| watch.from(from))
            };
            let watch = match watch(wanted.from).await {
                Err(Error::Refused(ref refusal @ Refusal::Compacted { compacted, .. })) => {
                    self.hears_of_compaction(client, refusal);
                    watch(Some(compacted + 1)).await
                }
                begun => begun,
            }?;
            // Only one shard has such keys.
            let shown = watch.position().revisions.iter().max().copied().unwrap_or_default();
            let seen = Watch {
                client: client.number,
                prefix: wanted.filter.clone(),
                shows_before: wanted.shows_before,
                began: client.stage.event(),
                from: shown + 1,
                batches: Vec::new(),
            };
            Ok(Begun { watch, seen })
        };
        client.ask(wanted, Effect::Reads, client.in_time(begin)).await
    }

    /// Looks at what a watch shows until it is cancelled, or the run is over and all was shown.
    async fn look(&self, client: &Client, begun: &mut Begun) -> Ended {
        let patience = client.dice.below(30);
        for _ in 0..=patience {
            if client.dice.percent(10) {
                sleep(client.dice.time_below(SLOW)).await;
            }
            loop {
                if client.stage.is_over() {
                    let filter = begun.seen.prefix.clone();
                    return self.look_to_the_end(client, begun, filter).await;
                }
                match timeout(LOOK, begun.watch.next()).await {
                    Err(_nothing) => {}
                    Ok(Err(error)) => return Ended::Lost(error),
                    Ok(Ok(batch)) => {
                        self.take(client, begun, batch).await;
                        break;
                    }
                }
            }
        }
        Ended::Cancelled
    }

    async fn take(&self, client: &Client, begun: &mut Begun, batch: WatchBatch) {
        client.lives().await;
        let WatchBatch { revision, events } = batch;
        client.note(format_args!("is shown {} changes up to {revision}", events.len()));
        let events = events.into_iter().map(Event::from).collect();
        begun.seen.batches.push(Batch { upto: revision, events });
    }

    /// Writes something that the watch must show, and waits until it does.
    async fn look_to_the_end(&self, client: &Client, begun: &mut Begun, filter: String) -> Ended {
        let began = Instant::now();
        let end = format!("{filter}/end/{}", client.number);
        let mut last = self.put(client, vec![end.clone()]).await;
        while last.is_none() && began.elapsed() < CALL_MAX {
            client.waits().await;
            last = self.put(client, vec![end.clone()]).await;
        }
        let Some(last) = last else {
            client.fail(format_args!("could not write what a watch is to show"));
            return Ended::Cancelled;
        };
        while begun.seen.upto() < last {
            match timeout(CALL_MAX, begun.watch.next()).await {
                Ok(Ok(batch)) => self.take(client, begun, batch).await,
                Ok(Err(error)) => return Ended::Lost(error),
                Err(_nothing) => {
                    client.lives().await;
                    let seen = &begun.seen;
                    client.fail(format_args!("was not shown revision {last} in time: {seen}"));
                    return Ended::Cancelled;
                }
            }
        }
        Ended::ShowedAll
    }

    /// Goes on until all was shown, now that the run is over.
    async fn see_the_end(&self, client: &Client, mut wanted: Wanted) {
        let began = Instant::now();
        while began.elapsed() < CALL_MAX {
            client.waits().await;
            let Told::Done(mut begun) = self.begin(client, &wanted).await else { continue };
            let filter = wanted.filter.clone();
            let ended = self.look_to_the_end(client, &mut begun, filter).await;
            wanted.from = Some(begun.seen.upto() + 1);
            lock(&self.seen).push(begun.seen);
            if let Ended::ShowedAll = ended {
                return;
            }
        }
        client.fail(format_args!("found nobody who shows it: {wanted}"));
    }

    /// Sees everything that happened, from the first revision on, in one watch.
    async fn see_everything(&self, client: &Client) {
        let filter = self.prefix.clone();
        let wanted = Wanted { filter: filter.clone(), shows_before: true, from: Some(1) };
        let began = Instant::now();
        while began.elapsed() < CALL_MAX {
            client.waits().await;
            let Told::Done(mut begun) = self.begin(client, &wanted).await else { continue };
            let ended = self.look_to_the_end(client, &mut begun, filter.clone()).await;
            if let Ended::ShowedAll = ended {
                *lock(&self.happened) = Some(begun.seen);
                return;
            }
        }
        client.fail(format_args!("found nobody who shows it: {wanted}"));
    }
}

impl From<WatchEvent> for Event {
    fn from(WatchEvent { revision, key, record, prev }: WatchEvent) -> Self {
        let key = String::from_utf8_lossy(key.as_bytes()).into_owned();
        Event { revision, key, held: record.map(Held::from), before: prev.map(Held::from) }
    }
}

impl From<Record> for Held {
    fn from(record: Record) -> Self {
        Held {
            // What is no number is a value that nobody wrote.
            value: number_in(&record.value).unwrap_or(u64::MAX),
            created: record.create_revision,
            modified: record.mod_revision,
            version: record.version,
        }
    }
}

impl Work for Watches {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            join(self.write(client), self.watch(client)).await;
        })
    }

    fn close<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(self.see_everything(client))
    }

    fn judge(&self) -> Result<(), Violation> {
        let Some(happened) = lock(&self.happened).clone() else {
            return Err(Violation::new("nobody saw what happened", [] as [String; 0]));
        };
        watches::check(&self.history.calls(), &happened, &lock(&self.seen))
    }

    fn calls(&self) -> usize {
        self.history.count()
    }
}
