//! Whether this machine can do it, found out once; and what earlier runs left is removed first.

use std::io::Write;
use std::process::Command;
use std::sync::OnceLock;

use super::space::{self, Space};

/// Set to `required` where a machine that can't do it is a failure.
const MODE: &str = "ASPEN_TEST_NETNS";

/// Whether namespaces can be made. Says what is missing if not, or fails where it must not be.
#[track_caller]
pub(crate) fn is_ready() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let required = std::env::var(MODE).is_ok_and(|mode| mode == "required");
    let missing = MISSING.get_or_init(|| {
        let missing = missing();
        if let (Some(what), false) = (&missing, required) {
            // Past the test's captured output, or nobody would see it.
            let line = format!("tests with network namespaces are skipped: {what}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        }
        missing
    });
    match missing {
        Some(what) if required => panic!("{MODE}=required, but {what}"),
        Some(_) => false,
        None => true,
    }
}

fn missing() -> Option<String> {
    // curl and bash are needed elsewhere, too.
    for (tool, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if Command::new(tool).arg("-V").output().is_err() {
            return Some(format!("{tool} is missing; install {package}"));
        }
    }
    space::sweep();
    let tried = Space::try_new("tried").and_then(|tried| {
        tried.try_ip(&["link add br0 type bridge", "link add eth0 type veth peer name eth1"])?;
        tried.try_nft("table inet tried { }\n")
    });
    let said = |error: String| error.lines().next().unwrap_or_default().to_owned();
    tried.err().map(|error| format!("none can be made, which takes root: {}", said(error)))
}
