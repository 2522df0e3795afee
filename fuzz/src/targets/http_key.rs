//! Any path is a key whose percent encoding is the same key, or refused.

use std::fmt::Write;

use aspen::http::key_from_path;

pub fn run(bytes: &[u8]) {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = key_from_path(path) {
        let mut encoded = String::new();
        for byte in key.as_bytes() {
            write!(encoded, "%{byte:02X}").expect("a string takes all");
        }
        assert_eq!(key_from_path(&encoded).ok().as_ref(), Some(&key));
    }
}
