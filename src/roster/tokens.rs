//! Tokens: what programs show at a door that knows nobody by a key, such as HTTP's.
//!
//! A token is an id and a secret, drawn at random when it is made and told once. The records keep a
//! hash of it, so that who reads them can't use it, with what it is for. It is good until it expires
//! or is taken back, at every node; unlike a ticket it rests on no member.
//!
//! Whether one is good is decided with the same work whatever is wrong with it: the text is hashed
//! and compared with a hash, in a time that does not depend on where they differ, also where there
//! is nothing to compare with.

use std::fmt;

use aspen_tickets::{Body as _, Scope, TOKEN_KIND, Verbs};
use serde::{Deserialize, Serialize};

use super::Roster;
use super::change::{Change, Needs};
use super::clients::Permit;
use super::records::{Record, RecordKey};
use super::refused::Refused;
use super::tickets::Access;
use crate::limits::{MEMBER_NAME_BYTES_MAX, ROSTER_DROPS_MAX, TICKET_LIFE_S_MAX, TOKENS_MAX};
use crate::types::EndpointId;

/// The level of builds that know tokens.
pub const LEVEL_TOKENS: u32 = 3;

const ID_BYTES: usize = 16;
const BYTES: usize = ID_BYTES + 32;
/// What the hash is derived for.
const HASHED_AS: &str = "aspen 2026-11 tokens";

/// A token: whoever has it may use it. Shown in full only by [`Token::text`].
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; BYTES]);

/// What the records keep of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// A label for people; may be empty.
    pub name: String,
    /// Which keys.
    pub scope: Scope,
    /// What may be done with them.
    pub verbs: Verbs,
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
    /// When it ends, in seconds since 1970; `None` if it does not by itself.
    pub expires_s: Option<u64>,
    /// Of the token.
    pub hash: [u8; 32],
}

impl Token {
    /// The token with this id and secret.
    pub fn new(id: u128, secret: [u8; 32]) -> Self {
        let mut bytes = [0; BYTES];
        bytes[..ID_BYTES].copy_from_slice(&id.to_be_bytes());
        bytes[ID_BYTES..].copy_from_slice(&secret);
        Token(bytes)
    }

    /// The token that a text is, if it is one.
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(TOKEN_KIND.as_bytes())?.to_ascii_uppercase();
        let bytes = data_encoding::BASE32_NOPAD.decode(&text).ok()?;
        Some(Token(bytes.try_into().ok()?))
    }

    /// Its id, which is no secret.
    pub fn id(&self) -> u128 {
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&self.0[..ID_BYTES]);
        u128::from_be_bytes(id)
    }

    /// What is to be kept of it.
    pub fn hash(&self) -> blake3::Hash {
        blake3::derive_key(HASHED_AS, &self.0).into()
    }

    /// The text that its holder shows.
    pub fn text(&self) -> String {
        let text = data_encoding::BASE32_NOPAD.encode(&self.0).to_ascii_lowercase();
        format!("{TOKEN_KIND}{text}")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({:032x})", self.id())
    }
}

impl TokenRecord {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.name.len() > MEMBER_NAME_BYTES_MAX || self.name.chars().any(char::is_control) {
            return Err("a token's name is too long or has control characters");
        }
        // The bounds of a grant's scope and verbs are those of a token's.
        let grant = aspen_tickets::Grant {
            id: 0,
            scope: self.scope.clone(),
            verbs: self.verbs,
            expires_s: 0,
            uses: 1,
            issuer: EndpointId([0; 32]).0,
        };
        grant.check().map_err(|_| "a token is out of bounds")
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now_s: u64) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s)
    }

    fn permit(&self, id: u128) -> Permit {
        let Self { scope, verbs, expires_s, .. } = self.clone();
        Permit { grant: id, scope, verbs, expires_s: expires_s.unwrap_or(u64::MAX) }
    }
}

