//! What is no request, or not one whole: heads and bodies that break the rules of RFC 9112, and strangers
//! that leave in the middle.

use std::time::Duration;

use super::attack::{Attack, Expected, Step};
use super::requests::{LARGE, whole};
use crate::dice::Dice;

const PUT: &str = "PUT /v1/kv/abuse HTTP/1.1\r\nhost: n\r\n";

/// Lengths of bodies.
const LENGTHS: &[&str] = &[
    "0",
    "1",
    "5",
    "6",
    "4194304",
    "4194305",
    "16777217",
    "1000000000000",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999",
    "-1",
    "-0",
    "+5",
    " 5",
    "5 ",
    "5,5",
    "5, 5",
    "5,6",
    "0x5",
    "5.0",
    "5e0",
    "",
    " ",
    "five",
    "\u{665}",
    "05",
    "5\t",
];

const CODINGS: &[&str] = &[
    "chunked",
    "Chunked",
    "CHUNKED",
    "chunked, chunked",
    "gzip",
    "gzip, chunked",
    "chunked, gzip",
    "identity",
    "",
    "chunked;q=1",
    "\"chunked\"",
    "xchunked",
    "chunked,",
    " chunked",
    "chunked\t",
    "deflate",
];

/// Sizes of chunks.
const SIZES: &[&str] = &[
    "0",
    "5",
    "05",
    "0000000000000005",
    "00000000000000005",
    "5;a=b",
    "5 ",
    " 5",
    "-5",
    "+5",
    "0x5",
    "g",
    "",
    "ffffffff",
    "7fffffffffffffff",
    "8000000000000000",
    "ffffffffffffffff",
    "10000000000000000",
    "fffffffffffffffffffffffffffffffff",
    "5\n",
    "5\r",
    "5;",
    "5;\"",
    "5\u{a0}",
    "a5",
    "400001",
];

/// How long a body is, said wrongly or twice.
pub(super) fn lengths(dice: &mut Dice) -> Attack {
    let mut head = PUT.to_owned();
    for _ in 0..=dice.below(2) {
        match dice.below(3) {
            0 | 1 => head += &format!("content-length: {}\r\n", dice.pick(LENGTHS)),
            _ => head += &format!("transfer-encoding: {}\r\n", dice.pick(CODINGS)),
        }
    }
    head += "\r\n";
    let body =
        dice.pick(&["", "hello", "hello GET /livez HTTP/1.1\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n"]);
    head += body;
    Attack::of("a length", vec![Step::Send(head.into_bytes())])
}

pub(super) fn chunks(dice: &mut Dice) -> Attack {
    let mut bytes = format!("{PUT}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..dice.below(6) {
        bytes.extend_from_slice(match dice.below(5) {
            0 => dice.pick(SIZES).as_bytes(),
            _ => b"5",
        });
        match dice.below(12) {
            0 => bytes.extend_from_slice(b"\n"),
            1 => bytes.extend_from_slice(b"\r"),
            2 => bytes.extend(std::iter::repeat_n(b'0', dice.index(40_000))),
            3 => {
                bytes.extend_from_slice(b";x=");
                bytes.extend(std::iter::repeat_n(b'y', dice.index(40_000)));
                bytes.extend_from_slice(b"\r\n");
            }
            _ => bytes.extend_from_slice(b"\r\n"),
        }
        bytes.extend_from_slice(b"hello");
        bytes.extend_from_slice(
            dice.pick(&["\r\n", "\r\n", "\r\n", "\r\n", "\n", "", "x\r\n"]).as_bytes(),
        );
    }
    match dice.below(6) {
        0 => {}
        1 => bytes.extend_from_slice(b"0\r\ntrailer: a\r\nbad trailer\r\n\r\n"),
        2 => {
            bytes.extend_from_slice(b"0\r\n");
            bytes.extend_from_slice(&b"t: x\r\n".repeat(dice.index(8_000)));
            bytes.extend_from_slice(b"\r\n");
        }
        3 => bytes.extend_from_slice(b"0\r\n\r\nGET /livez HTTP/1.1\r\nhost: n\r\n\r\n"),
        _ => bytes.extend_from_slice(b"0\r\n\r\n"),
    }
    Attack::of("chunks", vec![Step::Send(bytes)])
}

