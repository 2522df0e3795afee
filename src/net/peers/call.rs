//! A call: one message to the peer and one back, on a stream of its own.
//!
//! ```text
//! request   preface · length u32 · bytes · end
//! answer    0 · length u32 · bytes · end
//! refusal   code u8 · length u32 · reason · end
//! ```

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::peer::Connected;
use super::serve::{ANSWERED, Refused};
use crate::limits::CONTROL_BYTES_MAX;
use crate::net::message::{MessageError, length, priority, read_message};
use crate::seams::network::{CloseCode, LinkLost, StreamIn};
use crate::wire::{self, Malformed, StreamKind};

/// A call that brought no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum CallFailed {
    /// The peer has not seen it: it may be sent again, or to another.
    #[error("the peer was not reached: {0}")]
    NotSent(LinkLost),
    /// The peer may have seen it, and done what it asks.
    #[error("no answer came: {0}")]
    Lost(LinkLost),
    /// The peer has seen it and done nothing.
    #[error("{0}")]
    Refused(Refused),
}

/// Sends a request over a link and waits for its answer.
pub(super) async fn call(
    connected: &Connected,
    kind: StreamKind,
    request: &Bytes,
    deadline: Instant,
) -> Result<Bytes, CallFailed> {
    let opening = async {
        let place = connected.place(kind, request.len()).await;
        connected.link.open(priority(kind)).await.map(|(out, input)| (place, out, input))
    };
    let (_place, mut out, mut input) = match timeout_at(deadline, opening).await {
        Ok(opened) => opened.map_err(CallFailed::NotSent)?,
        Err(_) => {
            let lost = LinkLost::silently("the peer takes no further stream in time");
            return Err(CallFailed::NotSent(lost));
        }
    };
    let exchange = async {
        // In one piece, so that a small call is one packet.
        let mut head = BytesMut::with_capacity(wire::PREFACE_BYTES + wire::LENGTH_BYTES);
        head.extend_from_slice(&wire::preface(kind));
        head.extend_from_slice(&length(request));
        if request.len() <= IN_ONE_PIECE_BYTES_MAX {
            head.extend_from_slice(request);
            out.write_all(&head).await?;
        } else {
            out.write_all(&head).await?;
            out.write_all(request).await?;
        }
        out.shutdown().await?;
        read_answer(&mut input, kind).await
    };
    match timeout_at(deadline, exchange).await {
        Ok(Ok(answer)) => {
            connected.hear();
            answer.map_err(CallFailed::Refused)
        }
        Ok(Err(error)) => {
            if let MessageError::Malformed(error) = &error {
                connected.link.close(CloseCode::Malformed, &error.to_string());
            }
            Err(CallFailed::Lost(connected.why(error)))
        }
        Err(_) => Err(CallFailed::Lost(LinkLost::silently("the peer did not answer in time"))),
    }
}

/// A request up to this length is copied behind its head.
const IN_ONE_PIECE_BYTES_MAX: usize = 16 * 1024;

async fn read_answer(
    input: &mut StreamIn,
    kind: StreamKind,
) -> Result<Result<Bytes, Refused>, MessageError> {
    match input.read_u8().await? {
        ANSWERED => Ok(Ok(read_message(input, kind.message_bytes_max()).await?)),
        code => {
            let reason = read_message(input, CONTROL_BYTES_MAX).await?;
            let refused = Refused::decode(code, &reason);
            Ok(Err(refused.ok_or(Malformed::Other("a refusal of an unknown kind"))?))
        }
    }
}
