//! Addresses: their bytes, their texts, their bounds.

use std::net::SocketAddr;

use super::*;

/// As many addresses as a peer may have, each as long as it gets.
pub(super) fn largest() -> Vec<Address> {
    let mut addresses = vec![address("[ffff::ffff]:65535"); PEER_ADDRESSES_MAX - RELAYS_MAX];
    addresses.extend(vec![address(&url_of(RELAY_URL_BYTES_MAX)); RELAYS_MAX]);
    addresses
}

/// Any address, a relay as often as a socket.
pub(super) fn addresses() -> impl Strategy<Value = Address> {
    // Flow and scope have no meaning on another machine and are no part of an address.
    let socket = any::<SocketAddr>().prop_map(|a| SocketAddr::new(a.ip(), a.port()).into());
    let relay =
        "https?://[a-z][a-z0-9]{0,20}(\\.[a-z]{1,20}){0,5}\\.?(:[1-9][0-9]{2})?(/[a-z]{0,9})?";
    prop_oneof![socket, relay.prop_map(|url| address(&url))]
}

fn address(text: &str) -> Address {
    text.parse().expect(text)
}

/// A relay's URL of so many bytes.
fn url_of(bytes: usize) -> String {
    let frame = "https://relay.example/";
    format!("{frame}{}", "a".repeat(bytes - frame.len()))
}

fn bytes(address: &Address) -> Vec<u8> {
    postcard::to_stdvec(address).expect("into memory")
}

/// What stands in tickets and records must stay readable.
#[test]
fn each_kind_keeps_its_bytes() {
    let fixed: [(&str, &[u8]); 3] = [
        ("127.0.0.1:4681", b"\x00\x7f\0\0\x01\xc9\x24"),
        ("[::1]:4681", b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xc9\x24"),
        ("https://relay.example/", b"\x02\x16https://relay.example/"),
    ];
    for (text, form) in fixed {
        assert_eq!(bytes(&address(text)), form, "{text}");
        assert_eq!(postcard::from_bytes(form), Ok(address(text)));
        if let Ok(socket) = text.parse::<SocketAddr>() {
            assert_eq!(postcard::to_stdvec(&socket).as_deref(), Ok(form), "as before relays");
        }
    }
}

#[test]
fn an_address_is_a_socket_or_a_relay() {
    let socket = address("203.0.113.5:4433");
    assert_eq!((socket.ip(), socket.relay()), ("203.0.113.5:4433".parse().ok(), None));
    let relay = address("https://relay.example");
    assert_eq!((relay.ip(), relay.relay()), (None, Some("https://relay.example/")));
    assert!(address("203.0.113.5:4433") < address("[::1]:1") && address("[::1]:1") < relay);
}

#[test]
fn a_relay_is_the_same_however_it_is_written() {
    let relay = address("https://relay.example/");
    for text in ["https://relay.example", "HTTPS://Relay.Example:443", "https:relay.example"] {
        assert_eq!(address(text), relay, "{text}");
    }
    assert_eq!(relay.to_string(), "https://relay.example/");
}

#[test]
fn a_relay_in_another_form_is_refused_as_bytes() {
    let unlike = ["https://relay.example", "HTTPS://relay.example/", "https://relay.example:443/"];
    let too_long = url_of(RELAY_URL_BYTES_MAX + 1);
    for text in unlike.into_iter().chain(["ftp://relay.example/", "relay", "", &too_long]) {
        let form = postcard::to_stdvec(&(2_u8, text)).expect("into memory");
        assert!(postcard::from_bytes::<Address>(&form).is_err(), "{text}");
    }
}

#[test]
fn texts_that_are_no_addresses_are_refused() {
    for text in
        ["", "127.0.0.1", "localhost:4433", "relay.example", "ftp://relay.example/", "https://"]
    {
        assert_eq!(text.parse::<Address>(), Err(AddressError::Unreadable), "{text}");
    }
    assert!(url_of(RELAY_URL_BYTES_MAX).parse::<Address>().is_ok());
    let too_long = url_of(RELAY_URL_BYTES_MAX + 1);
    assert_eq!(too_long.parse::<Address>(), Err(AddressError::TooLong));
}

#[test]
fn the_largest_addresses_fit_their_limit() {
    let taken = postcard::to_stdvec(&largest()).expect("into memory");
    assert!(taken.len() <= ADDRESSES_BYTES_MAX, "{}", taken.len());
}

#[test]
fn of_too_many_addresses_the_first_stay_and_relays_before_sockets() {
    let sockets: Vec<Address> = (1..=9).map(|n| address(&format!("127.0.0.1:{n}"))).collect();
    let relays: Vec<Address> = (1..=3).map(|n| address(&format!("http://{n}.example"))).collect();
    let mut kept = [&sockets[..], &relays[..]].concat();
    assert!(!Address::are_few(&kept, 8));
    Address::keep_few(&mut kept, 8);
    assert_eq!(kept, [&sockets[..6], &relays[..2]].concat());
    assert!(Address::are_few(&kept, 8));

    let mut kept = sockets.clone();
    Address::keep_few(&mut kept, 8);
    assert_eq!(kept, sockets[..8]);
    assert!(!Address::are_few(&relays, 8));
}

proptest! {
    #[test]
    fn any_address_survives_its_bytes_and_its_text(address in addresses()) {
        let read: Address = address.to_string().parse().expect("its own text");
        prop_assert_eq!(&read, &address);
        let read: Address = postcard::from_bytes(&bytes(&address)).expect("its own bytes");
        prop_assert_eq!(&read, &address);
    }

    #[test]
    fn any_relays_bytes_are_in_its_one_form_or_refused(url in "https?:[ -~ä]{0,40}") {
        let form = postcard::to_stdvec(&(2_u8, url)).expect("into memory");
        if let Ok(read) = postcard::from_bytes::<Address>(&form) {
            prop_assert_eq!(bytes(&read), form);
        }
    }
}
