//! Forms: what is read is written so that it is read as the same again, or is refused.

use aspen::http::Origins;
use aspen::net::{Choice, Directory, Entrances, Reach, Relays};
use aspen::node::DoorAddress;
use aspen::roster::announcement::Announcement;
use aspen::roster::records::{Record, RecordKey};
use aspen::roster::settings;
use aspen::roster::tokens::Token;
use aspen::roster::undertakings::What;
use aspen::types::{
    Address, ClusterId, Consistency, EndpointId, Form, KeyspaceName, LeaseId, Spelt,
};
use aspen_tickets::{Role, Verbs};

/// Checks the form that the first byte says. Gives its name if the rest was read.
pub fn run(forms: &'static [Form], bytes: &[u8]) -> Option<&'static str> {
    let (selector, bytes) = bytes.split_first()?;
    let Form { name, again, spelt } = forms[usize::from(*selector) % forms.len()];
    let once = again(bytes)?;
    match spelt {
        Spelt::InOneWay => assert_eq!(once, bytes, "{name}: it has a second form"),
        Spelt::Freely => {
            assert_eq!(
                again(&once),
                Some(once),
                "{name}: it is read otherwise than it was written"
            );
        }
        Spelt::Elsewhere => {}
    }
    Some(name)
}

/// What the meta group keeps, and what members say of themselves.
pub const RECORDS: &[Form] = &[
    Form {
        name: "key of a record",
        again: |key| Some(RecordKey::decode(key).ok()??.encode()),
        spelt: Spelt::InOneWay,
    },
    // The key, a zero, the value.
    Form {
        name: "record",
        again: |bytes| {
            let at = bytes.iter().position(|byte| *byte == 0)?;
            let key = RecordKey::decode(&bytes[..at]).ok()??;
            let record = Record::decode(&key, &bytes[at + 1..]).ok()?;
            Some([&record.key().encode()[..], &[0], &record.encode()].concat())
        },
        spelt: Spelt::InOneWay,
    },
    // Any signature will do, but of what a later build adds, only what this one knows is kept.
    Form {
        name: "announcement",
        again: |bytes| Some(Announcement::read(bytes).ok()?.seal(|_| [0; 64])),
        spelt: Spelt::Freely,
    },
    Form {
        name: "token",
        again: |text| Some(Token::read(text)?.text().into_bytes()),
        spelt: Spelt::Freely,
    },
    Form {
        name: "time",
        again: |text| {
            let time = settings::time(str::from_utf8(text).ok()?)?;
            Some(settings::time_text(time).into_bytes())
        },
        spelt: Spelt::Freely,
    },
    settings::FORM,
];

/// What people write in settings, arguments, paths and queries.
pub const TEXTS: &[Form] = &[
    Form::text::<Address>("address"),
    Form::text::<Choice<Relays>>("relays"),
    Form::text::<Choice<Directory>>("directory"),
    Form::text::<Choice<Entrances>>("entrances"),
    Form::text::<Reach>("reach"),
    Form::text::<DoorAddress>("address of a door"),
    Form::text::<Origins>("origins"),
    Form::text::<KeyspaceName>("keyspace"),
    Form::text::<EndpointId>("endpoint"),
    Form::text::<ClusterId>("cluster"),
    Form::text::<LeaseId>("lease"),
    Form::text::<Consistency>("consistency"),
    Form::text::<What>("operation"),
    Form::text::<Role>("role"),
    Form::text::<Verbs>("verbs"),
];
