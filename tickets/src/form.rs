//! What all kinds of ticket do alike: to bytes and back, to a string and back, in one form only.

use std::fmt;

use data_encoding::BASE32_NOPAD;
use iroh_tickets::Ticket;
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{ClientTicket, JoinTicket, TicketError};

/// The beginnings of our tickets. One is the beginning of the other: the longest that fits counts.
/// What follows `aspen` in a ticket to join is its version in base32, which for the first sixteen
/// versions is not the `c` of `client`.
const KINDS: [&str; 2] = [JoinTicket::KIND, ClientTicket::KIND];

/// A kind of ticket.
pub(crate) trait Form: Ticket + Serialize + DeserializeOwned {
    /// Its largest encoding.
    const BYTES_MAX: usize;

    /// Whether every part is within its limits.
    fn check(&self) -> Result<(), TicketError>;
}

/// The versions of a ticket; the number of the variant is the first byte.
#[derive(Deserialize)]
enum Versioned<T> {
    V1(T),
}

/// The same, borrowed.
#[derive(Serialize)]
enum VersionedRef<'a, T> {
    V1(&'a T),
}

pub(crate) fn to_bytes<T: Form>(ticket: &T) -> Vec<u8> {
    encode(&VersionedRef::V1(ticket))
}

pub(crate) fn from_bytes<T: Form>(bytes: &[u8]) -> Result<T, TicketError> {
    if bytes.len() > T::BYTES_MAX {
        return Err(TicketError::TooLong);
    }
    match bytes.first() {
        Some(0) => {}
        Some(version) => return Err(TicketError::Version(version.saturating_add(1))),
        None => return Err(TicketError::Garbled("it is empty")),
    }
    let Ok(Versioned::V1(ticket)) = postcard::from_bytes::<Versioned<T>>(bytes) else {
        return Err(TicketError::Garbled("its parts can't be read"));
    };
    ticket.check()?;
    if to_bytes(&ticket) != bytes {
        return Err(TicketError::Garbled("it is not in its one form"));
    }
    Ok(ticket)
}

/// Reads a ticket as it was pasted: white space around it is no part of it.
pub(crate) fn from_text<T: Form>(text: &str) -> Result<T, TicketError> {
    let text = text.trim();
    let kind = KINDS.into_iter().filter(|kind| text.starts_with(kind)).max_by_key(|k| k.len());
    match kind {
        Some(kind) if kind == T::KIND => {}
        Some(found) => return Err(TicketError::WrongKind { expected: T::KIND, found }),
        None => return Err(TicketError::NotATicket { expected: T::KIND }),
    }
    let letters = &text[T::KIND.len()..];
    if letters.len() > (T::BYTES_MAX * 8).div_ceil(5) {
        return Err(TicketError::TooLong);
    }
    let bytes = BASE32_NOPAD
        .decode(letters.to_ascii_uppercase().as_bytes())
        .map_err(|_| TicketError::Garbled("letters are missing or wrong"))?;
    from_bytes(&bytes)
}

pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain fields always encode into memory")
}

/// A list that may have at most `MAX` elements; a longer one is refused before it is read.
pub(crate) fn bounded<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MAX: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            if let Some(length) = list.size_hint()
                && length > MAX
            {
                return Err(A::Error::invalid_length(length, &self));
            }
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                if elements.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, MAX>(std::marker::PhantomData))
}

/// How a kind of ticket is shown, read and found behind [`Ticket`].
macro_rules! string_form {
    ($ticket:ty, $kind:literal) => {
        impl iroh_tickets::Ticket for $ticket {
            const KIND: &'static str = $kind;

            fn encode_bytes(&self) -> Vec<u8> {
                $crate::form::to_bytes(self)
            }

            fn decode_bytes(bytes: &[u8]) -> Result<Self, iroh_tickets::ParseError> {
                Ok($crate::form::from_bytes(bytes)?)
            }
        }

        impl std::fmt::Display for $ticket {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&iroh_tickets::Ticket::encode_string(self))
            }
        }

        /// Reads a ticket as it was pasted: white space around it is no part of it.
        impl std::str::FromStr for $ticket {
            type Err = $crate::TicketError;

            fn from_str(text: &str) -> Result<Self, $crate::TicketError> {
                $crate::form::from_text(text)
            }
        }
    };
}

pub(crate) use string_form;
