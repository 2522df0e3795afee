//! The walls between the layers, kept by reading the sources.
//!
//! A layer may use those below it, none above; siblings don't know each other. Each outside crate
//! that shapes the architecture is named in one place only. What fails is told in one line: the
//! file, the line and the wall.

mod source;

use std::path::{Path, PathBuf};

use source::{Mention, mentions};

/// The modules of the library, lowest line first; those on a line don't know each other.
const LAYERS: &[&[&str]] = &[
    BOTTOM,
    &["machine", "roster", "wire"],
    &["store", "net"],
    &["raft"],
    &["actors"],
    &["client"],
    &["node"],
    &["http", "etcd"],
];

/// The vocabulary of everything above. Its modules are one line, and know each other.
const BOTTOM: &[&str] = &["types", "limits", "error", "health", "status", "metrics", "config"];

/// What everything may use and what uses nothing but `types`.
const SEAMS: &str = "seams";

/// Outside crates (by the beginning of their names) and the only modules that may name them.
/// `bin`, `tickets`, `tests` and `examples` stand for the other packages and folders; what ends in
/// `.rs` is one file.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("redb", &["store", "tests"]),
    ("iroh", &["net", "tests"]),
    ("iroh_tickets", &["net", "tickets", "tests"]),
    ("iroh_base", &["net", "tickets", "tests"]),
    // Nodes have its client. Its server is no part of a node, and one command runs it.
    ("iroh_relay", &["net", "bin/src/commands/relay.rs", "tests"]),
    ("ractor", &["actors", "node"]),
    ("openraft", &["raft"]),
    ("axum", &["http", "etcd"]),
    ("hyper", &["http", "etcd", "bin", "tests"]),
    ("clap", &["bin", "tests"]),
    ("tracing_subscriber", &["bin", "tests"]),
    ("reqwest", &["bin", "tests"]),
    ("rustix", &["seams", "tests"]),
];

/// Modules without async, clock, randomness, IO or the order of a hash map.
const PURE: &[&str] = &["machine", "roster", "wire"];

/// What a pure module must not name, as the beginning of a path or as a single name.
const IMPURE: &[&str] = &[
    "tokio",
    "futures_util",
    "rand",
    "async",
    "std::fs",
    "std::io",
    "std::net",
    "std::thread",
    "std::env",
    "std::process",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "crate::seams",
];

/// Queues without a bound.
const UNBOUNDED: &[&str] =
    &["unbounded_channel", "UnboundedSender", "UnboundedReceiver", "unbounded"];

/// A file longer than this is two.
const LINES_MAX: usize = 800;

struct SourceFile {
    /// Relative to the workspace.
    path: PathBuf,
    text: String,
    /// The module path within the crate; empty for a crate's root.
    module: Vec<String>,
    /// What the walls call the place: a top module of the library, `lib`, or another package.
    place: String,
}

impl SourceFile {
    fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.path.display())
    }

    fn mentions(&self) -> Vec<Mention> {
        mentions(&self.text, &self.module)
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source of the workspace, in the order of its path.
fn sources() -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (root, place) in [
        ("src", None),
        ("bin/src", Some("bin")),
        ("bin/tests", Some("tests")),
        ("benches", Some("tests")),
        ("bin/benches", Some("tests")),
        ("tickets/src", Some("tickets")),
        ("tickets/examples", Some("tickets")),
        ("tickets/tests", Some("tests")),
        ("tests", Some("tests")),
        ("examples", Some("examples")),
    ] {
        collect(&workspace().join(root), Path::new(root), place, &mut files);
    }
    files.sort_by(|a: &SourceFile, b| a.path.cmp(&b.path));
    files
}

fn collect(dir: &Path, root: &Path, place: Option<&str>, files: &mut Vec<SourceFile>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries {
        let path = entry.expect("a listed file can be looked at").path();
        if path.is_dir() {
            collect(&path, root, place, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source is readable text");
            let path = path.strip_prefix(workspace()).expect("it was found there").to_owned();
            let module = module_of(path.strip_prefix(root).expect("it was found under its root"));
            let place = match place {
                Some(place) => place.to_owned(),
                None => module.first().cloned().unwrap_or_else(|| "lib".to_owned()),
            };
            files.push(SourceFile { path, text, module, place });
        }
    }
}

/// `store/log/format.rs` is `store::log::format`; `lib.rs`, `main.rs` and `mod.rs` add nothing.
fn module_of(path: &Path) -> Vec<String> {
    let mut module: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|last| matches!(last.as_str(), "lib" | "main" | "mod")) {
        module.pop();
    }
    module
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|line| line.contains(&module))
}

/// Why `from` may not use `to`, if it may not. Both are top modules of the library.
fn wall(from: &str, to: &str) -> Option<String> {
    if from == to || from == "lib" {
        return None;
    }
    if to == SEAMS {
        return None;
    }
    if from == SEAMS {
        return (to != "types").then(|| {
            format!("seams use nothing of the crate but its nouns, and this names `{to}`")
        });
    }
    let Some(from_layer) = layer(from) else {
        return Some(format!("`{from}` has no place in the layers"));
    };
    let Some(to_layer) = layer(to) else {
        return Some(format!("`crate::{to}` is not a module of a layer: name where it is defined"));
    };
    if to_layer > from_layer {
        return Some(format!("`{from}` is below `{to}` and must not know it"));
    }
    if to_layer == from_layer && !BOTTOM.contains(&from) {
        return Some(format!("`{from}` and `{to}` are siblings and don't know each other"));
    }
    None
}

