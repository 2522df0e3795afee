//! The settings of QUIC, each chosen on purpose, all in this one place.

use std::time::Duration;

use iroh::endpoint::{IdleTimeout, QuicTransportConfig, VarInt};

use crate::limits::{
    DIAL_MAX, LINK_KEEP_ALIVE, LINK_SEND_BYTES_MAX, LINK_SILENCE_MAX, LINK_STREAMS_MAX,
    LINK_WINDOW_BYTES, STREAM_WINDOW_BYTES,
};

/// The round trip that is assumed before one was measured: it times the second try of a first
/// packet that was lost. QUIC's own is 333 ms, which makes a start-up of peers in the wrong order
/// a matter of seconds.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// Of links that others dial; what is shorter of both sides' silences holds for a link.
pub(super) fn accepting() -> QuicTransportConfig {
    transport(LINK_SILENCE_MAX)
}

/// Of links that this side dials: before the other has answered nothing is heard for as long as it
/// takes to find a way, to a relay that is not connected yet for example.
pub(super) fn dialling() -> QuicTransportConfig {
    transport(DIAL_MAX + LINK_SILENCE_MAX)
}

fn transport(silence: Duration) -> QuicTransportConfig {
    let idle = IdleTimeout::try_from(silence).expect("some seconds are in range");
    QuicTransportConfig::builder()
        // iroh's own 15 and 30 s are far above any election: a peer that is gone without a word
        // would hold its link, and each new dial with it, for that long. Kept alive four times in
        // that time, a link survives three lost packets in a row.
        .max_idle_timeout(Some(idle))
        .default_path_max_idle_timeout(LINK_SILENCE_MAX)
        .keep_alive_interval(LINK_KEEP_ALIVE)
        .default_path_keep_alive_interval(LINK_KEEP_ALIVE)
        .initial_rtt(INITIAL_RTT)
        // Each forwarded request is a stream; QUIC's own 100 would make them queue unseen.
        .max_concurrent_bidi_streams(VarInt::from_u32(LINK_STREAMS_MAX))
        // Nothing uses these; a peer that opens one breaks the protocol and is cut off by QUIC.
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        // QUIC has no bound here by itself: this is what one peer can make a node hold.
        .receive_window(VarInt::from_u32(LINK_WINDOW_BYTES))
        .send_window(LINK_SEND_BYTES_MAX)
        .build()
}
