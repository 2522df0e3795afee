//! The language of the golden scripts: one line, one step.
//!
//! ```text
//! put KEY [VALUE] [lease=ID|lease=keep] [prev]     without a value the present one is kept
//! del RANGE [prev]                                 get KEY
//! range RANGE [rev=N] [limit=N] [by=ORDER] [desc] [keys|count] [mod=N..N] [create=N..N]
//! txn [when COMPARE , …] [then OP ; …] [else OP ; …]
//!     OP:       put …, del …, range …, txn ( … ), or: repeat N ( OP )
//!     COMPARE:  value|version|create|mod|lease of RANGE =|!=|>|< GIVEN
//! grant TTL [id=ID]     revoke ID     expire ID …     leases [after=ID] [limit=N]
//! lease ID [keys]       claim NAME ID VALUE     proclaim NAME ID VALUE
//! release NAME ID       holder NAME             compact N       step       status
//! open                  close SESSION
//! history FROM TO RANGE [max=N]      before KEY REVISION
//!
//! RANGE:   KEY, prefix:TEXT, .., A..B, A..=B, >A..B, each side of the dots may be left out
//! TEXT:    as it stands; \0 and \xff are bytes, {} the number of a repetition, '' nothing,
//!          and x*5000 repeats
//!
//! @SESSION.SEQ[/ACKED] COMMAND     as a command of a session
//! repeat N COMMAND                 N times, of which the last is shown
//! unchecked COMMAND                applied although it is invalid
//! leases-are N                     as if so many leases had been granted
//! ```
//!
//! Numbers of leases are decimal here and hexadecimal in keys, as everywhere.

use std::ops::Bound;

use aspen::error::Invalid;
use aspen::machine::ops::*;
use aspen::types::{Key, LeaseId, Revision, SessionId, Value};
use bytes::Bytes;

/// A line that can't be run: a request that is invalid, or a mistake in the script.
#[derive(Debug)]
pub(crate) enum Wrong {
    Invalid(Invalid),
    Script(String),
}

impl From<Invalid> for Wrong {
    fn from(invalid: Invalid) -> Self {
        Wrong::Invalid(invalid)
    }
}

type Parsed<A> = Result<A, Wrong>;

fn wrong<A>(what: impl Into<String>) -> Parsed<A> {
    Err(Wrong::Script(what.into()))
}

/// What one line asks for.
pub(crate) enum Step {
    Command(Command),
    Query(Query),
    History { from: Revision, to: Revision, range: KeyRange, max: usize },
    Before { key: Key, revision: Revision },
}

/// The words of a line, taken from the front.
pub(crate) struct Words {
    words: Vec<String>,
    at: usize,
    repetition: u64,
}

impl Words {
    /// Splits a line; in a repetition `{}` stands for its number.
    pub(crate) fn new(line: &str, repetition: u64) -> Words {
        Words { words: line.split_whitespace().map(str::to_owned).collect(), at: 0, repetition }
    }

    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }

    pub(crate) fn take_if(&mut self, word: &str) -> bool {
        let there = self.peek() == Some(word);
        self.at += usize::from(there);
        there
    }

    /// The next word, unless the part of the line that it would belong to is over.
    fn more(&mut self) -> Option<String> {
        let over = [";", ",", ")", "then", "else"];
        let word = self.peek().filter(|word| !over.contains(word))?.to_owned();
        self.at += 1;
        Some(word)
    }

    fn one(&mut self) -> Parsed<String> {
        self.more().map_or_else(|| wrong("the line ends too early"), Ok)
    }

    pub(crate) fn end(&self) -> Parsed<()> {
        self.peek().map_or(Ok(()), |word| wrong(format!("did not expect {word}")))
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.take_if(word) { Ok(()) } else { wrong(format!("expected {word}")) }
    }

    pub(crate) fn number(&mut self) -> Parsed<u64> {
        let word = self.one()?;
        number(&word)
    }

    fn lease(&mut self) -> Parsed<LeaseId> {
        Ok(LeaseId(self.number()?))
    }

    fn text(&mut self) -> Parsed<Bytes> {
        let word = self.one()?;
        Ok(self.unescape(&word))
    }

    fn key(&mut self) -> Parsed<Key> {
        Ok(Key::new(self.text()?)?)
    }

    fn value(&mut self) -> Parsed<Value> {
        Ok(Value::new(self.text()?)?)
    }

    fn unescape(&self, word: &str) -> Bytes {
        let word = word.replace("{}", &self.repetition.to_string());
        if word == "''" {
            return Bytes::new();
        }
        if let Some((text, Ok(times))) = word.split_once('*').map(|(t, n)| (t, n.parse())) {
            return text.repeat(times).into();
        }
        let mut bytes = Vec::new();
        let mut rest = word.as_bytes();
        while let [first, after @ ..] = rest {
            (rest, _) = match (first, after) {
                (b'\\', [b'0', rest @ ..]) => (rest, bytes.push(0)),
                (b'\\', [b'x', high, low, rest @ ..]) => {
                    let digits = [*high, *low];
                    let digits = std::str::from_utf8(&digits).unwrap();
                    (rest, bytes.push(u8::from_str_radix(digits, 16).unwrap()))
                }
                _ => (after, bytes.push(*first)),
            };
        }
        bytes.into()
    }

    fn range(&mut self) -> Parsed<KeyRange> {
        let word = self.one()?;
        if let Some(prefix) = word.strip_prefix("prefix:") {
            return Ok(KeyRange::prefix(self.unescape(prefix)));
        }
        let Some((start, end)) = word.split_once("..") else {
            return Ok(KeyRange::one(&Key::new(self.unescape(&word))?));
        };
        let start = match start.strip_prefix('>') {
            Some(start) => Bound::Excluded(self.unescape(start)),
            None if start.is_empty() => Bound::Unbounded,
            None => Bound::Included(self.unescape(start)),
        };
        let end = match end.strip_prefix('=') {
            Some(end) => Bound::Included(self.unescape(end)),
            None if end.is_empty() => Bound::Unbounded,
            None => Bound::Excluded(self.unescape(end)),
        };
        Ok(KeyRange { start, end })
    }
}

