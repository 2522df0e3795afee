//! Strangers that send a node all that is no good request, and much that is: it answers each as it
//! should, stays what it was, and whoever else uses it hardly notices.
//!
//! What each stranger does follows from a seed and its number. `ASPEN_ABUSE` sets how many there are,
//! `ASPEN_ABUSE_SEED` another seed, and `ASPEN_ABUSE_ONLY` repeats the one that a failure names.

mod answers;
mod attack;
mod framing;
mod neighbours;
mod requests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Method;
use rustix::process::nice;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use self::attack::Attack;
use self::framing::OUTWAITED;
use self::neighbours::{Neighbours, Waits};
use crate::dice::{Dice, number};
use crate::http::Http;
use crate::support::{Node, send, until};

/// How many there are unless the environment says otherwise.
const STRANGERS: u64 = 10_000;
/// How many are there at once, beside the slow ones.
const AT_ONCE: usize = 4;
/// One of so many takes its time; these are all there at once.
const SLOW_ONE_IN: u64 = 100;
/// One of so many sends a body as large as may be, or larger.
const LARGE_ONE_IN: u64 = 400;
/// By how much less of the machine strangers get than the node and its other users.
const NICE: i32 = 10;
/// How long others are measured before.
const QUIET: Duration = Duration::from_secs(3);
/// The time of others is taken in so many parts, so that a busy moment of the machine is not all of it.
const PARTS: usize = 8;
/// What others bear, whatever they had before.
const NOTICED: Duration = Duration::from_millis(50);
/// After so many that were answered wrongly no more come.
const WRONG_MAX: usize = 12;
/// How much more memory a node may keep.
const KEPT_MIB_MAX: f64 = 20.0;

/// The stranger of a number.
fn stranger(seed: u64, at: u64) -> Attack {
    let mut dice = Dice(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ at);
    if at % SLOW_ONE_IN == 1 {
        return framing::slow(&mut dice);
    }
    if at % LARGE_ONE_IN == 2 {
        return requests::large(&mut dice);
    }
    match dice.below(14) {
        0..3 => requests::method_at_path(&mut dice, at as usize),
        3 => requests::query(&mut dice),
        4 => requests::path(&mut dice),
        5 | 6 => requests::json(&mut dice),
        7 => framing::lengths(&mut dice),
        8 => framing::chunks(&mut dice),
        9 => framing::headers(&mut dice),
        10 => framing::first_line(&mut dice),
        11 => framing::noise(&mut dice),
        12 if dice.once_in(2) => framing::pipelined(&mut dice),
        12 => requests::lasting(&mut dice),
        _ => framing::early(&mut dice),
    }
}

/// What they were told: by the kinds of strangers, how often which status; 0 is none.
type Told = BTreeMap<(&'static str, u16), u64>;

/// The numbers of strangers.
#[derive(Default)]
struct Crowd {
    quick: Vec<u64>,
    /// These all come at once.
    slow: Vec<u64>,
}

impl Crowd {
    /// The first half and the second, which has all that take longest.
    fn halves(seed: u64, count: u64) -> [Self; 2] {
        let mut halves: [Crowd; 2] = Default::default();
        for at in 0..count {
            let is_first = at < count / 2;
            if at % SLOW_ONE_IN != 1 {
                halves[usize::from(!is_first)].quick.push(at);
            } else {
                let is_outwaited = stranger(seed, at).kind == OUTWAITED;
                halves[usize::from(is_outwaited || !is_first)].slow.push(at);
            }
        }
        halves
    }
}

/// Strangers that come, so many at once.
struct Coming {
    workers: Vec<JoinHandle<()>>,
    met: Arc<Mutex<Met>>,
}

/// What strangers met with.
#[derive(Default)]
struct Met {
    told: Told,
    wrong: Vec<String>,
}

impl Coming {
    /// Lets the strangers of these numbers come, and says which part of them is there.
    fn begin(
        runtime: &Runtime,
        node: &Node,
        seed: u64,
        numbers: Vec<u64>,
        at_once: usize,
        part: &Arc<AtomicUsize>,
    ) -> Self {
        let (next, met): (Arc<AtomicUsize>, Arc<Mutex<Met>>) = Default::default();
        let numbers: Arc<[u64]> = numbers.into();
        let work = |_| {
            let (next, met, numbers) = (next.clone(), met.clone(), numbers.clone());
            let (address, part) = (node.address().to_owned(), part.clone());
            runtime.spawn(async move {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&at) = numbers.get(place) else { return };
                    // Part 0 is what was before.
                    part.fetch_max(1 + place * PARTS / numbers.len(), Ordering::Relaxed);
                    let attack = stranger(seed, at);
                    let outcome = attack.run(&address).await;
                    let mut met = met.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(status) => {
                            *met.told.entry((attack.kind, status.unwrap_or(0))).or_default() += 1;
                        }
                        Err(wrong) => met.wrong.push(format!(
                            "{wrong}\nfor {attack}\n\
                             repeat with ASPEN_ABUSE_SEED={seed} ASPEN_ABUSE_ONLY={at}\n"
                        )),
                    }
                    if met.wrong.len() >= WRONG_MAX {
                        return;
                    }
                }
            })
        };
        let workers = (0..at_once).map(work).collect();
        Coming { workers, met }
    }

    /// Waits until all have gone, and gives what they were told.
    #[track_caller]
    fn end(self, runtime: &Runtime, node: &Node) -> Told {
        for worker in self.workers {
            runtime.block_on(worker).expect("no panic");
        }
        let met = std::mem::take(&mut *self.met.lock().unwrap_or_else(PoisonError::into_inner));
        let wrong = met.wrong.join("\n");
        assert!(wrong.is_empty(), "{wrong}\nthe node's log:\n{}", node.log());
        met.told
    }
}

