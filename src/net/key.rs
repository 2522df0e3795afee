//! The node's key pair, kept on disk for its owner's eyes only.

use std::fmt;
use std::io;
use std::path::Path;

use iroh::SecretKey;

use crate::seams::Random;
use crate::seams::disk::{Disk, OpenMode};

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
        let mut bytes = [0; KEY_BYTES];
        random.fill(&mut bytes);
        let unfinished = path.with_extension("new");
        if disk.exists(&unfinished)? {
            disk.remove(&unfinished)?;
        }
        let file = disk.open(&unfinished, OpenMode::CreateNewPrivate)?;
        file.write_at(&bytes, 0)?;
        file.sync_data()?;
        disk.rename(&unfinished, path)?;
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(NodeKey(SecretKey::from_bytes(&bytes)))
    }

    fn load(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, OpenMode::Existing)?;
        if file.len()? != KEY_BYTES as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} is not a node key: it must have {KEY_BYTES} bytes", path.display()),
            ));
        }
        let mut bytes = [0; KEY_BYTES];
        file.read_at(&mut bytes, 0)?;
        Ok(NodeKey(SecretKey::from_bytes(&bytes)))
    }

    /// The public key, as other nodes dial it.
    pub fn endpoint_id(&self) -> String {
        self.0.public().to_string()
    }

    pub(super) fn secret(&self) -> &SecretKey {
        &self.0
    }
}
