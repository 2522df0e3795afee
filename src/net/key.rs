//! The node's key pair, kept on disk for its owner's eyes only.

use std::fmt;
use std::io;
use std::path::Path;

use iroh::{PublicKey, SecretKey, Signature};

use crate::seams::Random;
use crate::seams::disk::{Disk, OpenMode};
use crate::seams::failpoint::Failpoint;
use crate::types::EndpointId;

const KEY_BYTES: usize = 32;

/// The node's secret key. Its text shows the public half only.
#[derive(Clone)]
pub struct NodeKey(SecretKey);

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", self.endpoint_id())
    }
}

impl NodeKey {
    /// Reads the key, or makes one if there is none. The file has mode 0600 from its first byte,
    /// and is whole before it has its name.
    pub fn load_or_create(disk: &dyn Disk, path: &Path, random: &Random) -> io::Result<Self> {
        if disk.exists(path)? {
            return NodeKey::load(disk, path);
        }
        let key = NodeKey::generate(random);
        let unfinished = path.with_extension("new");
        if disk.exists(&unfinished)? {
            disk.remove(&unfinished)?;
        }
        let file = disk.open(&unfinished, OpenMode::CreateNewPrivate)?;
        file.write_at(&key.0.to_bytes(), 0)?;
        file.sync_data()?;
        Failpoint::BeforeKeyNamed.check()?;
        disk.rename(&unfinished, path)?;
        Failpoint::AfterKeyNamed.pass();
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(key)
    }

    fn load(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Existing)?;
        if file.len()? != KEY_BYTES as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "{} is no node's key, which has {KEY_BYTES} bytes; put a copy of it back, or \
                     choose another one",
                    path.display()
                ),
            ));
        }
        let mut bytes = [0; KEY_BYTES];
        file.read_at(&mut bytes, 0)?;
        Ok(NodeKey(SecretKey::from_bytes(&bytes)))
    }

    /// A key that is kept nowhere: for programs that only visit, and for tests.
    pub fn generate(random: &Random) -> Self {
        let mut bytes = [0; KEY_BYTES];
        random.fill(&mut bytes);
        NodeKey(SecretKey::from_bytes(&bytes))
    }

    /// The public key, as other nodes dial it.
    pub fn endpoint_id(&self) -> EndpointId {
        EndpointId(*self.0.public().as_bytes())
    }

    /// Signs for others to [`verify`].
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    pub(super) fn secret(&self) -> &SecretKey {
        &self.0
    }
}

/// Whether the holder of a key has signed a message. Bytes that are no key have signed nothing.
pub fn verify(signer: EndpointId, message: &[u8], signature: &[u8; 64]) -> bool {
    let signature = Signature::from_bytes(signature);
    PublicKey::from_bytes(&signer.0).is_ok_and(|key| key.verify(message, &signature).is_ok())
}
