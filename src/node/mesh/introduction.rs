//! How two nodes of a mesh are introduced: each proves that it knows the mesh's secret.
//!
//! ```text
//! dialler                                   accepter
//! nonce            ───────────────────────▶
//!                  ◀─────────────────────── nonce
//! proof            ───────────────────────▶ closes the link unless it is right
//!                  ◀─────────────────────── proof
//! closes the link unless it is right
//! ```
//!
//! A proof is a keyed hash of who proves, of both nodes' keys, which the link's handshake has shown
//! to be theirs, and of both nonces: it is good for this link only, and whoever stands between two
//! nodes has other keys than they. The secret can't be found from a proof but by trying all, which
//! is why a short one is refused.

use std::io;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{Mesh, Said};
use crate::limits::{MESH_INTRODUCTION_MAX, MESH_MESSAGE_BYTES_MAX};
use crate::net::{read_message, write_message};
use crate::seams::Random;
use crate::seams::network::{CloseCode, Link, LinkLost, Priority, StreamIn, StreamOut};
use crate::types::{EndpointId, Form};
use crate::wire::envelope::{form, open, seal};

/// The version of the messages; the first byte of each.
const VERSION: u8 = 1;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Nonce([u8; 32]);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Proof([u8; 32]);

pub(in crate::node) const NONCE: Form = form::<Nonce, VERSION>("nonce of a mesh");
pub(in crate::node) const PROOF: Form = form::<Proof, VERSION>("proof of a mesh");
pub(in crate::node) const SAID: Form = form::<Said, VERSION>("what is said in a mesh");

/// A link on which both have proven that they belong to the mesh.
pub(super) struct Acquaintance {
    pub(super) peer: EndpointId,
    pub(super) link: Arc<dyn Link>,
    pub(super) out: Speaker,
    pub(super) input: Listener,
}

/// The half on which something is said.
pub(super) struct Speaker(StreamOut);

/// The half on which it is heard.
pub(super) struct Listener(StreamIn);

impl Speaker {
    pub(super) async fn say(&mut self, said: &Said) -> io::Result<()> {
        self.send(said).await
    }

    async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        write_message(&mut self.0, &seal(VERSION, message)).await
    }
}

impl Listener {
    pub(super) async fn hear(&mut self) -> Result<Said, LinkLost> {
        self.receive().await
    }

    async fn receive<T: DeserializeOwned>(&mut self) -> Result<T, LinkLost> {
        let bytes = read_message(&mut self.0, MESH_MESSAGE_BYTES_MAX).await.map_err(broken)?;
        open(VERSION, &bytes).map_err(broken)
    }
}

/// Which of the two somebody is.
#[derive(Clone, Copy)]
pub(super) enum Side {
    /// Who has dialled.
    Dialler = 1,
    /// Who was dialled.
    Accepter = 2,
}

impl Side {
    fn other(self) -> Side {
        match self {
            Side::Dialler => Side::Accepter,
            Side::Accepter => Side::Dialler,
        }
    }
}

/// What both know before they prove anything.
struct Ground<'a> {
    mesh: &'a Mesh,
    dialler: (EndpointId, Nonce),
    accepter: (EndpointId, Nonce),
}

impl<'a> Ground<'a> {
    fn new(mesh: &'a Mesh, dialler: (EndpointId, Nonce), accepter: (EndpointId, Nonce)) -> Self {
        Ground { mesh, dialler, accepter }
    }

    fn proof(&self, side: Side) -> blake3::Hash {
        let Ground { mesh, dialler, accepter } = self;
        let mut hasher = blake3::Hasher::new_keyed(&mesh.key);
        hasher.update(&[side as u8]).update(&dialler.0.0).update(&accepter.0.0);
        hasher.update(&dialler.1.0).update(&accepter.1.0);
        hasher.finalize()
    }

    /// Compared in constant time.
    fn is_right(&self, side: Side, Proof(proof): Proof) -> bool {
        self.proof(side) == blake3::Hash::from_bytes(proof)
    }
}

/// Introduces this node to one that it has dialled, or that has dialled it.
pub(super) async fn introduce(
    link: Arc<dyn Link>,
    mesh: &Mesh,
    me: EndpointId,
    random: &Random,
    side: Side,
) -> Result<Acquaintance, LinkLost> {
    let exchange = async {
        let (out, input) = match side {
            Side::Dialler => link.open(Priority::Request).await?,
            // It is there once the dialler has spoken.
            Side::Accepter => link.accept().await?,
        };
        let (mut out, mut input) = (Speaker(out), Listener(input));
        let mine = nonce(random);
        out.send(&mine).await.map_err(broken)?;
        let theirs: Nonce = input.receive().await?;
        let ground = match side {
            Side::Dialler => Ground::new(mesh, (me, mine), (link.peer(), theirs)),
            Side::Accepter => Ground::new(mesh, (link.peer(), theirs), (me, mine)),
        };
        let proof = Proof(*ground.proof(side).as_bytes());
        if let Side::Dialler = side {
            out.send(&proof).await.map_err(broken)?;
        }
        let is_right = ground.is_right(side.other(), input.receive().await?);
        // Who was dialled proves nothing to whoever has not proven itself.
        if let (Side::Accepter, true) = (side, is_right) {
            out.send(&proof).await.map_err(broken)?;
        }
        Ok((out, input, is_right))
    };
    finish(&link, timeout(MESH_INTRODUCTION_MAX, exchange).await).await
}

type Exchanged = Result<(Speaker, Listener, bool), LinkLost>;

async fn finish(
    link: &Arc<dyn Link>,
    exchanged: Result<Exchanged, tokio::time::error::Elapsed>,
) -> Result<Acquaintance, LinkLost> {
    let lost = match exchanged {
        Ok(Ok((out, input, true))) => {
            return Ok(Acquaintance { peer: link.peer(), link: link.clone(), out, input });
        }
        Ok(Ok((_, _, false))) => LinkLost {
            code: Some(CloseCode::OtherMesh),
            reason: "it has not proven that it knows the secret of the mesh".into(),
        },
        // What the peer said when it closed the link tells more than the stream that broke.
        Ok(Err(lost)) => timeout(WORD_MAX, link.closed()).await.unwrap_or(lost),
        Err(_) => LinkLost::silently("the introduction took too long"),
    };
    link.close(lost.code.unwrap_or(CloseCode::Malformed), &lost.reason);
    Err(lost)
}

/// How long the reason of a close may come after a stream has broken.
const WORD_MAX: std::time::Duration = std::time::Duration::from_millis(200);

fn nonce(random: &Random) -> Nonce {
    let mut nonce = [0; 32];
    random.fill(&mut nonce);
    Nonce(nonce)
}

fn broken(error: impl std::fmt::Display) -> LinkLost {
    LinkLost::silently(error.to_string())
}
