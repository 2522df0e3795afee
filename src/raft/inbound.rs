//! What other replicas ask of those on this node.
//!
//! A message says which replica of which group it is from and for. It is heard only if its link's
//! key is that member's and this replica is the one it means: a node that came back under another
//! number must not be taken for what it was, nor take itself for it. Votes are believed only from
//! the node they are for.
//!
//! Raft is called in tasks of the replica: a link that breaks must not cut a call off half way.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::contacts::Directory;
use super::messages::{
    Answer, Appended, Ask, Offer, Question, Receipt, Route, decode, decode_append, encode,
};
use super::reads::{By, NotConfirmed};
use super::replica::Replica;
use super::types::{TypeConfig, vote_out};
use crate::limits::{
    APPEND_SILENCE_MAX, APPEND_UNANSWERED_BYTES_MAX, BEATS_WAIT_MAX, CONTROL_BYTES_MAX,
    GATHERED_MAX, VOTES_WAIT_MAX,
};
use crate::net::{Lane, Refused, RefusedCode, read_message, write_message};
use crate::seams::Here;
use crate::seams::network::{StreamIn, StreamOut};
use crate::types::{EndpointId, GroupId, NodeId};
use crate::wire::StreamKind;

/// Finds a group's replica on this node. One that was put away, or is starting, is waited for.
pub type FindReplica = Arc<dyn Fn(GroupId) -> BoxFuture<'static, Option<Replica>> + Send + Sync>;

/// Where the messages of other replicas come in; clones are the same.
#[derive(Clone)]
pub struct Inbound {
    find: FindReplica,
    directory: Arc<dyn Directory>,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Inbound({:?})", self.directory)
    }
}

fn denied(reason: impl Into<String>) -> Refused {
    Refused::new(RefusedCode::Denied, reason)
}

fn malformed(reason: impl Into<String>) -> Refused {
    Refused::new(RefusedCode::Malformed, reason)
}

impl Inbound {
    /// For the replicas that `find` finds and the members that `directory` knows.
    pub fn new(find: FindReplica, directory: Arc<dyn Directory>) -> Self {
        Inbound { find, directory }
    }

    /// Answers a call of the kinds `Vote`, `Heartbeat`, `Transfer` and `ReadIndex`.
    pub async fn call(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        request: Bytes,
    ) -> Result<Bytes, Refused> {
        let wait = match kind {
            StreamKind::Heartbeat => Some(BEATS_WAIT_MAX),
            StreamKind::Vote => Some(VOTES_WAIT_MAX),
            _ => None,
        };
        if let Some(wait) = wait {
            let asks: Vec<Ask> = decode(&request).map_err(malformed)?;
            if asks.len() > GATHERED_MAX {
                return Err(malformed(format!(
                    "more than {GATHERED_MAX} questions in one message"
                )));
            }
            let until = Instant::now() + wait;
            let answers = asks.into_iter().map(async |ask| {
                let answering = Here::at_group(ask.route.group).scope(self.answer(peer, kind, ask));
                let answer = timeout_at(until, answering).await;
                answer.unwrap_or_else(|_| Ok(Answer::Unavailable("it takes long".into())))
            });
            return Ok(encode(&together(join_all(answers).await)?));
        }
        let ask: Ask = decode(&request).map_err(malformed)?;
        let group = ask.route.group;
        Ok(encode(&Here::at_group(group).scope(self.answer(peer, kind, ask)).await?))
    }

    /// Answers one question of a call.
    async fn answer(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        Ask { route, what }: Ask,
    ) -> Result<Answer, Refused> {
        let finding = self.replica(peer, &route);
        let replica = match kind {
            // One that does not run must not keep the others' waiting; the next comes soon.
            StreamKind::Heartbeat => match finding.now_or_never() {
                Some(found) => found?,
                None => return Ok(Answer::Unavailable("the replica is not open yet".into())),
            },
            _ => finding.await?,
        };
        let (belongs, claims) = match &what {
            Question::Vote(ballot) | Question::PreVote(ballot) => {
                (StreamKind::Vote, Some(ballot.vote))
            }
            Question::Heartbeat(beat) => (StreamKind::Heartbeat, Some(beat.vote)),
            Question::Transfer(handover) => (StreamKind::Transfer, Some(handover.vote)),
            Question::ReadIndex => (StreamKind::ReadIndex, None),
        };
        if kind != belongs {
            return Err(malformed("the question has no place on a stream of this kind"));
        }
        if claims.is_some_and(|vote| vote.node != route.from.0) {
            return Err(denied("the vote is not the sender's"));
        }
        match &what {
            // One that begins asks as well, and is no use of the group.
            Question::ReadIndex if replica.members().voters.contains(&route.from) => {
                replica.note_use();
            }
            Question::Heartbeat(beat) => replica.claims().note(beat.vote, Instant::now()),
            Question::Transfer(_) => replica.claims().forget(),
            Question::Vote(ballot) | Question::PreVote(ballot)
                if replica.behind().speaks_against(ballot.last) =>
            {
                return Ok(Answer::Unavailable("it has to catch up first".into()));
            }
            Question::PreVote(ballot) if replica.claims().speak_against(ballot, Instant::now()) => {
                return Ok(Answer::Unavailable("it hears its leader".into()));
            }
            _ => {}
        }
        let answering = replica.clone();
        let answer = replica.in_own_task(async move { answering.answer(what).await }).await;
        Ok(answer.unwrap_or_else(|| Answer::Unavailable("the replica stops".into())))
    }

