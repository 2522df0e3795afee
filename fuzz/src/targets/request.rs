//! Any bytes are a client's message, which is decoded to itself again once written, or refused.

use aspen::client::request::{
    Asked, Hello, Shown, WatchAsked, Whereabouts, decode_response, encode_response,
};

pub fn run(bytes: &[u8]) {
    if let Ok(asked) = Asked::decode(bytes) {
        assert_eq!(Asked::decode(&asked.encode()), Ok(asked));
    }
    if let Ok(asked) = WatchAsked::decode(bytes) {
        assert_eq!(WatchAsked::decode(&asked.encode()), Ok(asked));
    }
    if let Ok(response) = decode_response(bytes) {
        assert_eq!(decode_response(&encode_response(response.clone())), Ok(response));
    }
    if let Ok(shown) = Shown::decode(bytes) {
        assert_eq!(Shown::decode(&shown.clone().encode()), Ok(shown));
    }
    if let Ok(hello) = Hello::decode(bytes) {
        assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    }
    if let Ok(whereabouts) = Whereabouts::decode(bytes) {
        assert_eq!(Whereabouts::decode(&whereabouts.encode()), Ok(whereabouts));
    }
}
