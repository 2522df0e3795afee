//! Entries on their way to a follower: sent as fast as the lane takes them, answered in order.
//!
//! One task does both directions by turns, and it is openraft's own, which polls the stream of
//! answers: when it drops that, nothing is left running that would hold on to its requests. A
//! follower that stays silent while entries are out ends the stream with an error, and openraft
//! begins again from what it knows the follower to have.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use openraft::base::BoxStream;
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::time::{Instant, sleep_until};

use super::messages::{Appended, Garbled, Route, decode, encode, encode_append};
use super::types::TypeConfig;
use crate::limits::APPEND_SILENCE_MAX;
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

    /// Sends until there is an answer; `None` when all requests are answered and no more come.
    async fn step(&mut self) -> Result<Option<Appended>, String> {
        loop {
            if self.requests.is_none() && self.sending.is_none() && self.unanswered == 0 {
                return Ok(None);
            }
            tokio::select! {
                biased;
                sent = send(&self.lane, &self.sending), if self.sending.is_some() => {
                    sent?;
                    self.sending = None;
                }
                answer = self.lane.recv() => {
                    let answer = answer.map_err(|ended| ended.to_string())?;
                    return self.answered(&answer).map(Some);
                }
                request = next_of(&mut self.requests),
                    if self.requests.is_some() && self.sending.is_none() => match request {
                    Some(request) => self.take(&request)?,
                    None => self.requests = None,
                },
                () = sleep_until(self.heard + APPEND_SILENCE_MAX), if self.unanswered > 0 => {
                    return Err(format!("no answer for {APPEND_SILENCE_MAX:?}"));
                }
            }
        }
    }

    fn take(&mut self, request: &Request) -> Result<(), Garbled> {
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