#[test]
fn strangers_that_send_anything_are_answered_and_leave_nothing_behind() {
    let count = number("ASPEN_ABUSE").unwrap_or(STRANGERS);
    let seed = number("ASPEN_ABUSE_SEED").unwrap_or(1);
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    // What strangers cost their own machines is to be nobody's loss here.
    let politely = || {
        let _ = nice(NICE);
    };
    let runtime = Builder::new_multi_thread().enable_all().on_thread_start(politely).build();
    let runtime = runtime.expect("a runtime");
    let parts = Arc::new(AtomicUsize::new(0));
    let none = Arc::default();
    let come =
        |numbers, at_once, part| Coming::begin(&runtime, &node, seed, numbers, at_once, part);
    if let Some(only) = number("ASPEN_ABUSE_ONLY") {
        println!("{}", stranger(seed, only));
        println!("was told {:?}", come(vec![only], 1, &none).end(&runtime, &node));
        return;
    }
    // Nothing that strangers do here holds them up, only what the node does.
    let of_others = Runtime::new().expect("a runtime");
    let neighbours = Neighbours::begin(&of_others, node.url(), &parts);
    // The machine has other work to do, which these notice as well.
    let elsewhere_dir = tempfile::tempdir().expect("a directory");
    let elsewhere = Node::start(elsewhere_dir.path(), &[]);
    let others_elsewhere = Neighbours::begin(&of_others, elsewhere.url(), &parts);
    let sockets = node.open_sockets();

    // What a node makes once for all, such as room for its largest requests, it has made after half of
    // them.
    let [first, then] = Crowd::halves(seed, count);
    let slow = come(first.slow.clone(), first.slow.len(), &none);
    let mut told = come(first.quick, AT_ONCE, &none).end(&runtime, &node);
    told.extend(slow.end(&runtime, &node));
    assert!(
        until(|| node.open_sockets() <= sockets),
        "connections are left of the first strangers"
    );
    neighbours.forget();
    others_elsewhere.forget();
    runtime.block_on(async { sleep(QUIET).await });
    let before = node.memory_mib("VmRSS");
    let files = node.open_files("");

    let began = Instant::now();
    let slow = come(then.slow.clone(), then.slow.len(), &none);
    let more = come(then.quick, AT_ONCE, &parts).end(&runtime, &node);
    let took = began.elapsed();
    for (of, times) in slow.end(&runtime, &node).into_iter().chain(more) {
        *told.entry(of).or_default() += times;
    }
    let most = node.memory_mib("VmHWM");

    let Waits { calm, meanwhile, acknowledged } = neighbours.end(&of_others, node.url());
    let there = others_elsewhere.end(&of_others, elsewhere.url());
    println!(
        "half of {count} strangers in {took:.1?}, {before:.1} MiB before and {most:.1} at most"
    );
    println!("99 % of others' requests within {calm:.1?} before, {meanwhile:.1?} meanwhile");
    println!("and elsewhere within {:.1?} and {:.1?}", there.calm, there.meanwhile);
    println!("{acknowledged} acknowledged writes of others; told: {told:?}");
    let ready = async {
        let mut http = Http::to(node.url());
        send(&mut http, Method::GET, "/readyz", "").await
    };
    let (status, answer) = runtime.block_on(ready);
    assert_eq!(status, 200, "{answer}");
    let is_borne = |(here, there): &(Option<Duration>, Option<Duration>)| {
        let most = NOTICED.max(3 * calm.max(there.unwrap_or_default()));
        here.is_none_or(|here| here <= most)
    };
    let borne = meanwhile.iter().copied().zip(there.meanwhile).filter(is_borne).count();
    assert!(borne > PARTS / 2, "others waited {meanwhile:?}, before {calm:?}");
    let sockets_left = || node.open_sockets();
    assert!(until(|| sockets_left() < sockets), "{} sockets, before {sockets}", sockets_left());
    let files_left = || node.open_files("");
    assert!(until(|| files_left() <= files), "{} files, before {files}", files_left());
    let kept = || node.memory_mib("VmRSS") - before;
    assert!(until(|| kept() <= KEPT_MIB_MAX), "{:.1} MiB more than {before:.1}", kept());
}
