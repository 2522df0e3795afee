//! The HTTP door from outside: every endpoint and every refusal, over a real socket.

mod claims;
mod cluster;
mod docs;
mod http2;
mod keys;
mod leases;
mod limits;
mod many;
mod node;
mod ranges;
mod refusals;
mod tls;
mod tokens;
mod txns;
mod watches;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aspen::http::{DoorLimits, HttpDoor, TYPE_PREFIX};
use aspen::{KvService, KvServiceBuilder, Reach, StorageBackend};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value as Json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything here takes; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node that answers on a loopback port.
struct Node {
    address: SocketAddr,
    client: reqwest::Client,
    service: KvService,
}

impl Node {
    async fn start() -> Node {
        Node::start_with(DoorLimits::default()).await
    }

    async fn start_with(limits: DoorLimits) -> Node {
        Node::start_at(HttpDoor::new("127.0.0.1:0".parse().unwrap()).with_limits(limits)).await
    }

    async fn start_at(door: HttpDoor) -> Node {
        let service = KvServiceBuilder::new(1, "data")
            .with_storage(StorageBackend::Memory)
            .with_reach(Reach::Loopback)
            .with_door(Arc::new(door))
            .start()
            .await
            .unwrap();
        let address = service.http().and_then(|address| address.tcp()).unwrap();
        // The client wants a provider for TLS even where it speaks none; whoever is first sets it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Node { address, client: reqwest::Client::new(), service }
    }

    async fn stop(self) {
        self.service.shutdown().await.unwrap();
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address)).timeout(PATIENCE)
    }

    async fn get(&self, path: &str) -> Reply {
        Reply::to(self.request(Method::GET, path)).await
    }

    async fn put(&self, path: &str, value: impl Into<reqwest::Body>) -> Reply {
        Reply::to(self.request(Method::PUT, path).body(value)).await
    }

    async fn delete(&self, path: &str) -> Reply {
        Reply::to(self.request(Method::DELETE, path)).await
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Reply {
        Reply::to(self.request(Method::POST, path).body(body)).await
    }

    /// Writes a key and says at which revision.
    async fn write(&self, key: &str, value: &str) -> u64 {
        let reply = self.put(&format!("/v1/kv/{key}"), value.to_owned()).await;
        assert!(reply.status.is_success(), "{reply:?}");
        reply.revision()
    }

    /// Sends bytes as they are and reads what comes back until the node closes.
    async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        self.exchange(bytes.as_ref(), false).await
    }

    /// The same, and nothing more will be sent.
    async fn shut(&self, bytes: impl AsRef<[u8]>) -> String {
        self.exchange(bytes.as_ref(), true).await
    }

    async fn exchange(&self, bytes: &[u8], shut: bool) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The node may answer and close before all is sent.
        let _ = stream.write_all(bytes).await;
        if shut {
            let _ = stream.shutdown().await;
        }
        let mut answer = Vec::new();
        // A reset after the answer is an end as well.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .expect("the connection is closed in time");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// A whole answer.
#[derive(Debug)]
struct Reply {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    async fn to(request: RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Reply { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    fn revision(&self) -> u64 {
        self.header("aspen-revision").parse().unwrap()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Json {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The problem's document, after checking that it is one, of this status and name.
    #[track_caller]
    fn problem(&self, status: u16, name: &str) -> Json {
        let document: Json = serde_json::from_slice(&self.body).unwrap_or_default();
        assert_eq!(document["type"], format!("{TYPE_PREFIX}{name}"), "{}", self.text());
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(document["status"], status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert!(!document["title"].as_str().unwrap().is_empty());
        assert!(!document["detail"].as_str().unwrap().is_empty());
        document
    }
}