fn number(word: &str) -> Parsed<u64> {
    word.parse().or_else(|_| wrong(format!("{word} is no number")))
}

/// A line, after what stands before the command itself.
pub(crate) fn step(words: &mut Words) -> Parsed<Step> {
    let place = words.peek().and_then(|word| word.strip_prefix('@')).map(str::to_owned);
    let session = match place {
        None => None,
        Some(place) => {
            let (place, acked) = place.split_once('/').unwrap_or((&place, "1"));
            let (id, seq) = place.split_once('.').unwrap_or((place, ""));
            let seq = number(&seq.replace("{}", &words.repetition.to_string()))?;
            let acked = number(&acked.replace("{}", &words.repetition.to_string()))?;
            words.at += 1;
            Some(SessionSeq { id: SessionId(number(id)?), seq, acked_below: acked })
        }
    };
    let query = match words.peek() {
        _ if session.is_some() => None,
        Some("get") => {
            words.one()?;
            Some(Query::Get(words.key()?))
        }
        Some("range") => {
            words.one()?;
            Some(Query::Range(range(words)?))
        }
        Some("leases") => {
            words.one()?;
            let (mut after, mut limit) = (None, 100);
            while let Some(word) = words.more() {
                match word.split_once('=') {
                    Some(("after", id)) => after = Some(LeaseId(number(id)?)),
                    Some(("limit", most)) => limit = number(most)?,
                    _ => return wrong(format!("leases {word}")),
                }
            }
            Some(Query::Leases { after, limit })
        }
        Some("lease") => {
            words.one()?;
            Some(Query::Lease { id: words.lease()?, keys: words.take_if("keys") })
        }
        Some("holder") => {
            words.one()?;
            Some(Query::Holder { name: words.key()? })
        }
        Some("status") => {
            words.one()?;
            Some(Query::Status)
        }
        Some("history") => {
            words.one()?;
            let (from, to, range) = (words.number()?, words.number()?, words.range()?);
            let max = match words.more() {
                Some(word) => number(word.strip_prefix("max=").unwrap_or(&word))? as usize,
                None => usize::MAX,
            };
            return Ok(Step::History { from, to, range, max });
        }
        Some("before") => {
            words.one()?;
            return Ok(Step::Before { key: words.key()?, revision: words.number()? });
        }
        _ => None,
    };
    if let Some(query) = query {
        return Ok(Step::Query(query));
    }
    Ok(Step::Command(Command { session, action: action(words)? }))
}

fn action(words: &mut Words) -> Parsed<Action> {
    Ok(match words.one()?.as_str() {
        "put" => Action::Put(put(words)?),
        "del" => Action::Delete(delete(words)?),
        "txn" => Action::Txn(txn(words)?),
        "grant" => {
            let ttl_ms = words.number()?;
            let id = match words.more() {
                Some(word) => Some(LeaseId(number(word.strip_prefix("id=").unwrap_or(&word))?)),
                None => None,
            };
            Action::LeaseGrant { id, ttl_ms }
        }
        "revoke" => Action::LeaseRevoke { id: words.lease()? },
        "expire" => {
            let mut ids = Vec::new();
            while let Some(word) = words.more() {
                ids.push(LeaseId(number(&word)?));
            }
            Action::LeaseExpire { ids }
        }
        "claim" => {
            let (name, lease, value) = (words.key()?, words.lease()?, words.value()?);
            Action::Claim(Claim { name, lease, value })
        }
        "proclaim" => {
            let (name, lease, value) = (words.key()?, words.lease()?, words.value()?);
            Action::Proclaim { name, lease, value }
        }
        "release" => Action::Release { name: words.key()?, lease: words.lease()? },
        "compact" => Action::Compact { revision: words.number()? },
        "step" => Action::CompactStep,
        "open" => Action::SessionOpen,
        "close" => Action::SessionClose { id: SessionId(words.number()?) },
        other => return wrong(format!("{other} is no step")),
    })
}