    /// Serves a lane to a group, to its end: a leader's entries.
    pub async fn lane(&self, peer: EndpointId, group: GroupId, lane: Lane) {
        Here::at_group(group).scope(self.follow_lane(peer, group, lane)).await;
    }

    async fn follow_lane(&self, peer: EndpointId, group: GroupId, lane: Lane) {
        let first = timeout(APPEND_SILENCE_MAX, lane.recv()).await;
        let Ok(Ok(first)) = first else { return };
        match self.follower(peer, group, &first).await {
            Ok((replica, from)) => {
                let following = replica.clone();
                replica.in_own_task(async move { following.follow(from, lane).await }).await;
            }
            Err(refused) => tracing::debug!(%peer, group = group.0, %refused, "dropped a lane"),
        }
    }

    /// Serves a stream of the kind `Snapshot`, to its end.
    pub async fn snapshot(&self, peer: EndpointId, mut out: StreamOut, mut input: StreamIn) {
        let first = read_message(&mut input, CONTROL_BYTES_MAX);
        let Ok(Ok(first)) = timeout(APPEND_SILENCE_MAX, first).await else { return };
        let receipt = match self.receiver(peer, &first).await {
            Ok((replica, offer)) => match replica.higher_vote(offer.vote) {
                Some(vote) => Receipt::HigherVote(vote),
                None => {
                    let serving = replica.arrivals().serve(offer, out, input);
                    return Here::at_group(replica.group()).scope(serving).await;
                }
            },
            Err(refused) => Receipt::Refused(refused.reason),
        };
        // A sender that is gone need not hear it.
        let _ = timeout(APPEND_SILENCE_MAX, write_message(&mut out, &encode(&receipt))).await;
    }

    /// The replica that a lane's first message is for, and whom it is to follow.
    async fn follower(
        &self,
        peer: EndpointId,
        group: GroupId,
        first: &[u8],
    ) -> Result<(Replica, NodeId), Refused> {
        let route: Route = decode(first).map_err(malformed)?;
        if route.group != group {
            return Err(malformed("the lane is another group's"));
        }
        Ok((self.replica(peer, &route).await?, route.from))
    }

    /// The replica that a snapshot is for, and what is said of it.
    async fn receiver(&self, peer: EndpointId, first: &[u8]) -> Result<(Replica, Offer), Refused> {
        let offer: Offer = decode(first).map_err(malformed)?;
        if offer.vote.node != offer.route.from.0 {
            return Err(denied("the vote is not the sender's"));
        }
        Ok((self.replica(peer, &offer.route).await?, offer))
    }

    /// The replica that a message is for, if its sender is who it says.
    async fn replica(&self, peer: EndpointId, route: &Route) -> Result<Replica, Refused> {
        if self.directory.node(peer) != Some(route.from) {
            return Err(denied(format!("the sender is not known as node {}", route.from)));
        }
        let not_here = || {
            let what = format!("group {} has no replica of node {} here", route.group, route.to);
            Refused::new(RefusedCode::NotHere, what)
        };
        let replica = (self.find)(route.group).await.ok_or_else(not_here)?;
        if replica.node() == route.to { Ok(replica) } else { Err(not_here()) }
    }
}

/// The answers of one message: a question that is refused is one without an answer, unless all are.
fn together(answers: Vec<Result<Answer, Refused>>) -> Result<Vec<Answer>, Refused> {
    if let Some(Err(refused)) = answers.first()
        && answers.iter().all(Result::is_err)
    {
        return Err(refused.clone());
    }
    let answer = |refused: Refused| Answer::Unavailable(refused.reason);
    Ok(answers.into_iter().map(|answered| answered.unwrap_or_else(answer)).collect())
}

