//! The bytes of a stream, one direction at a time, and the halves that nodes hold.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{End, Fabric, PACKET_BYTES_MAX, WINDOW_BYTES, What};

/// One direction of a stream.
#[derive(Default)]
pub(super) struct Pipe {
    /// How many packets were sent.
    sent: u64,
    /// How many have arrived with all before them.
    arrived: u64,
    /// What has arrived before something that was sent earlier, by its place.
    early: BTreeMap<u64, Option<Bytes>>,
    /// What arrived and was not read.
    readable: VecDeque<Bytes>,
    /// How much was sent that is not known to be read.
    unread_bytes: usize,
    /// How much was read that the writer was not told of.
    untold_bytes: usize,
    /// The end was sent.
    is_ended: bool,
    /// The end has arrived.
    has_end: bool,
    /// The reader is gone.
    is_refused: bool,
    /// The writer knows that the reader is gone.
    is_stopped: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    pub(super) fn wake_reader(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
    }

    pub(super) fn wake_writer(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.writer.take());
    }

    pub(super) fn arrive(&mut self, place: u64, bytes: Option<Bytes>, wakers: &mut Vec<Waker>) {
        self.early.insert(place, bytes);
        while let Some(next) = self.early.remove(&self.arrived) {
            self.arrived += 1;
            match next {
                Some(bytes) if !self.is_refused => self.readable.push_back(bytes),
                Some(_unwanted) => {}
                None => self.has_end = true,
            }
            self.wake_reader(wakers);
        }
    }

    fn next_place(&mut self) -> u64 {
        self.sent += 1;
        self.sent - 1
    }

    /// So much was read: answers how much the writer is told that there is room for, once it is
    /// worth a packet.
    fn read(&mut self, bytes: usize) -> Option<usize> {
        self.untold_bytes += bytes;
        let is_much = self.untold_bytes >= WINDOW_BYTES / 4;
        is_much.then(|| std::mem::take(&mut self.untold_bytes))
    }

    pub(super) fn make_room(&mut self, bytes: usize, wakers: &mut Vec<Waker>) {
        self.unread_bytes -= bytes;
        self.wake_writer(wakers);
    }

    pub(super) fn stop(&mut self, wakers: &mut Vec<Waker>) {
        self.is_stopped = true;
        self.wake_writer(wakers);
    }
}

/// Which stream of which link, and which of its ends.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) fabric: Fabric,
    pub(super) link: u64,
    pub(super) stream: u64,
    pub(super) end: End,
}

fn link_lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the link is lost")
}

impl Place {
    /// Does something to one of the stream's pipes, with whether this side has lost the link.
    fn with<R>(&self, from: End, run: impl FnOnce(&mut Pipe, bool) -> R) -> Option<R> {
        self.fabric.with(|state| {
            let link = state.links.get_mut(&self.link)?;
            let is_lost = link.sides[self.end].lost.is_some();
            Some(run(&mut link.streams.get_mut(&self.stream)?.pipes[from], is_lost))
        })
    }

    fn send(&self, what: What) {
        self.fabric.with(|state| {
            if let Some(way) = state.way(self.link, self.end) {
                state.send(way, what);
            }
        });
    }

    /// One of the stream's halves is gone.
    fn let_go(&self) {
        self.fabric.with(|state| {
            let Some(link) = state.links.get_mut(&self.link) else { return };
            let Some(stream) = link.streams.get_mut(&self.stream) else { return };
            stream.halves -= 1;
            if stream.halves == 0 {
                link.streams.remove(&self.stream);
            }
        });
    }
}

/// The half that is written.
pub(super) struct Out(pub(super) Place);

/// The half that is read.
pub(super) struct In(pub(super) Place);

impl Out {
    fn finish(&self) {
        let Place { link, stream, end: from, .. } = self.0;
        let place = self.0.with(from, |pipe, is_lost| {
            let is_first = !std::mem::replace(&mut pipe.is_ended, true);
            (is_first && !is_lost).then(|| pipe.next_place())
        });
        if let Some(place) = place.flatten() {
            self.0.send(What::Next { link, stream, from, place, bytes: None });
        }
    }
}

impl AsyncWrite for Out {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Place { link, stream, end: from, .. } = self.0;
        let room = self.0.with(from, |pipe, is_lost| {
            if is_lost || pipe.is_ended {
                return Poll::Ready(Err(link_lost()));
            }
            if pipe.is_stopped {
                let error = io::Error::new(io::ErrorKind::BrokenPipe, "the peer reads no more");
                return Poll::Ready(Err(error));
            }
            let bytes = data.len().min(PACKET_BYTES_MAX).min(WINDOW_BYTES - pipe.unread_bytes);
            if bytes == 0 && !data.is_empty() {
                pipe.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            pipe.unread_bytes += bytes;
            Poll::Ready(Ok((bytes, pipe.next_place())))
        });
        room.unwrap_or_else(|| Poll::Ready(Err(link_lost()))).map_ok(|(written, place)| {
            let bytes = Some(Bytes::copy_from_slice(&data[..written]));
            self.0.send(What::Next { link, stream, from, place, bytes });
            written
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Out {
    fn drop(&mut self) {
        self.finish();
        self.0.let_go();
    }
}

impl AsyncRead for In {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Place { link, stream, end, .. } = self.0;
        let from = 1 - end;
        let read = self.0.with(from, |pipe, is_lost| {
            let Some(first) = pipe.readable.front_mut() else {
                if pipe.has_end {
                    return Poll::Ready(Ok(None));
                }
                if is_lost {
                    return Poll::Ready(Err(link_lost()));
                }
                pipe.reader = Some(cx.waker().clone());
                return Poll::Pending;
            };
            let bytes = first.len().min(buffer.remaining());
            buffer.put_slice(&first[..bytes]);
            first.advance(bytes);
            if first.is_empty() {
                pipe.readable.pop_front();
            }
            Poll::Ready(Ok(pipe.read(bytes)))
        });
        read.unwrap_or_else(|| Poll::Ready(Err(link_lost()))).map_ok(|room| {
            if let Some(bytes) = room {
                self.0.send(What::Room { link, stream, from, bytes });
            }
        })
    }
}

impl Drop for In {
    fn drop(&mut self) {
        let Place { link, stream, end, .. } = self.0;
        let from = 1 - end;
        let is_early = self.0.with(from, |pipe, is_lost| {
            pipe.is_refused = true;
            pipe.readable.clear();
            !is_lost && !pipe.has_end
        });
        if is_early == Some(true) {
            self.0.send(What::Stop { link, stream, from });
        }
        self.0.let_go();
    }
}
