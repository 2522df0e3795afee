//! Programs that come with a ticket: the node's side of their links.
//!
//! ```text
//! first stream    ticket: hello →, whereabouts ← …
//! then            request: asked →, response ←      one stream each
//!                 watch: asked →, shown ← …
//! ```
//!
//! Nothing is answered before the ticket is decided. Then the client is told where the members are,
//! and again when that changes. Whether the ticket still holds is asked with each request: one that
//! was revoked ends what its holder has under way. Requests are held against the ticket's scope
//! (`scope`) and answered at the node's desk like any other. A guest is bounded in requests, bytes
//! and time, and all guests together in bytes.

use std::fmt::Debug;
use std::sync::Arc;

use aspen_tickets::ClientTicket;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::desk::{Desk, Hop, respond};
use super::request::{Asked, Failure, Hello, Reply, Request, Response, WatchAsked, Whereabouts};
use super::{scope, shown};
use crate::error::{Denied, Error};
use crate::limits::{
    CALL_BYTES_MAX, CALL_TRANSFER_MAX, CONTROL_BYTES_MAX, GUEST_ADMIT_MAX, GUEST_BYTES_MAX,
    GUEST_REQUESTS_MAX, PREFACE_MAX,
};
use crate::machine::ops::AnswerBody;
use crate::net::{MessageError, read_body, read_length, read_message, read_preface, write_message};
use crate::roster::clients::Permit;
use crate::roster::refused::Refused;
use crate::seams::Tasks;
use crate::seams::network::{CloseCode, Link, StreamIn, StreamOut};
use crate::types::{EndpointId, GroupId, KeyspaceName};
use crate::wire::{Malformed, StreamKind};

/// Who decides about clients' tickets: the node, from the roster.
pub trait Authorise: Debug + Send + Sync + 'static {
    /// Decides the ticket that a client shows, and counts its use. The key is the one that the
    /// client's link has proven.
    fn authorise(
        &self,
        client: EndpointId,
        ticket: ClientTicket,
    ) -> BoxFuture<'static, Result<Permit, NotPermitted>>;

    /// Whether what was permitted still is.
    fn still(&self, permit: &Permit) -> Result<(), Refused>;

    /// A secret that only the members share, and that stays: it proves whose a session is. Derived
    /// for this purpose alone.
    fn session_secret(&self) -> [u8; 32];
}

/// Why a ticket is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// It is not good.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It can't be decided now; another node may.
    #[error("the ticket can't be decided now: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl Desk {
    /// Serves a client's link, to its end.
    pub async fn serve_link(&self, link: Arc<dyn Link>, authorise: Arc<dyn Authorise>) {
        let admitted = timeout(GUEST_ADMIT_MAX, admit(self, &link, &*authorise)).await;
        let (permit, told, news) = match admitted {
            Ok(Ok(admitted)) => admitted,
            Ok(Err((code, reason))) => return link.close(code, &reason),
            Err(_) => return link.close(CloseCode::Busy, "the ticket was not decided in time"),
        };
        let tasks = Tasks::new();
        let _end = tasks.abort_on_drop();
        let guest = Arc::new(Guest {
            desk: self.clone(),
            secret: authorise.session_secret(),
            authorise,
            permit,
            requests: Arc::new(Semaphore::new(GUEST_REQUESTS_MAX)),
            bytes: Arc::new(Semaphore::new(GUEST_BYTES_MAX)),
            link: link.clone(),
        });
        let telling = guest.clone();
        tasks.spawn(async move { telling.tell(told, news).await });
        while let Some((place, out, input)) = guest.next_stream().await {
            let guest = guest.clone();
            tasks.spawn(async move {
                let _place = place;
                if let Err(MessageError::Malformed(error)) = guest.stream(out, input).await {
                    guest.link.close(CloseCode::Malformed, &error.to_string());
                }
            });
        }
    }
}

/// Takes the client's ticket, and welcomes it: it is told where the members are, on a stream that
/// stays.
async fn admit(
    desk: &Desk,
    link: &Arc<dyn Link>,
    authorise: &dyn Authorise,
) -> Result<(Permit, Whereabouts, StreamOut), (CloseCode, String)> {
    let malformed = |error: String| (CloseCode::Malformed, error);
    let lost = |error: MessageError| malformed(error.to_string());
    let accepted = timeout(PREFACE_MAX, link.accept()).await;
    let (mut out, mut input) = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(lost)) => return Err((CloseCode::Done, lost.reason)),
        Err(_) => return Err(malformed("no ticket came in time".into())),
    };
    match read_preface(&mut input).await.map_err(lost)? {
        StreamKind::Ticket => {}
        _ => return Err((CloseCode::BadTicket, "a client shows its ticket first".into())),
    }
    let hello = read_message(&mut input, CONTROL_BYTES_MAX).await.map_err(lost)?;
    let hello = Hello::decode(&hello).map_err(|error| malformed(error.to_string()))?;
    let ticket: ClientTicket =
        hello.ticket.parse().map_err(|error| bad_ticket(&error as &dyn std::error::Error))?;
    let permit = authorise.authorise(link.peer(), ticket).await.map_err(|error| match error {
        NotPermitted::Refused(refused) => bad_ticket(&refused),
        NotPermitted::Unavailable { .. } => (CloseCode::Busy, error.to_string()),
    })?;
    let told = desk.members().whereabouts();
    // A client that is gone by now is noticed with its next stream.
    let _ = write_message(&mut out, &told.encode()).await;
    Ok((permit, told, out))
}

fn bad_ticket(error: &dyn std::error::Error) -> (CloseCode, String) {
    (CloseCode::BadTicket, error.to_string())
}

