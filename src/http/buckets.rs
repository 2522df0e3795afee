//! How often each address, and each token, may ask: a bucket of turns for each, kept as the one moment
//! at which it would be full again.
//!
//! Time is an argument. An address that has not asked for as long as its bucket takes to fill is
//! forgotten. When more are known than may be, the others share one bucket.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::access::AccessId;
use crate::limits::{HTTP_ADDRESSES_MAX, HTTP_BURST};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// An IPv4 address, or an IPv6 network of 64 bits, which is what one host can choose from.
    Address(IpAddr),
    /// The holder of a token, wherever they are.
    Token(u128),
    /// Somebody on this machine who came by no address.
    Local,
    /// All who came when there was no place for one more.
    Others,
}

/// As the audit log names them.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Address(address) => write!(f, "{address}"),
            Origin::Token(id) => write!(f, "{}", AccessId(*id)),
            Origin::Local => f.write_str("this machine"),
            Origin::Others => f.write_str("others"),
        }
    }
}

impl Origin {
    pub(super) fn of(address: Option<IpAddr>) -> Self {
        const HOST_BITS: u32 = 64;
        match address.map(|address| address.to_canonical()) {
            None => Origin::Local,
            Some(IpAddr::V6(address)) => {
                let network = u128::from(address) >> HOST_BITS << HOST_BITS;
                Origin::Address(IpAddr::V6(network.into()))
            }
            Some(address) => Origin::Address(address),
        }
    }
}

/// The buckets of all addresses.
#[derive(Debug)]
pub(super) struct Buckets {
    /// How long one token takes.
    token: Duration,
    /// When each would be full again; one that is full is not here.
    full_at: HashMap<Origin, Instant>,
    swept_at: Option<Instant>,
    most: usize,
}

impl Buckets {
    /// So many tokens a second for each address; a bucket holds what comes in [`HTTP_BURST`], and one
    /// at least.
    pub(super) fn new(a_second: NonZeroU32) -> Self {
        Buckets {
            token: Duration::from_secs(1) / a_second.get(),
            full_at: HashMap::new(),
            swept_at: None,
            most: HTTP_ADDRESSES_MAX,
        }
    }

    /// Takes a token, or says how long it takes until there is one.
    pub(super) fn take(&mut self, origin: Origin, now: Instant) -> Result<(), Duration> {
        let origin = self.place_of(origin, now);
        let full_at = self.full_at.get(&origin).copied().unwrap_or(now).max(now);
        let without = full_at - now + self.token;
        match without.saturating_sub(HTTP_BURST.max(self.token)) {
            Duration::ZERO => {
                self.full_at.insert(origin, full_at + self.token);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Where an address is counted.
    fn place_of(&mut self, origin: Origin, now: Instant) -> Origin {
        if self.full_at.len() < self.most || self.full_at.contains_key(&origin) {
            return origin;
        }
        // Not for every newcomer: it takes a look at all.
        if self.swept_at.is_none_or(|at| now >= at + HTTP_BURST) {
            self.swept_at = Some(now);
            self.full_at.retain(|_, full_at| *full_at > now);
        }
        if self.full_at.len() < self.most { origin } else { Origin::Others }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn buckets(a_second: u32) -> Buckets {
        Buckets::new(NonZeroU32::new(a_second).expect("not zero"))
    }

    fn origin(text: &str) -> Origin {
        Origin::of(Some(text.parse().unwrap()))
    }

    #[test]
    fn an_ipv6_network_is_one_and_an_ipv4_address_is_itself_however_it_is_written() {
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1:2"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_eq!(Origin::of(None), Origin::Local);
    }

    #[test]
    fn a_bucket_that_is_empty_says_when_there_is_a_token_again() {
        let (mut buckets, now) = (buckets(4), Instant::now());
        let (a, b) = (origin("192.0.2.1"), origin("192.0.2.2"));
        (0..4).for_each(|_| assert_eq!(buckets.take(a, now), Ok(())));
        let wait = Duration::from_millis(250);
        assert_eq!(buckets.take(a, now), Err(wait));
        assert_eq!(buckets.take(b, now), Ok(()));
        assert_eq!(buckets.take(a, now + wait), Ok(()));
        assert_eq!(buckets.take(a, now + wait), Err(wait));
    }

    #[test]
    fn who_comes_when_all_places_are_taken_shares_one_until_some_are_free() {
        let (mut buckets, now) = (buckets(1), Instant::now());
        buckets.most = 2;
        for (address, taken) in [("192.0.2.1", true), ("192.0.2.2", true), ("192.0.2.3", true)] {
            assert_eq!(buckets.take(origin(address), now).is_ok(), taken, "{address}");
        }
        assert!(buckets.take(origin("192.0.2.4"), now).is_err(), "it shares with the third");
        let later = now + 2 * HTTP_BURST;
        assert_eq!(buckets.take(origin("192.0.2.4"), later), Ok(()));
        assert_eq!(buckets.take(origin("192.0.2.5"), later), Ok(()));
        assert!(buckets.full_at.len() <= 3);
    }

    proptest! {
        /// Over any stretch of time an address gets what comes in it and one bucket, and no less.
        #[test]
        fn an_address_gets_its_rate_and_no_more(
            a_second in 1_u32..5_000,
            gaps in proptest::collection::vec(0_u64..400_000, 1..400),
        ) {
            let mut buckets = buckets(a_second);
            let begun = Instant::now();
            let (mut now, mut taken) = (begun, 0_u64);
            let rate = f64::from(a_second);
            let burst = (rate * HTTP_BURST.as_secs_f64()).max(1.0);
            for gap in gaps {
                now += Duration::from_micros(gap);
                let is_taken = buckets.take(Origin::Local, now).is_ok();
                taken += u64::from(is_taken);
                let most = burst + rate * (now - begun).as_secs_f64();
                prop_assert!(taken as f64 <= most + 0.01, "{taken} of {most}");
                // Refused is only who has had as much as comes.
                prop_assert!(is_taken || taken as f64 + 1.01 >= burst.floor(), "{taken} of {burst}");
            }
        }

        #[test]
        fn whoever_waits_as_told_is_let_in(a_second in 1_u32..100_000, asked in 1_usize..500) {
            let mut buckets = buckets(a_second);
            let mut now = Instant::now();
            for _ in 0..asked {
                if let Err(wait) = buckets.take(Origin::Local, now) {
                    now += wait;
                    prop_assert_eq!(buckets.take(Origin::Local, now), Ok(()));
                }
            }
        }
    }
}
