//! A client as small as can be: one kept-open HTTP/1.1 connection to a node.
//!
//! It tells a request that was never sent from one whose fate is unknown, which is what the tests
//! that end nodes need to know.

use std::fmt;

use aspen::seams::Tasks;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HeaderMap, HeaderName};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// A connection to one node, made when it is first needed.
pub(crate) struct Http {
    authority: String,
    sender: Option<SendRequest<Full<Bytes>>>,
    connections: Tasks,
}

/// What a node answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
pub(crate) enum Broken {
    /// There was no connection, so that nothing was sent.
    NotSent(String),
    /// The connection ended after the request began to go out.
    Unknown(String),
}

impl Http {
    /// For a node's `http://host:port`.
    pub(crate) fn to(url: &str) -> Self {
        let authority = url.strip_prefix("http://").expect("a node's address is http").to_owned();
        Http { authority, sender: None, connections: Tasks::new() }
    }

    /// Sends a request and reads all of the answer.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, &str)>,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Broken> {
        let (sender, response) = self.begin(method, path, header, body.into()).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(unknown)?.to_bytes();
        self.sender = Some(sender);
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    }

    /// Sends a request and waits for the head of the answer, which may go on.
    pub(crate) async fn begin(
        &mut self,
        method: Method,
        path: &str,
        header: Option<(HeaderName, &str)>,
        body: Bytes,
    ) -> Result<(SendRequest<Full<Bytes>>, Response<Incoming>), Broken> {
        let mut request =
            Request::builder().method(method).uri(path).header("host", &self.authority);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(body)).expect("the request is well-formed");
        let mut sender = match self.ready().await {
            Some(sender) => sender,
            None => self.connect().await.map_err(|error| Broken::NotSent(error.to_string()))?,
        };
        let response = sender.send_request(request).await.map_err(unknown)?;
        Ok((sender, response))
    }

    /// The connection that is there, once it is through with the answer before.
    async fn ready(&mut self) -> Option<SendRequest<Full<Bytes>>> {
        let mut sender = self.sender.take()?;
        sender.ready().await.ok().map(|()| sender)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error>> {
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
        // A connection that breaks is seen by the request that waits for it.
        self.connections.spawn(async { drop(connection.await) });
        sender.ready().await?;
        Ok(sender)
    }
}

fn unknown(error: hyper::Error) -> Broken {
    Broken::Unknown(error.to_string())
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Answer { status, headers, body } = self;
        write!(f, "{status} {headers:?} {}", body.escape_ascii())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::NotSent(why) => write!(f, "it was not sent: {why}"),
            Broken::Unknown(why) => write!(f, "its fate is unknown: {why}"),
        }
    }
}