pub(super) fn headers(dice: &mut Dice) -> Attack {
    let name = |dice: &mut Dice| -> Vec<u8> {
        match dice.below(12) {
            0 => Vec::new(),
            1 => b"a b".to_vec(),
            2 => vec![b'a', dice.next() as u8, b'b'],
            3 => vec![dice.next() as u8],
            4 => vec![b'n'; dice.index(70_000)],
            5 => b"host ".to_vec(),
            6 => b" folded".to_vec(),
            _ => dice
                .pick(&[
                    "if-match",
                    "if-none-match",
                    "last-event-id",
                    "accept",
                    "host",
                    "te",
                    "range",
                    "cookie",
                ])
                .as_bytes()
                .to_vec(),
        }
    };
    let value = |dice: &mut Dice| -> Vec<u8> {
        match dice.below(12) {
            0 => Vec::new(),
            1 => {
                let len = dice.index(40);
                dice.bytes(len)
            }
            2 => vec![b'v'; dice.index(70_000)],
            3 => b"a\r\n b".to_vec(),
            4 => b"a\nb: c".to_vec(),
            5 => b"\xff\xfe\x80".to_vec(),
            _ => dice
                .pick(&[
                    "*",
                    "\"1\"",
                    "\"1\", W/\"2\",",
                    "W/",
                    "1",
                    "\"",
                    "application/x-ndjson",
                    "trailers",
                    ",,,",
                ])
                .as_bytes()
                .to_vec(),
        }
    };
    let mut bytes =
        dice.pick(&["GET /v1/kv/abuse", "DELETE /v1/kv/abuse", "GET /v1/kv"]).as_bytes().to_vec();
    bytes.extend_from_slice(b" HTTP/1.1\r\n");
    for _ in 0..dice.below(4) {
        bytes.extend_from_slice(&name(dice));
        bytes.extend_from_slice(dice.pick(&[":", ":", ": ", " :", "", "::"]).as_bytes());
        bytes.extend_from_slice(&value(dice));
        bytes.extend_from_slice(
            dice.pick(&["\r\n", "\r\n", "\r\n", "\n", "\r", "\0\r\n"]).as_bytes(),
        );
    }
    if dice.once_in(8) {
        for _ in 0..dice.below(300) {
            bytes.extend_from_slice(b"a: b\r\n");
        }
    }
    if dice.once_in(20) {
        let steps = vec![Step::Send(bytes), Step::Endless(b"endless: header\r\n".repeat(100))];
        return Attack::of("headers", steps);
    }
    bytes.extend_from_slice(b"\r\n");
    Attack::of("headers", vec![Step::Send(bytes)])
}

pub(super) fn first_line(dice: &mut Dice) -> Attack {
    let lines: &[&[u8]] = &[
        b"GET /livez\r\n", b"GET /livez HTTP/0.9\r\n", b"GET /livez HTTP/1.2\r\n", b"GET /livez HTTP/2.0\r\n",
        b"GET /livez HTTP/99.99\r\n", b"GET /livez HTTP/1.1x\r\n", b"GET /livez http/1.1\r\n",
        b"GET  /livez  HTTP/1.1\r\n", b"GET\t/livez\tHTTP/1.1\r\n", b"GET /livez HTTP/1.1\n",
        b"\r\n\r\n\r\nGET /livez HTTP/1.1\r\n", b" GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1 \r\n",
        b"/livez HTTP/1.1\r\n", b"GET HTTP/1.1\r\n", b" HTTP/1.1\r\n", b"GET /a b HTTP/1.1\r\n",
        b"GET /\x00 HTTP/1.1\r\n", b"GET /\x7f HTTP/1.1\r\n", b"GET /\xff HTTP/1.1\r\n", b"GET # HTTP/1.1\r\n",
        b"GET /a#b HTTP/1.1\r\n", b"GET ? HTTP/1.1\r\n", b"GET http://[::1 HTTP/1.1\r\n",
        b"GET http://a:b@c/livez HTTP/1.1\r\n", b"GET http://x:99999/livez HTTP/1.1\r\n", b"G\xc3\xa9T / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"EHLO example\r\n", b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x00\x00", b"HTTP/1.1 200 OK\r\n", b"POST /v1/txn HTTP/1.0\r\ntransfer-encoding: chunked\r\n",
        b"GET /livez HTTP/1.0\r\nconnection: keep-alive\r\n", b"CONNECT a:1 HTTP/1.1\r\n",
        b"CONNECT /v1/kv/k HTTP/1.1\r\n", b"OPTIONS * HTTP/1.1\r\n",
        b"GET /livez HTTP/1.1\r\nupgrade: websocket\r\nconnection: upgrade\r\n",
        b"GET /livez HTTP/1.1\r\nupgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABk\r\n",
        b"PUT /v1/kv/abuse HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 5\r\n",
        b"PUT /v1/kv/abuse HTTP/1.1\r\nexpect: 200-ok\r\ncontent-length: 5\r\n",
    ];
    let mut bytes = lines[dice.index(lines.len())].to_vec();
    bytes.extend_from_slice(dice.pick(&["host: n\r\n\r\n", "\r\n", "", "\r\nhello"]).as_bytes());
    Attack::of("a first line", vec![Step::Send(bytes)])
}

