//! Any bytes are frames of lanes, a greeting, the head of a stream, or refused; what is read is
//! written the same way again.

use aspen::wire::frame::Frame;
use aspen::wire::{self, Hello, Welcome};
use bytes::BytesMut;

pub fn run(bytes: &[u8]) {
    let mut rest = BytesMut::from(bytes);
    let mut again = BytesMut::new();
    while let Ok(Some(frame)) = Frame::decode(&mut rest) {
        frame.encode(&mut again);
    }
    assert_eq!(again[..], bytes[..bytes.len() - rest.len()]);
    if let Ok(hello) = Hello::decode(bytes) {
        assert_eq!(hello.encode(), bytes);
    }
    if let Ok(welcome) = Welcome::decode(bytes) {
        assert_eq!(welcome.encode(), bytes);
    }
    if let Some(head) = bytes.first_chunk()
        && let Ok(kind) = wire::read_preface(*head)
    {
        assert_eq!(&wire::preface(kind), head);
    }
}