/// Makes a token, which others that have expired make room for, and tells what is kept of it.
pub fn create(
    roster: &Roster,
    token: &Token,
    access: &Access,
    life_s: Option<u64>,
    now_s: u64,
) -> Result<(TokenRecord, Change), Refused> {
    roster.founded()?;
    let is_out_of_bounds = |life_s: u64| life_s == 0 || life_s > TICKET_LIFE_S_MAX;
    if life_s.is_some_and(is_out_of_bounds) {
        return Err(Refused::LifeOutOfBounds);
    }
    if roster.token(token.id()).is_some() {
        return Err(Refused::TicketExists);
    }
    let Access { name, scope, verbs } = access.clone();
    let record = TokenRecord {
        name,
        scope,
        verbs,
        created_s: now_s,
        expires_s: life_s.map(|life_s| now_s + life_s),
        hash: *token.hash().as_bytes(),
    };
    record.check().map_err(|what| Refused::Malformed { what: what.into() })?;
    let expired = roster.tokens().filter(|(_, token)| token.is_expired(now_s));
    let drops: Vec<_> = expired.map(|(id, _)| id).take(ROSTER_DROPS_MAX).collect();
    if roster.tokens.len() - drops.len() >= TOKENS_MAX {
        return Err(Refused::TooManyTokens { limit: TOKENS_MAX as u64 });
    }
    let mut change = roster.change_in_sequence()?;
    drops.into_iter().for_each(|id| change.forget(RecordKey::Token(id)));
    change.create(Record::Token(token.id(), record.clone()));
    change.needs = Some(Needs { level: LEVEL_TOKENS, what: "tokens".into() });
    Ok((record, change))
}

/// Takes a token back: it is known no more.
pub fn revoke(roster: &Roster, id: u128) -> Result<Change, Refused> {
    let at = roster.tokens.get(&id).ok_or(Refused::UnknownToken)?;
    let mut change = Change::default();
    change.delete(RecordKey::Token(id), at.mod_revision);
    Ok(change)
}

/// What the holder of a token may do, and what the token is called; `None` if it is not good.
pub fn holder(roster: &Roster, shown: &[u8], now_s: u64) -> Option<(Permit, String)> {
    let token = Token::read(shown);
    let is_token = token.is_some();
    // The same work for what is no token, and for one that is not known.
    let token = token.unwrap_or(Token([0; BYTES]));
    let record = roster.token(token.id());
    let kept = record.map_or([0; 32], |record| record.hash);
    let is_same = token.hash() == blake3::Hash::from(kept);
    let record = record.filter(|record| is_same & is_token & !record.is_expired(now_s))?;
    Some((record.permit(token.id()), record.name.clone()))
}

/// Whether what a token permitted still is.
pub fn still(roster: &Roster, permit: &Permit, now_s: u64) -> bool {
    roster.token(permit.grant).is_some_and(|record| !record.is_expired(now_s))
}

impl Roster {
    /// Tokens by id; expired ones too until they are dropped.
    pub fn tokens(&self) -> impl Iterator<Item = (u128, &TokenRecord)> {
        self.tokens.iter().map(|(id, at)| (*id, &at.record))
    }

    /// The token of this id, expired or not.
    pub fn token(&self, id: u128) -> Option<&TokenRecord> {
        self.tokens.get(&id).map(|at| &at.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_text_that_keeps_its_form() {
        let token = Token::new(7, [9; 32]);
        let text = token.text();
        assert!(text.starts_with("aspentokenaaaaaaaaaaaaaaaaaaaaaaaaa4"), "{text}");
        assert_eq!(text.len(), TOKEN_KIND.len() + 77);
        assert_eq!(Token::read(text.as_bytes()), Some(token.clone()));
        assert_eq!(token.id(), 7);
        assert_eq!(format!("{token:?}"), "Token(00000000000000000000000000000007)");
        for wrong in ["", "aspentoken", &text[1..], &text[..text.len() - 1], &format!("{text}a")] {
            assert_eq!(Token::read(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_hash_that_is_kept_stays() {
        let hash = Token::new(7, [9; 32]).hash().to_hex();
        assert_eq!(
            hash.as_str(),
            "46a358a4c9897db573454ef2f52f5bc63714a3a8693cf12b8ecc4c333b1cf04a"
        );
    }
}
