//! Messages on streams: a stream's head, then messages with their length in front.
//!
//! What arrives is bounded before it is kept: a length past the bound is refused, and memory for a
//! message grows with what has arrived of it, not with what was announced.

use std::io;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits::PREFACE_MAX;
use crate::seams::network::{Link, LinkLost, Priority, StreamIn, StreamOut};
use crate::wire::{self, LENGTH_BYTES, Malformed, PREFACE_BYTES, StreamKind};

/// A message could not be read.
#[derive(Debug, Error)]
pub enum MessageError {
    /// The stream ended or broke before the message was whole.
    #[error("the stream broke: {0}")]
    Broken(#[from] io::Error),
    /// It can't be understood: close the link.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It did not arrive in time.
    #[error("the stream stood still for too long")]
    Slow,
}

/// What goes first: what decides who leads, then the log, then clients, then bulk.
pub(super) fn priority(kind: StreamKind) -> Priority {
    use StreamKind::*;
    match kind {
        Hello | Vote | Heartbeat | Transfer | ReadIndex => Priority::Vote,
        Lanes => Priority::Append,
        Request | Watch | Act | Ticket | Forward => Priority::Request,
        Snapshot => Priority::Bulk,
    }
}

/// Opens a stream of a kind on a link; its head is sent with what is written next.
pub async fn open_stream(
    link: &dyn Link,
    kind: StreamKind,
) -> Result<(StreamOut, StreamIn), LinkLost> {
    let (mut out, input) = link.open(priority(kind)).await?;
    match out.write_all(&wire::preface(kind)).await {
        Ok(()) => Ok((out, input)),
        Err(error) => Err(LinkLost::silently(format!("a stream could not be opened: {error}"))),
    }
}

/// Reads the head of a stream that the peer opened, in bounded time.
pub async fn read_preface(input: &mut StreamIn) -> Result<StreamKind, MessageError> {
    let mut head = [0; PREFACE_BYTES];
    match timeout(PREFACE_MAX, input.read_exact(&mut head)).await {
        Ok(read) => read?,
        Err(_) => return Err(MessageError::Slow),
    };
    Ok(wire::read_preface(head)?)
}

/// Writes a message; the caller keeps to the bound of the stream's kind.
pub async fn write_message(out: &mut StreamOut, message: &[u8]) -> io::Result<()> {
    out.write_all(&length(message)).await?;
    out.write_all(message).await
}

/// Reads a message of at most `max` bytes.
pub async fn read_message(input: &mut StreamIn, max: usize) -> Result<Bytes, MessageError> {
    let length = read_length(input, max).await?;
    Ok(read_body(input, length).await?)
}

/// The length in front of a message.
pub(super) fn length(message: &[u8]) -> [u8; LENGTH_BYTES] {
    (message.len() as u32).to_le_bytes()
}

/// Reads the length in front of a message of at most `max` bytes.
pub async fn read_length(input: &mut StreamIn, max: usize) -> Result<usize, MessageError> {
    let mut length = [0; LENGTH_BYTES];
    input.read_exact(&mut length).await?;
    Ok(wire::read_length(length, max)?)
}

/// Reads so many bytes.
pub async fn read_body(input: &mut StreamIn, length: usize) -> io::Result<Bytes> {
    let mut message = BytesMut::with_capacity(length.min(FIRST_BYTES));
    let mut rest = input.take(length as u64);
    while message.len() < length {
        if rest.read_buf(&mut message).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(message.freeze())
}

/// Memory for the beginning of a message, before any of it has arrived.
const FIRST_BYTES: usize = 16 * 1024;