/// A client that was let in.
struct Guest {
    desk: Desk,
    authorise: Arc<dyn Authorise>,
    secret: [u8; 32],
    permit: Permit,
    requests: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    link: Arc<dyn Link>,
}

/// Bytes held for a guest, counted twice: for its link, and for all.
type Held = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Guest {
    /// The next stream that the client opened, once it may have one more; `None` when it is gone.
    async fn next_stream(&self) -> Option<(OwnedSemaphorePermit, StreamOut, StreamIn)> {
        let place = tokio::select! {
            biased;
            _lost = self.link.closed() => return None,
            place = self.requests.clone().acquire_owned() => place.ok()?,
        };
        let (out, input) = self.link.accept().await.ok()?;
        Some((place, out, input))
    }

    async fn stream(&self, mut out: StreamOut, mut input: StreamIn) -> Result<(), MessageError> {
        match read_preface(&mut input).await? {
            StreamKind::Request => self.request(Hop::Last, out, input).await,
            StreamKind::Forward => self.request(Hop::First, out, input).await,
            StreamKind::Watch => {
                let read = read_message(&mut input, CONTROL_BYTES_MAX);
                let message = bounded(read).await?;
                let asked = WatchAsked::decode(&message).map_err(|_| not_ours())?;
                self.watch(asked, &mut out, &mut input).await;
                Ok(())
            }
            _ => Err(Malformed::Other("a stream of a kind that no client opens").into()),
        }
    }

    async fn request(
        &self,
        hop: Hop,
        mut out: StreamOut,
        mut input: StreamIn,
    ) -> Result<(), MessageError> {
        let read = async {
            let length = read_length(&mut input, CALL_BYTES_MAX).await?;
            let held = self.hold(length).await;
            Ok::<_, MessageError>((held, read_body(&mut input, length).await?))
        };
        let (held, message) = bounded(read).await?;
        let asked = Asked::decode(&message).map_err(|_| not_ours())?;
        let is_write = asked.request.is_write();
        let response = respond(self.answer(asked, hop).await, is_write);
        drop((held, message));
        let _held = self.hold(response.len()).await;
        bounded(write(&mut out, response)).await
    }

    /// Tells where the members are each time that it changes, until the client does not listen.
    async fn tell(&self, mut told: Whereabouts, mut news: StreamOut) {
        loop {
            told = self.desk.members().moved(&told).await;
            let message = told.encode();
            let telling = timeout(CALL_TRANSFER_MAX, write_message(&mut news, &message));
            if self.still_permitted().is_err() || !matches!(telling.await, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn hold(&self, bytes: usize) -> Held {
        // No message is longer than either has room for.
        let bytes = bytes.min(CALL_BYTES_MAX) as u32;
        let own = self.bytes.clone().acquire_many_owned(bytes).await;
        let all = self.desk.guest_bytes.clone().acquire_many_owned(bytes).await;
        let never = "the semaphore is never closed";
        (own.expect(never), all.expect(never))
    }

    async fn answer(&self, mut asked: Asked, hop: Hop) -> Response {
        let client = self.link.peer();
        if let Err(denied) = self.check(&mut asked.request, client) {
            return Err(self.desk.refuse(&asked.request, denied));
        }
        let group = asked.request.group();
        let reply = self.desk.answer_asked(asked, hop).await?;
        Ok(match reply {
            Reply::Answer { answer, .. } => {
                let proof = match answer.body {
                    AnswerBody::Session(id) => Some(scope::prove(&self.secret, group, id, client)),
                    _ => None,
                };
                Reply::Answer { answer, proof }
            }
            other @ (Reply::Lease { .. } | Reply::Located(_)) => other,
        })
    }

    /// Holds a request against the client's ticket.
    fn check(&self, request: &mut Request, client: EndpointId) -> Result<(), Denied> {
        self.still_permitted()?;
        self.desk.check_changes_anything(request)?;
        scope::check_session(&self.secret, request, client)?;
        let keyspace = self.keyspace_of(request.group());
        scope::check(&self.permit, keyspace.as_ref(), request)
    }

    /// The keyspace that a group is a shard of.
    fn keyspace_of(&self, group: GroupId) -> Option<KeyspaceName> {
        self.desk.members().keyspace_of(group)
    }

    async fn watch(&self, asked: WatchAsked, out: &mut StreamOut, input: &mut StreamIn) {
        let may_go_on = || {
            self.still_permitted()?;
            let keyspace = self.keyspace_of(asked.group);
            scope::check_watch(&self.permit, keyspace.as_ref(), &asked.range)
        };
        shown::serve(&self.desk, asked.clone(), &may_go_on, out, input).await;
    }

    /// A ticket that is no longer good ends the link: the client learns why, and stops trying.
    fn still_permitted(&self) -> Result<(), Denied> {
        self.authorise.still(&self.permit).map_err(|refused| {
            let reason = refused.to_string();
            self.link.close(CloseCode::BadTicket, &reason);
            Denied::Ticket { reason }
        })
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        Failure::Final(Error::Denied(denied))
    }
}

fn not_ours() -> MessageError {
    Malformed::Other("a message that can't be understood").into()
}

async fn write(out: &mut StreamOut, message: Bytes) -> Result<(), MessageError> {
    write_message(out, &message).await?;
    out.shutdown().await?;
    Ok(())
}

/// A client that stands still is given up, so that it holds nothing for ever.
async fn bounded<T>(
    transfer: impl Future<Output = Result<T, MessageError>>,
) -> Result<T, MessageError> {
    match timeout(CALL_TRANSFER_MAX, transfer).await {
        Ok(done) => done,
        Err(_) => Err(MessageError::Slow),
    }
}
