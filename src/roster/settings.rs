//! What holds for a whole cluster: settings that every member follows.
//!
//! Each is a record of its own with text as its value, so that a member that does not know one passes
//! it over. A row of the table says what is allowed; where no record is, its default holds.

use std::time::Duration;

use super::Roster;
use super::builds::LEVEL_FIRST;
use super::change::{Change, Needs};
use super::records::{Record, RecordKey};
use super::refused::Refused;
use super::tokens::LEVEL_TOKENS;
use crate::limits::SNAPSHOT_RATE_MIN;
use crate::types::{Form, Spelt};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its name, in words joined by dashes.
    pub name: &'static str,
    /// What holds unless it is set.
    pub default: &'static str,
    /// What is allowed, as the end of a sentence that begins with "use".
    pub allowed: &'static str,
    /// What it is for, in one line.
    pub help: &'static str,
    /// The level of builds that know it; see [`super::builds`].
    pub since: u32,
    is_allowed: fn(&str) -> bool,
}

/// How long a member is not heard before its replicas are made again elsewhere.
pub const LOST_AFTER: &str = "lost-after";
/// How many shards may be on their way to other places at once.
pub const MOVES_AT_ONCE: &str = "moves-at-once";

/// How many bytes of snapshots a node sends in one second.
pub const SNAPSHOT_RATE: &str = "snapshot-rate";

/// Whether nobody may write.
pub const READ_ONLY: &str = "read-only";

/// Every setting there is.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: LOST_AFTER,
        default: "5m",
        allowed: "a time of at least one second such as 30s, 5m or 1h",
        help: "How long a member is not heard before its replicas are made again elsewhere",
        since: LEVEL_FIRST,
        is_allowed: |text| time(text).is_some_and(|time| time >= Duration::from_secs(1)),
    },
    Setting {
        name: MOVES_AT_ONCE,
        default: "16",
        allowed: "a whole number from 0 to 128",
        help: "How many shards may be on their way to other places at once; 0 moves none",
        since: LEVEL_FIRST,
        is_allowed: |text| number(text).is_some_and(|number| number <= 128),
    },
    Setting {
        name: SNAPSHOT_RATE,
        default: "64MiB",
        allowed: "a size of at least 4MiB such as 16MiB or 1GiB",
        help: "How many bytes of snapshots a node sends in one second, to all that it brings up",
        since: LEVEL_FIRST,
        is_allowed: |text| bytes(text).is_some_and(|bytes| bytes >= SNAPSHOT_RATE_MIN),
    },
    Setting {
        name: READ_ONLY,
        default: "off",
        allowed: "on or off",
        help: "Whether nobody may write keys, locks and leases; what there is can be read",
        since: LEVEL_TOKENS,
        is_allowed: |text| matches!(text, "on" | "off"),
    },
    // Something that only a second build knows, for tests of clusters of two builds.
    #[cfg(debug_assertions)]
    Setting {
        name: "for-tests",
        default: "off",
        allowed: "on or off",
        help: "Nothing; only builds for tests have it",
        since: 4,
        is_allowed: |text| matches!(text, "on" | "off"),
    },
];

/// The form of what is set.
#[doc(hidden)]
pub const FORM: Form = Form {
    name: "setting",
    again: |text| {
        let text = str::from_utf8(text).ok()?;
        SETTINGS.iter().any(|setting| (setting.is_allowed)(text)).then(Vec::new)
    },
    spelt: Spelt::Elsewhere,
};

/// Those that a build of a level knows.
pub fn known(level: u32) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.since <= level)
}

/// Sets a setting, as a build of a level; without a value its default holds again.
pub fn set(
    roster: &Roster,
    level: u32,
    name: &str,
    value: Option<&str>,
) -> Result<Change, Refused> {
    roster.founded()?;
    let row = known(level).find(|setting| setting.name == name);
    let Some(row) = row else {
        let known: Vec<&str> = known(level).map(|setting| setting.name).collect();
        return Err(Refused::UnknownSetting { name: name.into(), known: known.join(", ") });
    };
    let at = roster.settings.get(name);
    let needs = (row.since > LEVEL_FIRST)
        .then(|| Needs { level: row.since, what: format!("the setting {name}") });
    let mut change = Change { needs, ..Change::default() };
    match (value, at) {
        (Some(value), _) if !(row.is_allowed)(value) => {
            let (name, allowed) = (name.to_owned(), row.allowed.to_owned());
            return Err(Refused::BadSetting { name, allowed });
        }
        (Some(value), Some(at)) if at.record == value => {}
        (Some(value), at) => {
            let record = Record::Setting(name.into(), value.into());
            change.replace(record, at.map_or(0, |at| at.mod_revision));
        }
        (None, Some(at)) => change.delete(RecordKey::Setting(name.into()), at.mod_revision),
        (None, None) => {}
    }
    Ok(change)
}

impl Roster {
    /// The value of a setting of the table.
    pub fn setting(&self, setting: &Setting) -> &str {
        let set = self.settings.get(setting.name).map(|at| at.record.as_str());
        // One that a newer member allowed and this one does not holds for the newer ones.
        set.filter(|text| (setting.is_allowed)(text)).unwrap_or(setting.default)
    }

    fn named(&self, name: &str) -> &str {
        let row = SETTINGS.iter().find(|setting| setting.name == name);
        row.map_or("", |setting| self.setting(setting))
    }

    /// See [`LOST_AFTER`].
    pub fn lost_after(&self) -> Duration {
        time(self.named(LOST_AFTER)).unwrap_or(Duration::MAX)
    }

    /// See [`MOVES_AT_ONCE`].
    pub fn moves_at_once(&self) -> usize {
        number(self.named(MOVES_AT_ONCE)).unwrap_or(0)
    }
}

impl Roster {
    /// See [`READ_ONLY`].
    pub fn is_read_only(&self) -> bool {
        self.named(READ_ONLY) == "on"
    }

    /// See [`SNAPSHOT_RATE`].
    pub fn snapshot_bytes_per_second(&self) -> u64 {
        bytes(self.named(SNAPSHOT_RATE)).unwrap_or(u64::MAX)
    }
}

const SIZES: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Whole numbers with a unit: `512KiB`, `64MiB`, `1GiB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, unit_bytes) = SIZES.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*unit_bytes)
}

fn number(text: &str) -> Option<usize> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

const UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Whole numbers with a unit: `500ms`, `10s`, `2m`, `1h`, `7d`.
pub fn time(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let ms = number.parse::<u64>().ok()?.checked_mul(*unit_ms)?;
    Some(Duration::from_millis(ms))
}

/// The shortest text that [`time`] reads as this time, to the millisecond.
pub fn time_text(time: Duration) -> String {
    let ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let fits = UNITS.iter().rev().find(|(_, unit_ms)| ms.is_multiple_of(*unit_ms));
    let (name, unit_ms) = fits.copied().unwrap_or(("ms", 1));
    format!("{}{name}", ms / unit_ms)
}
