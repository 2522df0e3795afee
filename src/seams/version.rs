//! Which build this is.
//!
//! A version is that of the package and, of a build that knows more commands than the first one
//! did, its level behind it: `0.2.0+level.2`. What that means is the roster's business.
//!
//! Two builds that differ in nothing but what they say of themselves are what a test of mixed
//! versions needs: like failpoints, only builds with debug assertions can be told to be another, by
//! the variable `FAILPOINT_VERSION`.

use std::sync::LazyLock;

/// What this build knows: goes up by one with each release that adds a command or record that those
/// before it can't read.
const LEVEL: u32 = 3;

static VERSION: LazyLock<String> = LazyLock::new(|| {
    #[cfg(debug_assertions)]
    if let Ok(version) = std::env::var("FAILPOINT_VERSION") {
        return version;
    }
    match LEVEL {
        1 => env!("CARGO_PKG_VERSION").to_owned(),
        level => format!("{}+level.{level}", env!("CARGO_PKG_VERSION")),
    }
});

/// The version of this build, with its level.
pub fn version() -> &'static str {
    &VERSION
}
