//! Those that come together are taken together.
//!
//! Whoever waits for one answer is woken with all others who do, and most ask again at once. The
//! first of them must not go alone, or the rest wait for its whole way: with 64 writers three of
//! four steps of Raft would be of one proposal.

use tokio::sync::mpsc;
use tokio::task::yield_now;

use crate::limits::COMPANY_TURNS_MAX;

/// Takes what comes together with what was taken, at most so much in all: others get their turn
/// first, as long as it brings more. No time is waited for, and one that is alone goes on after two
/// turns.
pub(super) async fn take_others<T>(queue: &mut mpsc::Receiver<T>, taken: &mut Vec<T>, most: usize) {
    let (mut turns, mut fruitless) = (0, 0);
    // Not everybody gets a turn each time: tokio looks to its timers and sockets in between.
    while taken.len() < most && turns < COMPANY_TURNS_MAX && fruitless < 2 {
        let before = taken.len();
        yield_now().await;
        while taken.len() < most
            && let Ok(next) = queue.try_recv()
        {
            taken.push(next);
        }
        turns += 1;
        fruitless = if taken.len() == before { fruitless + 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Barrier;

    use super::*;
    use crate::seams::Tasks;

    const WRITERS: usize = 64;

    #[tokio::test]
    async fn those_woken_together_are_taken_together() {
        let tasks = Tasks::new();
        let (queue, mut waiting) = mpsc::channel(WRITERS);
        let answered = Arc::new(Barrier::new(WRITERS));
        for writer in 0..WRITERS {
            let (queue, answered) = (queue.clone(), answered.clone());
            tasks.spawn(async move {
                answered.wait().await;
                // Some have more to do before they ask again.
                for _ in 0..writer % 4 {
                    yield_now().await;
                }
                queue.send(writer).await.unwrap();
            });
        }
        let mut taken = Vec::from_iter(waiting.recv().await);
        take_others(&mut waiting, &mut taken, WRITERS).await;
        assert_eq!(taken.len(), WRITERS);

        for writer in taken.drain(..) {
            queue.send(writer).await.unwrap();
        }
        take_others(&mut waiting, &mut taken, WRITERS - 1).await;
        assert_eq!(taken.len(), WRITERS - 1, "no more than may be");
        taken = Vec::from_iter(waiting.recv().await);
        take_others(&mut waiting, &mut taken, WRITERS).await;
        assert_eq!(taken.len(), 1, "one that is alone is not kept");
    }
}
