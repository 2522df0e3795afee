//! Making links: dialling, taking those that peers made, and the greeting of both.

use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

use super::peer::{Connected, Loser, Peer};
use super::{Inner, is_between_members, serve, within};
use crate::limits::{DIAL_MAX, GREETING_MAX, LINK_LEFT_MAX, LINK_RETIRE_MAX, LINK_RETIRE_MIN};
use crate::net::book::AddressSource;
use crate::net::message::{MessageError, open_stream, read_preface};
use crate::seams::network::{CloseCode, Link, LinkLost, Protocol};
use crate::types::EndpointId;
use crate::wire::{Hello, Malformed, StreamKind, Welcome};

/// Dials a peer once and tells those who wait.
pub(super) async fn dial(inner: Arc<Inner>, peer: Arc<Peer>) {
    let addresses = inner.addresses(peer.id);
    let outcome = within(DIAL_MAX, async {
        let link = inner.network.connect(peer.id, &addresses, Protocol::Raft).await?;
        greet(&inner, &peer, link).await
    });
    let unanswered = || LinkLost::silently(UNANSWERED);
    match outcome.await.unwrap_or_else(|| Err(unanswered())) {
        Ok(connected) => settle(&inner, &peer, connected, None),
        Err(lost) => {
            tracing::debug!(peer = %peer.id, %lost, code = ?lost.code, "a peer was not reached");
            peer.dial_failed(lost, Instant::now(), &inner.random);
            inner.tell();
        }
    }
}

/// Says hello on a link that was just made, and waits for the welcome.
async fn greet(
    inner: &Inner,
    peer: &Peer,
    link: Arc<dyn Link>,
) -> Result<Arc<Connected>, LinkLost> {
    // Never 0, which stands for no link.
    let id = inner.random.next_u64() | 1;
    let hello = Hello { incarnation: inner.incarnation, link: id, gave_up: peer.gave_up() };
    let (mut out, mut input) = open_stream(link.as_ref(), StreamKind::Hello).await?;
    let mut welcome = [0; Welcome::BYTES];
    let exchange = async {
        out.write_all(&hello.encode()).await?;
        out.shutdown().await?;
        input.read_exact(&mut welcome).await
    };
    if let Err(error) = exchange.await {
        // A peer that does not let this node in has closed the link and said why; its word may
        // come just after the stream's end.
        let said = timeout(WORD_MAX, link.closed()).await;
        return Err(said.unwrap_or_else(|_| LinkLost::silently(format!("no welcome: {error}"))));
    }
    let welcome =
        Welcome::decode(&welcome).map_err(|error| LinkLost::silently(error.to_string()))?;
    Ok(Arc::new(Connected::new(link, id, welcome.incarnation, true)))
}

/// How long the reason of a close may come after a stream has broken.
const WORD_MAX: std::time::Duration = std::time::Duration::from_millis(200);

/// Takes the links that peers make, until the network is closed.
pub(super) async fn take_links(inner: Arc<Inner>) {
    while let Some(link) = inner.network.accept().await {
        let taking = inner.clone();
        inner.tasks.spawn(async move {
            if is_between_members(&link) {
                take(taking, link).await;
            } else {
                taking.serve.link(link).await;
            }
        });
    }
}

/// Takes a member's link: its first stream must be a hello, soon.
async fn take(inner: Arc<Inner>, link: Arc<dyn Link>) {
    match within(GREETING_MAX, welcome(&inner, &link)).await.unwrap_or(Err(MessageError::Slow)) {
        Ok(hello) => {
            let peer = inner.peer(link.peer());
            let connected = Connected::new(link, hello.link, hello.incarnation, false);
            settle(&inner, &peer, Arc::new(connected), Some(hello.gave_up));
        }
        Err(error) => {
            tracing::debug!(peer = %link.peer(), %error, "a link was not greeted");
            link.close(CloseCode::Malformed, &error.to_string());
        }
    }
}

async fn welcome(inner: &Inner, link: &Arc<dyn Link>) -> Result<Hello, MessageError> {
    let (mut out, mut input) = link.accept().await.map_err(std::io::Error::other)?;
    if read_preface(&mut input).await? != StreamKind::Hello {
        return Err(Malformed::Other("a link between members begins with a hello").into());
    }
    let mut hello = [0; Hello::BYTES];
    input.read_exact(&mut hello).await?;
    out.write_all(&Welcome { incarnation: inner.incarnation }.encode()).await?;
    out.shutdown().await?;
    Ok(Hello::decode(&hello)?)
}

/// Puts a link that was greeted to use, or aside.
fn settle(inner: &Arc<Inner>, peer: &Arc<Peer>, connected: Arc<Connected>, gave_up: Option<u64>) {
    note_address(inner, peer.id, &connected);
    let loser = peer.connect(&connected, gave_up, inner.network.id());
    inner.tasks.spawn(serve::link(inner.clone(), peer.clone(), connected));
    match loser {
        Loser::None => {}
        Loser::Close(old) => old.link.close(CloseCode::Replaced, "a newer link took its place"),
        Loser::Retire(loser) => inner.tasks.spawn(retire(loser)),
    }
    inner.tell();
}

fn note_address(inner: &Inner, peer: EndpointId, connected: &Connected) {
    if let Some(address) = connected.link.address() {
        inner.note(peer, &[address], AddressSource::Live);
    }
}

/// What is said of a peer that was asked.
pub(super) const UNANSWERED: &str = "the peer did not answer";

/// Leaves a link that does not answer to itself for a while, and then closes it. As long as there
/// is any link to the peer, iroh dials it by the way that was found to be best, and by no other,
/// and gives that way up only when it dies under a link: closed at once, this one would leave all
/// dials to a way that may be dead for good.
pub(super) async fn leave(connected: Arc<Connected>) {
    if let Some(lanes) = connected.lanes.lock().await.take() {
        lanes.end(LinkLost::silently(UNANSWERED));
    }
    let _ = timeout(LINK_LEFT_MAX, connected.link.closed()).await;
    connected.link.close(CloseCode::Replaced, UNANSWERED);
}

/// Closes a link that is no longer used once nothing goes on over it.
async fn retire(connected: Arc<Connected>) {
    if let Some(lanes) = connected.lanes.lock().await.take() {
        lanes.end(LinkLost::silently("another link to the peer is used"));
    }
    let quiet = async {
        sleep(LINK_RETIRE_MIN).await;
        connected.under_way.ended().await;
    };
    // At the bound what is still under way is cut off, and begun anew by those above.
    let _ = timeout(LINK_RETIRE_MAX, quiet).await;
    connected.link.close(CloseCode::Replaced, "the other link between the two is used");
}
