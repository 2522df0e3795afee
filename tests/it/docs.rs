//! Documents that name what is in the code are held to it.

use std::collections::BTreeSet;
use std::path::Path;

use aspen::http::{FAMILIES, Family, Shape};
use aspen::limits::SHOWN_GROUPS_MAX;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every dependency that a manifest declares, of any kind.
fn declared() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for package in ["", "bin/", "tickets/", "tests/sim/", "benches/compare/", "fuzz/"] {
        let path = format!("{package}Cargo.toml");
        let manifest: toml::Table = read(&path).parse().expect("cargo has parsed it before");
        let workspace = manifest.get("workspace").and_then(toml::Value::as_table);
        for table in [Some(&manifest), workspace].into_iter().flatten() {
            for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
                if let Some(table) = table.get(kind).and_then(toml::Value::as_table) {
                    names.extend(table.keys().cloned());
                }
            }
        }
    }
    names
}

#[test]
fn every_dependency_has_its_reason_and_every_reason_its_dependency() {
    let page = read("docs/dependencies.md");
    let explained: BTreeSet<String> = page
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0.to_owned()))
        .collect();
    let declared = declared();
    let missing: Vec<_> = declared.difference(&explained).collect();
    let stale: Vec<_> = explained.difference(&declared).collect();
    assert!(missing.is_empty(), "docs/dependencies.md gives no reason for {missing:?}");
    assert!(stale.is_empty(), "docs/dependencies.md explains {stale:?}, which no manifest has");
}

#[test]
fn every_cargo_command_in_a_document_exists() {
    let config: toml::Table = read(".cargo/config.toml").parse().expect("cargo reads it too");
    let aliases = config["alias"].as_table().expect("aliases are a table");
    let known = ["bench", "build", "fmt", "fuzz", "install", "run", "test", "tree"];
    let mut unknown = Vec::new();
    for page in pages() {
        for text in read(&page).split("cargo ").skip(1) {
            let word: String = text.chars().take_while(char::is_ascii_lowercase).collect();
            let command = text[word.len()..].starts_with([' ', '`', '\n']);
            if command && !known.contains(&word.as_str()) && !aliases.contains_key(&word) {
                unknown.push(format!("{page}: cargo {word}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no such command:\n{}", unknown.join("\n"));
}

/// README.md and every page under docs/.
fn pages() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec!["README.md".to_owned()];
    for folder in ["docs", "docs/decisions"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("docs/ is there") {
            let name = entry.expect("a listed file can be looked at").file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    pages
}

#[test]
fn links_between_documents_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let from = root.join(&page);
            if !from.parent().expect("a page is in a folder").join(target).exists() {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// The table of metrics is the one in the code, line for line.
#[test]
fn the_documented_metrics_are_the_metrics() {
    let row = |family: &&Family| {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        let (shape, labels) = (family.shape.as_str(), labels.join(", "));
        format!("| `{}` | {shape} | {labels} | {} |\n", family.name, family.help)
    };
    let table: String = FAMILIES.iter().map(row).collect();
    let page = read("docs/metrics.md");
    let documented = page.split_once("|---|---|---|---|\n").map(|(_, table)| table);
    assert_eq!(documented, Some(table.as_str()), "the table in docs/metrics.md should be this");
    assert!(page.contains(&format!("at most the first {SHOWN_GROUPS_MAX} of\n")));
}

/// What a dashboard asks for is there.
#[test]
fn every_metric_of_the_dashboard_exists() {
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("docs/grafana.json")).expect("the dashboard is JSON");
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    assert!(expressions.len() > 10, "the dashboard shows next to nothing");
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    for expression in expressions {
        let words: Vec<&str> = expression.split(|character| !is_word(character)).collect();
        let names =
            words.iter().filter(|word| word.starts_with("aspen_") || word.starts_with("process_"));
        let names: Vec<_> = names.collect();
        assert!(!names.is_empty(), "nothing of ours is asked for: {expression}");
        for name in names {
            let is_of = |family: &&Family| match family.shape {
                Shape::Histogram => ["_bucket", "_sum", "_count"]
                    .iter()
                    .any(|suffix| name.strip_suffix(suffix) == Some(family.name)),
                Shape::Counter | Shape::Gauge => *name == family.name,
            };
            assert!(
                FAMILIES.iter().copied().any(|family| is_of(&family)),
                "there is no {name}: {expression}"
            );
        }
    }
}

/// Every query of a panel, however deep it stands.
fn collect(part: &serde_json::Value, expressions: &mut Vec<String>) {
    match part {
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| collect(part, expressions)),
        serde_json::Value::Object(fields) => {
            for (name, part) in fields {
                match part.as_str().filter(|_| name == "expr") {
                    Some(expression) => expressions.push(expression.to_owned()),
                    None => collect(part, expressions),
                }
            }
        }
        _ => {}
    }
}