fn put(words: &mut Words) -> Parsed<Put> {
    let mut put = Put { key: words.key()?, value: None, lease: PutLease::Detach, prev: false };
    while let Some(word) = words.more() {
        match word.strip_prefix("lease=") {
            Some("keep") => put.lease = PutLease::Keep,
            Some(id) => put.lease = PutLease::Attach(LeaseId(number(id)?)),
            None if word == "prev" => put.prev = true,
            None => put.value = Some(Value::new(words.unescape(&word))?),
        }
    }
    Ok(put)
}

fn delete(words: &mut Words) -> Parsed<Delete> {
    Ok(Delete { range: words.range()?, prev: words.take_if("prev") })
}

fn range(words: &mut Words) -> Parsed<Range> {
    let mut range = Range::of(words.range()?);
    while let Some(word) = words.more() {
        match word.split_once('=').unwrap_or((&word, "")) {
            ("rev", at) => range.revision = Some(number(at)?),
            ("limit", most) => range.limit = Some(number(most)?),
            ("by", "key") => range.order.by = OrderBy::Key,
            ("by", "version") => range.order.by = OrderBy::Version,
            ("by", "create") => range.order.by = OrderBy::Create,
            ("by", "mod") => range.order.by = OrderBy::Mod,
            ("by", "value") => range.order.by = OrderBy::Value,
            ("desc", _) => range.order.descending = true,
            ("keys", _) => range.select = Select::Keys,
            ("count", _) => range.select = Select::Count,
            (counter @ ("mod" | "create"), bounds) => {
                let (least, most) = bounds.split_once("..").unwrap_or((bounds, bounds));
                let bound = |word: &str| (!word.is_empty()).then(|| number(word)).transpose();
                let (least, most) = (bound(least)?, bound(most)?);
                if counter == "mod" {
                    (range.filter.mod_min, range.filter.mod_max) = (least, most);
                } else {
                    (range.filter.create_min, range.filter.create_max) = (least, most);
                }
            }
            _ => return wrong(format!("range {word}")),
        }
    }
    Ok(range)
}

fn txn(words: &mut Words) -> Parsed<Txn> {
    let mut txn = Txn::default();
    if words.take_if("when") {
        txn.when.push(compare(words)?);
        while words.take_if(",") {
            txn.when.push(compare(words)?);
        }
    }
    for (word, list) in [("then", &mut txn.then), ("else", &mut txn.or_else)] {
        if words.take_if(word) {
            ops(words, list)?;
            while words.take_if(";") {
                ops(words, list)?;
            }
        }
    }
    Ok(txn)
}

/// One operation, or one that is repeated.
fn ops(words: &mut Words, list: &mut Vec<Op>) -> Parsed<()> {
    if !words.take_if("repeat") {
        list.push(op(words)?);
        return Ok(());
    }
    let times = words.number()?;
    words.expect("(")?;
    let from = words.at;
    for repetition in 1..=times {
        words.at = from;
        words.repetition = repetition;
        list.push(op(words)?);
    }
    words.expect(")")
}

fn op(words: &mut Words) -> Parsed<Op> {
    Ok(match words.one()?.as_str() {
        "put" => Op::Put(put(words)?),
        "del" => Op::Delete(delete(words)?),
        "range" => Op::Range(range(words)?),
        "txn" => {
            words.expect("(")?;
            let nested = txn(words)?;
            words.expect(")")?;
            Op::Txn(nested)
        }
        other => return wrong(format!("{other} is no operation")),
    })
}

fn compare(words: &mut Words) -> Parsed<Compare> {
    let target = words.one()?;
    words.expect("of")?;
    let range = words.range()?;
    let range = match range.as_one() {
        Some(key) => CompareKeys::One(Key::try_from(key)?),
        None => CompareKeys::All(range),
    };
    let is = match words.one()?.as_str() {
        "=" => Is::Equal,
        "!=" => Is::NotEqual,
        ">" => Is::Greater,
        "<" => Is::Less,
        other => return wrong(format!("{other} compares nothing")),
    };
    let target = match target.as_str() {
        "value" => CompareTarget::Value(words.value()?),
        "version" => CompareTarget::Version(words.number()?),
        "create" => CompareTarget::Create(words.number()?),
        "mod" => CompareTarget::Mod(words.number()?),
        "lease" => CompareTarget::Lease(words.number()?),
        other => return wrong(format!("{other} can't be compared")),
    };
    Ok(Compare { range, target, is })
}
