//! For which node and which group the present task or thread works: what its log lines say besides.
//!
//! A process may run several nodes, and a line may come from a library below ours, so neither a
//! field of the process nor one of each line would do. Every task and thread of the seams goes on
//! where the one that started it was; a node's start and a group's work say where that is.
//!
//! It is a field of the task and not a span: one that is entered at every poll writes memory that all
//! threads share, and costs ten times as much (docs/decisions/0016). Whoever formats log lines asks
//! [`Here::present`]; nothing is ever decided by it.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::futures::TaskLocalFuture;

use crate::types::{GroupId, NodeId};

tokio::task_local! {
    static HERE: Here;
}

/// The number of the one node that the process has had, or one of these.
static ALONE: AtomicU64 = AtomicU64::new(NONE_YET);
const NONE_YET: u64 = 0;
const SEVERAL: u64 = u64::MAX;

/// For what a task or a thread works.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here {
    /// A start of a node, and its number once that is known. It is never freed: a few bytes a start,
    /// for which no task has to count who else looks at them.
    node: Option<&'static OnceLock<NodeId>>,
    group: Option<GroupId>,
}

impl Here {
    /// Where the present task or thread is.
    pub fn present() -> Self {
        HERE.try_with(|here| *here).unwrap_or_default()
    }

    /// At a node that starts; [`Here::is_node`] says which it is as soon as it is known.
    pub fn at_a_new_node() -> Self {
        Here { node: Some(Box::leak(Box::default())), group: None }
    }

    /// At a group of the present node.
    pub fn at_group(group: GroupId) -> Self {
        Here { group: Some(group), ..Here::present() }
    }

    /// At the present node, and none of its groups: where what serves them all begins.
    pub fn at_no_group() -> Self {
        Here { group: None, ..Here::present() }
    }

    /// From here on the present node has this number, also in the lines of tasks that it has started
    /// already.
    pub fn is_node(node: NodeId) {
        if let Some(known) = Here::present().node {
            let _ = known.set(node);
        }
        let became = |had| match had {
            NONE_YET => Some(node.0),
            had if had == node.0 => None,
            _ => Some(SEVERAL),
        };
        // Nobody relies on when others see it.
        let _ = ALONE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, became);
    }

    /// The number of the node. Tasks that a library has started for itself have that of the process's
    /// only node, if it has had one alone.
    pub fn node(&self) -> Option<NodeId> {
        match self.node {
            Some(known) => known.get().copied(),
            None => match ALONE.load(Ordering::Relaxed) {
                NONE_YET | SEVERAL => None,
                node => Some(NodeId(node)),
            },
        }
    }

    /// The group.
    pub fn group(&self) -> Option<GroupId> {
        self.group
    }

    /// Works on a future from here.
    pub fn scope<F: Future>(self, work: F) -> TaskLocalFuture<Here, F> {
        HERE.scope(self, work)
    }

    /// Runs a closure from here.
    pub fn run<T>(self, work: impl FnOnce() -> T) -> T {
        HERE.sync_scope(self, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seams::{Tasks, blocking, spawn_for_library, spawn_thread};

    fn present() -> (Option<u64>, Option<u64>) {
        let here = Here::present();
        (here.node().map(|node| node.0), here.group().map(|group| group.0))
    }

    #[tokio::test]
    async fn what_a_node_starts_is_its_own_also_before_it_has_its_number() {
        let (told, known) = tokio::sync::watch::channel(false);
        let node = async |number: u64| {
            let (done, early) = tokio::sync::oneshot::channel();
            let mut known = known.clone();
            let tasks = Tasks::new();
            tasks.spawn(async move {
                known.wait_for(|is_known| *is_known).await.expect("it is told");
                done.send(present()).expect("it is waited for");
            });
            assert_eq!(present().0, None, "nobody is taken for another");
            Here::is_node(NodeId(number));
            let group = Here::at_group(GroupId(7));
            let (done, thread) = tokio::sync::oneshot::channel();
            let started = group.run(|| {
                spawn_thread("one".into(), || done.send(present()).expect("it is waited for"))
            });
            started.expect("a thread").join().expect("it ends");
            let placed = Tasks::at(group);
            let (done, at) = tokio::sync::oneshot::channel();
            placed.spawn(async { done.send(present()).expect("it is waited for") });
            assert_eq!(at.await.expect("it ends"), (Some(number), Some(7)));
            let blocked = group.scope(blocking(present)).await;
            let task = group.run(|| spawn_for_library(async { present() })).await;
            let thread = thread.await;
            (early.await.expect("it ends"), [blocked, task.expect("a task"), thread.expect("told")])
        };
        let nodes = futures_util::future::join(
            Here::at_a_new_node().scope(node(3)),
            Here::at_a_new_node().scope(node(4)),
        );
        let (three, four) = futures_util::future::join(nodes, async {
            told.send_replace(true);
        })
        .await
        .0;
        assert_eq!(three, ((Some(3), None), [(Some(3), Some(7)); 3]));
        assert_eq!(four, ((Some(4), None), [(Some(4), Some(7)); 3]));
        assert_eq!(present(), (None, None), "who is at none of several is at none");
    }
}
