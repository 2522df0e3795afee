//! A connection that is kept from one request to the next, for whoever sends many.
//!
//! It tells why there is no answer by a name that can be counted, and whether what was asked may
//! have been done all the same. It decides nothing more: no try is repeated that may have reached
//! the node.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use tokio::time::{Instant, timeout_at};

use super::{ANSWER_BYTES_MAX, Answer, Node, Problem, Request, refusal};
use crate::exit::Exit;

/// How long a connection may lie still and be used again: less than the 10 s after which a node
/// closes it, so that no request meets the end of its connection on the way.
const STILL_MAX: Duration = Duration::from_secs(5);

/// A connection to a node, made when it is needed.
#[derive(Debug)]
pub(crate) struct Held {
    node: Node,
    sender: Option<SendRequest<Full<Bytes>>>,
    used: Instant,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// No connection: nothing was sent.
    Absent,
    /// The connection ended before the answer did.
    Lost,
    /// Time was up before the answer came.
    Late,
    /// The answer has more bytes than are taken.
    TooLarge,
}

impl Unanswered {
    /// The name that it is counted under.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unanswered::Absent => "no-connection",
            Unanswered::Lost => "connection-lost",
            Unanswered::Late => "no-answer-in-time",
            Unanswered::TooLarge => "answer-too-large",
        }
    }

    /// Whether the node may have done what was asked.
    pub(crate) fn may_be_done(self) -> bool {
        self != Unanswered::Absent
    }
}

impl Node {
    /// A connection of its own, kept from one request to the next.
    pub(crate) fn held(&self) -> Held {
        Held { node: self.clone(), sender: None, used: Instant::now() }
    }
}

impl Held {
    /// Sends a request and waits for its whole answer.
    pub(crate) async fn send(&mut self, request: Request) -> Result<Answer, Unanswered> {
        let deadline = Instant::now() + self.node.timeout;
        let kept = self.sender.take().filter(|_| self.used.elapsed() < STILL_MAX);
        let (answer, sender) = self.exchange(kept, request, deadline).await?;
        (self.sender, self.used) = (Some(sender), Instant::now());
        Ok(answer)
    }

    async fn exchange(
        &self,
        mut kept: Option<SendRequest<Full<Bytes>>>,
        request: Request,
        deadline: Instant,
    ) -> Result<(Answer, SendRequest<Full<Bytes>>), Unanswered> {
        let writes = request.writes;
        let aimed = self.node.aimed(request);
        let mut message = self.node.prepare(aimed).map_err(|_| Unanswered::Absent)?;
        loop {
            let is_kept = kept.is_some();
            let mut sender = match kept.take() {
                // One that has ended meanwhile never becomes ready.
                Some(mut sender) => match timeout_at(deadline, sender.ready()).await {
                    Ok(Ok(())) => sender,
                    Ok(Err(_)) => continue,
                    Err(_) => return Err(Unanswered::Absent),
                },
                None => self.node.connect(deadline).await.map_err(|_| Unanswered::Absent)?,
            };
            let response = match timeout_at(deadline, sender.try_send_request(message)).await {
                Err(_) => return Err(Unanswered::Late),
                Ok(Ok(response)) => response,
                Ok(Err(mut error)) => match error.take_message() {
                    // The connection had ended before anything of it was sent.
                    Some(unsent) if is_kept => {
                        message = unsent;
                        continue;
                    }
                    Some(_) => return Err(Unanswered::Absent),
                    None => return Err(Unanswered::Lost),
                },
            };
            let (head, mut body) = response.into_parts();
            let mut bytes = BytesMut::new();
            loop {
                let frame = match timeout_at(deadline, body.frame()).await {
                    Ok(None) => break,
                    Ok(Some(Ok(frame))) => frame,
                    Ok(Some(Err(_))) => return Err(Unanswered::Lost),
                    Err(_) => return Err(Unanswered::Late),
                };
                let Some(data) = frame.data_ref() else { continue };
                if bytes.len() + data.len() > ANSWER_BYTES_MAX {
                    return Err(Unanswered::TooLarge);
                }
                bytes.extend_from_slice(data);
            }
            let (status, headers) = (head.status, head.headers);
            return Ok((Answer { status, headers, body: bytes.freeze(), writes }, sender));
        }
    }
}

impl Request {
    /// Whether it may change something.
    pub(crate) fn is_write(&self) -> bool {
        self.writes
    }
}

impl Answer {
    /// What it means for the caller, if it is no yes.
    pub(crate) fn exit(&self) -> Exit {
        refusal(self.status, &self.body, self.writes).exit()
    }

    /// The name of the problem that it is, as `docs/http.md` lists them; its status if it is none.
    pub(crate) fn problem(&self) -> String {
        let problem: Problem = serde_json::from_slice(&self.body).unwrap_or_default();
        match problem.r#type.rsplit(':').next() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("status-{}", self.status.as_u16()),
        }
    }
}
