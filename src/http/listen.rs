//! The sockets that the door listens on, of either kind, and the connections that come from them.

use std::io;
use std::net::{self, IpAddr};
use std::os::unix;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use crate::node::DoorAddress;
use crate::seams::reason;
use crate::seams::socket::{self, SocketFile};

/// What a connection is to those who serve it: of one type, so that they are compiled once.
pub(super) type Stream = Box<dyn Duplex>;

/// Bytes both ways.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A socket that is taken; its file, if it has one, is removed when this is dropped.
#[derive(Debug)]
pub(super) enum Taken {
    Tcp(net::TcpListener),
    /// The file first, which is dropped first.
    Unix(
        #[expect(dead_code, reason = "it is there to be dropped")] SocketFile,
        unix::net::UnixListener,
    ),
}

impl Taken {
    /// Takes an address, and says which it is.
    pub(super) fn at(wanted: &DoorAddress) -> Result<(Taken, DoorAddress), String> {
        match wanted {
            DoorAddress::Tcp(address) => {
                let bound = net::TcpListener::bind(address).and_then(|listener| {
                    listener.set_nonblocking(true)?;
                    Ok((listener.local_addr()?, listener))
                });
                let (taken, listener) = bound.map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => format!(
                        "the HTTP address {address} is taken; stop what listens there or choose \
                         another one with --http (port 0 takes a free one)"
                    ),
                    io::ErrorKind::AddrNotAvailable => format!(
                        "can't listen for HTTP on {address}: this machine has no such address; \
                         choose one that it has with --http"
                    ),
                    io::ErrorKind::PermissionDenied => format!(
                        "can't listen for HTTP on {address}: permission denied; choose a port from \
                         1024 on with --http"
                    ),
                    _ => format!("can't listen for HTTP on {address}: {}", reason(&error)),
                })?;
                Ok((Taken::Tcp(listener), taken.into()))
            }
            DoorAddress::Unix(path) => {
                let path = std::path::absolute(path).map_err(|error| error.to_string())?;
                let (file, listener) = socket::listen(&path).map_err(|error| {
                    format!("can't listen for HTTP on the socket {}: {error}", path.display())
                })?;
                Ok((Taken::Unix(file, listener), DoorAddress::Unix(path)))
            }
        }
    }

    /// The same socket again, to accept from.
    pub(super) fn listener(&self) -> io::Result<Listener> {
        match self {
            Taken::Tcp(listener) => TcpListener::from_std(listener.try_clone()?).map(Listener::Tcp),
            Taken::Unix(_, listener) => {
                UnixListener::from_std(listener.try_clone()?).map(Listener::Unix)
            }
        }
    }
}

/// A socket to accept from.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// The next connection, and the address that it is from if it has one.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are written whole; waiting to fill a packet would only delay them.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection keeps Nagle's delay");
                }
                Ok((Box::new(stream), Some(peer.ip())))
            }
            Listener::Unix(listener) => {
                let (stream, _peer) = listener.accept().await?;
                Ok((Box::new(stream), None))
            }
        }
    }
}
