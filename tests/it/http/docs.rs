//! `docs/http.md` against the code.

use aspen::http::KINDS;

const DOCS: &str = include_str!("../../../docs/http.md");

/// The table of problems is the one in the code, line for line.
#[test]
fn the_documented_problems_are_the_problems() {
    let table: String = KINDS
        .iter()
        .map(|kind| format!("| `{}` | {} | {} |\n", kind.name, kind.status, kind.title))
        .collect();
    assert!(DOCS.contains(&table), "the table in docs/http.md should be\n\n{table}");
}
