use crate::seams::disk::File;
use std::io;
use std::sync::Arc;
#[derive(Debug)]
pub struct CheckedFile(Arc<dyn File>);
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct DamagedBlock;
impl CheckedFile {
    pub fn open(f: Arc<dyn File>, _n: String) -> io::Result<Self> {
        Ok(CheckedFile(f))
    }
}
impl redb::StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, o: u64, b: &mut [u8]) -> io::Result<()> {
        self.0.read_at(b, o)
    }
    fn set_len(&self, l: u64) -> io::Result<()> {
        self.0.set_len(l)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }
    fn write(&self, o: u64, d: &[u8]) -> io::Result<()> {
        self.0.write_at(d, o)
    }
}