/// Whether a path begins with these segments, or is this single name at its end.
fn names(path: &[String], what: &str) -> bool {
    let mut segments = what.split("::");
    let starts = path.len() >= what.split("::").count()
        && path.iter().zip(segments.by_ref()).all(|(a, b)| a == b);
    starts && (what.contains("::") || path.len() > 1)
        || !what.contains("::") && path.last().is_some_and(|last| last == what)
}

/// The rule for an outside crate, if there is one; the longest name that fits decides.
fn outside(krate: &str) -> Option<&'static (&'static str, &'static [&'static str])> {
    OUTSIDE
        .iter()
        .filter(|(name, _)| {
            krate.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        })
        .max_by_key(|(name, _)| name.len())
}

fn report(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn a_layer_uses_only_what_is_below_it() {
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| file.path.starts_with("src")) {
        for mention in file.mentions() {
            if mention.path[0] != "crate" || mention.path.len() < 2 {
                continue;
            }
            if let Some(why) = wall(&file.place, &mention.path[1]) {
                broken.push(format!("{}: {why}", file.at(mention.line)));
            }
        }
    }
    report(broken);
}

#[test]
fn outside_crates_are_named_only_behind_their_wall() {
    let mut broken = Vec::new();
    for file in sources() {
        for mention in file.mentions() {
            let krate = &mention.path[0];
            if !mention.imported && mention.path.len() < 2 {
                continue;
            }
            if let Some((name, places)) = outside(krate)
                && !places.iter().any(|place| *place == file.place || file.path == Path::new(place))
            {
                broken.push(format!(
                    "{}: only {} may name `{name}`, and this is `{}`",
                    file.at(mention.line),
                    places.join(", "),
                    file.place
                ));
            }
        }
    }
    report(broken);
}

#[test]
fn pure_modules_name_no_clock_randomness_or_io() {
    let mut broken = Vec::new();
    for file in sources().iter().filter(|file| file.path.starts_with("src")) {
        if !PURE.contains(&file.place.as_str()) {
            continue;
        }
        for mention in file.mentions() {
            if let Some(what) = IMPURE.iter().find(|what| names(&mention.path, what)) {
                broken.push(format!(
                    "{}: `{}` is pure and must not name `{what}`",
                    file.at(mention.line),
                    file.place
                ));
            }
        }
    }
    report(broken);
}

#[test]
fn no_queue_is_unbounded() {
    let mut broken = Vec::new();
    for file in sources() {
        for mention in file.mentions() {
            let path = mention.path.join("::");
            let std_channel = path.ends_with("std::sync::mpsc::channel");
            let last = &mention.path[mention.path.len() - 1];
            if std_channel || UNBOUNDED.contains(&last.as_str()) {
                broken.push(format!("{}: `{path}` has no bound", file.at(mention.line)));
            }
        }
    }
    report(broken);
}

#[test]
fn no_file_is_longer_than_two_should_be() {
    let mut broken = Vec::new();
    for file in sources() {
        let lines = file.text.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{}: {lines} lines; the limit is {LINES_MAX}", file.at(1)));
        }
    }
    report(broken);
}

#[test]
fn a_file_opens_by_saying_what_it_owns() {
    let mut broken = Vec::new();
    for file in sources() {
        let opening = file.text.lines().find(|line| !line.trim().is_empty());
        if !opening.is_some_and(|line| line.starts_with("//!")) {
            broken.push(format!("{}: begin with a `//!` comment", file.at(1)));
        }
    }
    report(broken);
}

#[test]
fn the_map_at_the_top_of_the_library_names_every_module() {
    let lib = std::fs::read_to_string(workspace().join("src/lib.rs")).expect("src/lib.rs is there");
    let map: String = lib.lines().take_while(|line| line.starts_with("//!")).collect();
    let missing: Vec<&str> = lib
        .lines()
        .filter_map(|line| {
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.strip_suffix(';')
        })
        .filter(|module| !map.contains(&format!("[`{module}`]")))
        .collect();
    assert!(missing.is_empty(), "src/lib.rs: its map does not name {}", missing.join(", "));
}

#[test]
fn a_broken_wall_is_noticed() {
    assert_eq!(
        wall("store", "raft").as_deref(),
        Some("`store` is below `raft` and must not know it")
    );
    assert_eq!(
        wall("net", "store").as_deref(),
        Some("`net` and `store` are siblings and don't know each other")
    );
    assert!(wall("seams", "machine").is_some());
    assert!(wall("seams", "types").is_none());
    assert!(wall("store", "KvClient").is_some());
    assert!(wall("store", "seams").is_none());
    assert!(wall("types", "limits").is_none());
    assert!(wall("http", "client").is_none());
    let path = |text: &str| text.split("::").map(str::to_owned).collect::<Vec<_>>();
    assert!(names(&path("tokio::time"), "tokio"));
    assert!(names(&path("std::fs::read"), "std::fs"));
    assert!(names(&path("HashMap"), "HashMap"));
    assert!(!names(&path("std::ops::Bound"), "std::fs"));
    assert_eq!(outside("iroh_gossip").map(|(name, _)| *name), Some("iroh"));
    assert_eq!(outside("iroh_tickets").map(|(name, _)| *name), Some("iroh_tickets"));
    assert_eq!(outside("iroh_relay").map(|(name, _)| *name), Some("iroh_relay"));
    assert!(outside("irohs").is_none());
}
