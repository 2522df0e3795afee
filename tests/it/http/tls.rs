//! TLS at the door, as far as time plays a part; certificates are tried with the command.

use std::sync::Arc;

use aspen::http::HttpDoor;
use aspen::{KvServiceBuilder, Reach, StorageBackend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that does not say what TLS begins with, or not all of it, holds up nobody, and is cut.
#[tokio::test]
async fn a_client_that_does_not_agree_on_tls_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let door = HttpDoor::new("127.0.0.1:0".parse().unwrap()).with_tls(&certificate, &key);
    let service = KvServiceBuilder::new(1, "data")
        .with_storage(StorageBackend::Memory)
        .with_reach(Reach::Loopback)
        .with_door(Arc::new(door))
        .start()
        .await
        .unwrap();
    let address = service.http().and_then(|address| address.tcp()).unwrap();
    for sent in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET /livez HTTP/1.1\r\nHost: n\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        // With the clock paused, time passes as soon as everybody waits.
        tokio::time::pause();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).contains("alive"), "{answer:?}");
        tokio::time::resume();
    }
    service.shutdown().await.unwrap();
}
