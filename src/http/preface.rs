//! Which HTTP a connection speaks, told by its first bytes.
//!
//! A client of HTTP/2 that knows what it talks to begins with a preface that no request of HTTP/1.1
//! begins with. What was read to tell them apart is read again by whoever serves the connection, so
//! nothing is lost. How long a client may take is not decided here.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// What HTTP/2 begins with (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which HTTP it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// A connection of which the first bytes have been looked at.
#[derive(Debug)]
pub(super) struct Begun<S> {
    stream: S,
    head: [u8; PREFACE.len()],
    /// What of `head` was read from the stream, and what of that was read from this.
    read: usize,
    given: usize,
}

/// Reads as much as tells the two apart; a connection that ends before is of HTTP/1.1, which says
/// what is wrong with it.
pub(super) async fn version<S>(mut stream: S) -> io::Result<(Version, Begun<S>)>
where
    S: AsyncRead + Unpin,
{
    let (mut head, mut read) = ([0; PREFACE.len()], 0);
    let version = loop {
        if head[..read] != PREFACE[..read] {
            break Version::One;
        }
        if read == PREFACE.len() {
            break Version::Two;
        }
        match stream.read(&mut head[read..]).await? {
            0 => break Version::One,
            more => read += more,
        }
    };
    Ok((version, Begun { stream, head, read, given: 0 }))
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let len = buffer.remaining().min(self.read - self.given);
        buffer.put_slice(&self.head[self.given..][..len]);
        self.given += len;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        // What follows is here as a rule: whoever gets a few bytes alone makes room for more before it
        // asks again, and keeps that room as long as the connection lasts.
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Pending if len > 0 => Poll::Ready(Ok(())),
            read => read,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    /// What these bytes are taken for, and what is read afterwards; they come so many at a time.
    async fn told(bytes: &[u8], step: usize) -> (Version, Vec<u8>) {
        let (mut near, far) = duplex(step);
        let send = async {
            near.write_all(bytes).await.unwrap();
            drop(near);
        };
        let read = async {
            let (version, mut begun) = version(far).await.unwrap();
            let mut rest = Vec::new();
            begun.read_to_end(&mut rest).await.unwrap();
            (version, rest)
        };
        tokio::join!(send, read).1
    }

    #[tokio::test]
    async fn a_version_is_told_however_the_bytes_come_and_none_is_lost() {
        let two = [&PREFACE[..], b"and frames"].concat();
        for (bytes, version) in [
            (&two[..], Version::Two),
            (PREFACE, Version::Two),
            (b"", Version::One),
            (b"PRI * HTTP/2.0\r\n\r\nSM", Version::One),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\nX: a very long head that is none of it", Version::One),
            (b"PUT /v1/kv/a HTTP/1.1\r\n\r\n", Version::One),
            (b"GET /livez HTTP/1.1\r\n\r\n", Version::One),
        ] {
            for step in [1, 3, 24, 100] {
                assert_eq!(told(bytes, step).await, (version, bytes.to_vec()), "{step}");
            }
        }
    }
}
