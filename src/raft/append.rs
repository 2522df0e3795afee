//! Entries on their way to a follower: sent as fast as the lane takes them, answered in order.
//!
//! How far a leader has committed is told with the entries that follow. openraft has it told at
//! once, in a request of its own, which under load comes a moment before those entries and costs
//! as much as they do: it is held back for that moment where entries follow each other closely.
//!
//! One task does both directions by turns, and it is openraft's own, which polls the stream of
//! answers: when it drops that, nothing is left running that would hold on to its requests. A
//! follower that stays silent while entries are out ends the stream with an error, and openraft
//! begins again from what it knows the follower to have.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::base::BoxStream;
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::{Instant, sleep_until};

use super::messages::{Appended, Garbled, Route, decode, encode, encode_append};
use super::types::TypeConfig;
use crate::limits::{APPEND_SILENCE_MAX, COMMIT_WAIT_MAX};
use crate::net::Lane;

type Request = AppendEntriesRequest<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Requests on one lane and their answers.
pub(super) struct Pipeline<S> {
    route: Route,
    lane: Lane,
    /// `None` once it has ended.
    requests: Option<S>,
    /// The message that waits for room on the lane.
    sending: Option<Bytes>,
    /// A request without entries, and until when it waits for one that has some.
    held: Option<(Instant, Request)>,
    pace: Pace,
    unanswered: usize,
    /// When the follower was last heard, or owed its first answer.
    heard: Instant,
    is_over: bool,
}

impl<S> Pipeline<S>
where
    S: Stream<Item = Request> + Send + Unpin + 'static,
{
    pub(super) fn new(route: Route, lane: Lane, requests: S) -> Result<Self, Garbled> {
        Ok(Pipeline {
            route,
            lane,
            requests: Some(requests),
            sending: Some(encode(&route)),
            held: None,
            pace: Pace::default(),
            unanswered: 0,
            heard: Instant::now(),
            is_over: false,
        })
    }

    /// The answers; dropping them drops the requests.
    pub(super) fn answers<'s>(self) -> BoxStream<'s, Answer> {
        Box::pin(stream::unfold(self, |mut pipeline| async move {
            let answer = pipeline.next().await?;
            Some((answer, pipeline))
        }))
    }

    async fn next(&mut self) -> Option<Answer> {
        if self.is_over {
            return None;
        }
        let answer = match self.step().await {
            Ok(Some(appended)) => Ok(appended.into()),
            Ok(None) => {
                self.is_over = true;
                return None;
            }
            Err(reason) => {
                let reason = format!("entries for node {}: {reason}", self.route.to);
                Err(NetworkError::from_string(reason).into())
            }
        };
        // Whatever is not plain progress ends the stream.
        self.is_over = !matches!(answer, Ok(Ok(_)));
        Some(answer)
    }

    /// Nothing is on its way, or waits to be: a lane that ends now is made anew for what comes next,
    /// and a follower that sleeps is not woken by it.
    fn is_idle(&self) -> bool {
        self.sending.is_none() && self.held.is_none() && self.unanswered == 0
    }

    /// Sends until there is an answer; `None` when all requests are answered and no more come, or
    /// none is there when the lane ends.
    async fn step(&mut self) -> Result<Option<Appended>, String> {
        loop {
            if self.sending.is_none() && self.requests.is_none() {
                match self.held.take() {
                    Some((_, request)) => self.begin(&request)?,
                    None if self.is_idle() => return Ok(None),
                    None => {}
                }
            }
            let held_until = self.held.as_ref().map(|(until, _)| *until);
            tokio::select! {
                biased;
                sent = send(&self.lane, &self.sending), if self.sending.is_some() => {
                    sent?;
                    self.sending = None;
                }
                answer = self.lane.recv() => match answer {
                    Ok(answer) => return self.answered(&answer).map(Some),
                    Err(_) if self.is_idle() => return Ok(None),
                    Err(ended) => return Err(ended.to_string()),
                },
                request = next_of(&mut self.requests),
                    if self.requests.is_some() && self.sending.is_none() => match request {
                    Some(request) => self.take(request)?,
                    None => self.requests = None,
                },
                () = until(held_until), if self.sending.is_none() => {
                    if let Some((_, request)) = self.held.take() {
                        self.begin(&request)?;
                    }
                }
                () = sleep_until(self.heard + APPEND_SILENCE_MAX), if self.unanswered > 0 => {
                    return Err(format!("no answer for {APPEND_SILENCE_MAX:?}"));
                }
            }
        }
    }

    /// Sends a request, or holds it back. One that is held has no answer of its own: openraft takes
    /// that of a later one for both.
    fn take(&mut self, request: Request) -> Result<(), Garbled> {
        let now = Instant::now();
        if request.entries.is_empty() && self.pace.is_close(now) {
            let until = self.held.take().map_or(now + COMMIT_WAIT_MAX, |(until, _)| until);
            self.held = Some((until, request));
            return Ok(());
        }
        self.held = None;
        if !request.entries.is_empty() {
            self.pace.entries_at(now);
        }
        self.begin(&request)
    }

    fn begin(&mut self, request: &Request) -> Result<(), Garbled> {
        self.sending = Some(encode_append(request)?);
        if self.unanswered == 0 {
            self.heard = Instant::now();
        }
        self.unanswered += 1;
        Ok(())
    }

    fn answered(&mut self, answer: &[u8]) -> Result<Appended, String> {
        let left = self.unanswered.checked_sub(1);
        self.unanswered = left.ok_or("an answer that nothing was asked for")?;
        self.heard = Instant::now();
        decode(answer)
    }
}

/// How closely requests with entries follow each other.
#[derive(Debug, Default)]
struct Pace {
    last: Option<Instant>,
    between: Option<Duration>,
}

impl Pace {
    fn entries_at(&mut self, now: Instant) {
        self.between = self.last.map(|last| now - last);
        self.last = Some(now);
    }

    /// Whether the next entries are likely to come sooner than what is held back must go.
    fn is_close(&self, now: Instant) -> bool {
        self.between.is_some_and(|between| between <= COMMIT_WAIT_MAX)
            && self.last.is_some_and(|last| now - last <= COMMIT_WAIT_MAX)
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// Gives a message to a lane; one that was cut off was not given.
async fn send(lane: &Lane, message: &Option<Bytes>) -> Result<(), String> {
    match message {
        Some(message) => lane.send(message.clone()).await.map_err(|ended| ended.to_string()),
        None => std::future::pending().await,
    }
}

/// The next item of a stream that may be there.
async fn next_of<S: Stream + Unpin>(stream: &mut Option<S>) -> Option<S::Item> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}
