//! Files that an operator names, such as a certificate: only read, whole, and never written.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// All of a file, if it has at most so many bytes.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn read_named(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Err(io::Error::other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}