impl Replica {
    /// Runs what must not be cut off; `None` if the replica stops meanwhile.
    pub(super) async fn in_own_task<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        self.tasks().spawn(async move {
            // Whoever asked may be gone.
            let _ = done.send(work.await);
        });
        result.await.ok()
    }

    async fn answer(&self, what: Question) -> Answer {
        let raft = self.raft();
        let unavailable = |error: &dyn fmt::Display| Answer::Unavailable(error.to_string());
        let slept = match &what {
            // Its leader had it sleep, and sent this before; one that is awake sends more.
            Question::Heartbeat(_) if self.fell_asleep_just_now() => false,
            _ => self.touch(),
        };
        // Whoever asks for votes may have missed that its group sleeps. Its leader is asked, too, and
        // shows itself if it is there; whoever finds none asks again.
        if slept && matches!(what, Question::PreVote(_)) {
            return Answer::Unavailable("it slept".into());
        }
        match what {
            Question::Vote(ballot) => match raft.vote(ballot.request()).await {
                Ok(response) => Answer::voted(&response),
                Err(error) => unavailable(&error),
            },
            Question::PreVote(ballot) => match raft.pre_vote(ballot.request()).await {
                Ok(response) => Answer::voted(&response),
                Err(error) => unavailable(&error),
            },
            Question::Heartbeat(beat) => match raft.append_entries(beat.request()).await {
                Ok(response) => appended(&response, beat.prev),
                Err(error) => unavailable(&error),
            },
            Question::Transfer(handover) => {
                match raft.handle_transfer_leader(handover.request()).await {
                    Ok(response) => Answer::Transferred(response.into()),
                    Err(error) => unavailable(&error),
                }
            }
            Question::ReadIndex => match self.reads().pass(By::Itself).await {
                // The first entry of its term may not be committed yet, and whoever asks relies on it.
                Ok(Ok(id)) => match self.await_applied(Ok(id)).await {
                    Ok(id) => Answer::ReadIndex(id),
                    Err(_) => Answer::Unavailable("it is stopping".into()),
                },
                Ok(Err(NotConfirmed::NotLeader { leader })) => Answer::NotLeader(leader),
                Ok(Err(NotConfirmed::Unsure { reason })) => Answer::Unavailable(reason),
                Err(error) => unavailable(&error),
            },
        }
    }

    /// Takes a leader's entries from a lane and answers them in order.
    async fn follow(&self, leader: NodeId, lane: Lane) {
        let lane = Arc::new(lane);
        let over = CancellationToken::new();
        let _over = over.clone().drop_guard();
        let unanswered = Arc::new(Unanswered::default());
        let requests = requests(self.clone(), leader, lane.clone(), unanswered.clone(), over);
        let mut answers = std::pin::pin!(self.raft().stream_append(requests));
        while let Some(Ok(answer)) = answers.next().await {
            unanswered.answered();
            if lane.send(encode(&Appended::from(answer))).await.is_err() {
                return;
            }
        }
    }
}

/// The requests of a lane, no more of them at once than may be unanswered. They end with the lane,
/// with what can't be understood, and with the answers.
fn requests(
    replica: Replica,
    leader: NodeId,
    lane: Arc<Lane>,
    unanswered: Arc<Unanswered>,
    over: CancellationToken,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
    let state = (replica, lane, unanswered, over);
    stream::unfold(state, move |(replica, lane, unanswered, over)| async move {
        let next = async {
            let message = lane.recv().await.map_err(|ended| ended.to_string())?;
            let request = decode_append(&message)?;
            if request.vote.leader_id.node_id != leader.0 {
                return Err("the vote is not the sender's".to_owned());
            }
            unanswered.taken(message.len()).await;
            replica.touch();
            Ok(request)
        };
        match over.run_until_cancelled(next).await? {
            Ok(request) => Some((request, (replica, lane, unanswered, over))),
            Err(reason) => {
                tracing::debug!(%leader, reason, "a leader's lane has ended");
                None
            }
        }
    })
}

/// The bytes of a lane that are taken and not answered.
#[derive(Debug)]
struct Unanswered {
    room: Arc<Semaphore>,
    taken: Mutex<VecDeque<OwnedSemaphorePermit>>,
}

impl Default for Unanswered {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(APPEND_UNANSWERED_BYTES_MAX));
        Unanswered { room, taken: Mutex::default() }
    }
}

impl Unanswered {
    /// Waits for room for a request.
    async fn taken(&self, bytes: usize) {
        let bytes = bytes.clamp(1, APPEND_UNANSWERED_BYTES_MAX) as u32;
        // The semaphore is never closed.
        if let Ok(permit) = self.room.clone().acquire_many_owned(bytes).await {
            self.taken.lock().unwrap_or_else(PoisonError::into_inner).push_back(permit);
        }
    }

    /// The oldest request is answered.
    fn answered(&self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    }
}

fn appended(
    response: &AppendEntriesResponse<TypeConfig>,
    prev: Option<crate::store::log::EntryId>,
) -> Answer {
    Answer::Appended(match response {
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
            Appended::Upto(prev)
        }
        AppendEntriesResponse::Conflict => match prev {
            Some(prev) => Appended::Conflict(prev),
            None => return Answer::Unavailable("nothing conflicts with the beginning".into()),
        },
        AppendEntriesResponse::HigherVote(vote) => Appended::HigherVote(vote_out(vote)),
    })
}