pub(super) fn noise(dice: &mut Dice) -> Attack {
    let len = match dice.below(20) {
        0 => dice.index(100_000),
        _ => dice.index(600),
    };
    let mut bytes = dice.bytes(len);
    match dice.below(4) {
        // Text of a kind.
        0 => bytes.iter_mut().for_each(|byte| *byte = b' ' + *byte % 95),
        1 => bytes.iter_mut().for_each(|byte| *byte = b"GET /:\r\n0aHP1"[usize::from(*byte) % 13]),
        _ => {}
    }
    if dice.once_in(3) {
        // Some bytes of a request that was well are others.
        bytes = whole("PUT", "/v1/kv/abuse?prev", "accept: */*\r\nif-match: \"1\"\r\n", b"hello");
        for _ in 0..=dice.below(6) {
            let at = dice.index(bytes.len());
            bytes[at] = dice.next() as u8;
        }
    }
    Attack::of("noise", vec![Step::Send(bytes)])
}

/// Requests that don't wait for each other, and what is none among them.
pub(super) fn pipelined(dice: &mut Dice) -> Attack {
    let mut bytes = Vec::new();
    let count = 1 + dice.index(60);
    for _ in 0..count {
        let one = match dice.below(5) {
            0 => whole("GET", "/v1/kv/abuse", "", b""),
            1 => whole("PUT", "/v1/kv/abuse", "", b"v"),
            2 => whole("POST", "/v1/txn", "", b"{"),
            3 => whole("GET", "/nowhere", "", b""),
            _ => whole("GET", "/livez", "", b""),
        };
        bytes.extend_from_slice(&one);
    }
    if dice.once_in(2) {
        let mut attack = Attack::request("pipelined", bytes);
        attack.expected = Expected::Answers(count);
        return attack;
    }
    let len = dice.index(200);
    bytes.extend_from_slice(&dice.bytes(len));
    Attack::of("pipelined", vec![Step::Send(bytes)])
}

/// Leaves somewhere in the middle of something that was well.
pub(super) fn early(dice: &mut Dice) -> Attack {
    let bytes = match dice.below(5) {
        0 => whole("PUT", "/v1/kv/abuse", "", &vec![b'v'; dice.index(100_000)]),
        1 => whole("POST", "/v1/txn", "", br#"{"then":[{"put":{"key":"a","value":"1"}}]}"#),
        2 => whole("GET", "/v1/kv?prefix=", "", b""),
        3 => whole("PUT", "/v1/kv/abuse", "expect: 100-continue\r\n", b"hello"),
        _ => format!("{PUT}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").into_bytes(),
    };
    let cut = if dice.once_in(3) { bytes.len() } else { dice.index(bytes.len()) };
    let mut steps = vec![Step::Send(bytes[..cut].to_vec())];
    if dice.once_in(2) {
        steps.push(Step::Wait(Duration::from_millis(dice.below(8))));
    }
    match dice.below(3) {
        0 => steps.push(Step::Close),
        1 => steps.push(Step::Reset),
        // It sends no more, but reads.
        _ => {}
    }
    Attack::of("an early end", steps)
}

/// Those that the node must part from.
pub(super) const OUTWAITED: &str = "slower than may be";

/// Those that take their time; each is around for some seconds.
pub(super) fn slow(dice: &mut Dice) -> Attack {
    let pause = Duration::from_millis(5 + dice.below(400));
    match dice.below(6) {
        // Its head never comes.
        0 => Attack::of(
            OUTWAITED,
            vec![Step::Send(b"GET /livez HT".to_vec()), Step::Wait(Duration::from_secs(600))],
        ),
        1 => {
            let bytes = [b"GET /livez HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(100)].concat();
            let pause = Duration::from_millis(100);
            Attack::of(OUTWAITED, vec![Step::Drip { bytes, at_once: 1, pause }])
        }
        2 => Attack::of(OUTWAITED, vec![Step::Wait(Duration::from_secs(600))]),
        3 => {
            let bytes = whole("PUT", "/v1/kv/slow", "", &[b'v'; 20]);
            let mut attack = Attack::request("slow", Vec::new());
            attack.steps = vec![Step::Drip { bytes, at_once: 4, pause: pause / 8 }];
            attack
        }
        4 => {
            let head = format!("{PUT}content-length: 1000\r\n\r\n").into_bytes();
            let drip = Step::Drip { bytes: vec![b'v'; 12], at_once: 1, pause };
            Attack::of("slow", vec![Step::Send(head), drip, Step::Reset])
        }
        // Asks for much and reads nothing of it.
        _ => {
            let asked = whole("GET", LARGE, "", b"").repeat(20);
            let mut attack =
                Attack::of("slow", vec![Step::Send(asked), Step::Wait(10 * pause), Step::Close]);
            attack.reads = false;
            attack
        }
    }
}
