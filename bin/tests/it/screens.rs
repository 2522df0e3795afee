//! What a person sees at a terminal: it fits, has colours where they are wanted, and leaves the terminal
//! as it was.

use std::process::Command;

use crate::shards::Nodes;
use crate::support::{Node, Run, aspen, at_terminal};

/// What is left of what was drawn without escape sequences.
fn plain(drawn: &str) -> String {
    let mut text = String::new();
    let mut characters = drawn.chars();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => {
                // `ESC [` and parameters, up to a letter.
                characters.by_ref().skip(1).find(char::is_ascii_alphabetic);
            }
            '\r' => {}
            other => text.push(other),
        }
    }
    text
}

#[track_caller]
fn fits(columns: usize, command: &Command) -> Run {
    let drawn = at_terminal(columns, command, "");
    assert_eq!(drawn.code, 0, "{drawn:?}");
    for line in plain(&drawn.stdout).lines() {
        assert!(line.chars().count() <= columns, "more than {columns} columns: {line:?}");
    }
    drawn
}

#[test]
fn a_clusters_status_is_one_screen_that_fits() {
    let name = "a-node-with-a-name-that-is-as-long-as-a-name-of-a-node-may-be-1";
    let mut nodes = Nodes::start(3, &["--shards", "32", "--node-name", name]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let node = nodes.node(1);

    let piped = node.printed(&["status"]);
    assert!(!piped.contains('\u{1b}'), "{piped:?}");
    assert!(piped.contains(name) && piped.contains("node 1 holds 33 groups: "), "{piped}");
    for columns in [80, 120] {
        let mut command = node.command(&["status"]);
        let drawn = fits(columns, &command);
        let text = plain(&drawn.stdout);
        assert!(text.lines().count() <= 24, "{text}");
        for part in ["cluster  ", "healthy", "LEADS", "LAG", "KEYSPACE", "default"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(drawn.stdout.contains("\u{1b}[32mhealthy\u{1b}[0m"), "{drawn:?}");
        for (variable, value) in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let drawn = fits(columns, command.env(variable, value));
            assert!(!drawn.stdout.contains('\u{1b}'), "{variable}: {drawn:?}");
            command.env_remove(variable);
        }
        fits(columns, &node.command(&["members"]));
    }

    // What is wrong is said with what to do.
    let (_dir, third) = nodes.take(3);
    third.kill();
    let node = nodes.node(1);
    let says = || node.printed(&["status"]).contains("next: node 3 is not heard");
    assert!(crate::support::until(says), "{}", node.printed(&["status"]));
    fits(80, &node.command(&["status"]));

    // Live it is drawn over, and what was there before is there again after Ctrl-C.
    let drawn = at_terminal(80, &node.command(&["status", "--watch"]), "next: ");
    assert_eq!(drawn.code, 130, "{drawn:?}");
    assert!(drawn.stdout.starts_with("\u{1b}[?1049h"), "{drawn:?}");
    assert!(drawn.stdout.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{drawn:?}");
    assert!(!drawn.stdout.contains("\u{1b}[2J"), "{drawn:?}");
    let lines = plain(&drawn.stdout);
    assert!(lines.lines().all(|line| line.chars().count() <= 80), "{lines}");
    let mut piped = node.following(&["status", "--watch"]);
    assert!(piped.line().starts_with("cluster "));
}

#[test]
fn a_join_at_a_terminal_is_told_on_a_line() {
    let (dir, other) = (tempfile::tempdir(), tempfile::tempdir());
    let (dir, other) = (dir.expect("a directory"), other.expect("a directory"));
    let first = Node::start(dir.path(), &[]);
    let mut join = aspen(["join", &first.ticket(), "--reach", "loopback", "--http"]);
    join.args(["127.0.0.1:0", "--log", "warn", "--data-dir"]).arg(other.path().join("data"));
    let drawn = at_terminal(100, &join, "stop      Ctrl-C");
    assert_eq!(drawn.code, 0, "{drawn:?}");
    // The line stands by itself, and what comes next begins on a new one.
    let text = plain(&drawn.stdout.replace("\u{1b}[2K", "\n"));
    let mut grown = text.lines().filter_map(|line| line.strip_prefix("admitted as node 2"));
    // On a busy machine it is ready before it was seen to follow.
    let last = grown.next_back().map(str::trim);
    assert!(
        last.is_some_and(|last| last.is_empty() || last.starts_with("· learner of ")),
        "{text}"
    );
    assert!(text.contains("\ncluster   "), "{text}");
}

#[test]
fn a_bar_is_gone_when_what_it_shows_is_interrupted() {
    let nodes = Nodes::start(3, &["--shards", "2"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let node = nodes.node(1);
    // Nobody can take part in it, so it goes on until it is interrupted.
    let drawn = at_terminal(80, &node.command(&["drain", "2", "--wait"]), "2 shards to go");
    assert_eq!(drawn.code, 130, "{drawn:?}");
    assert!(drawn.stdout.contains("] node 2 is being drained: 2 shards to go"), "{drawn:?}");
    let (_, last) = drawn.stdout.rsplit_once("to go").expect("it was drawn");
    assert!(
        last.contains("\r") && plain(last).trim_matches(['^', 'C', ' ']).is_empty(),
        "{last:?}"
    );
    let drawn = at_terminal(80, &node.command(&["operations", "drain-2", "--wait"]), "waiting");
    assert_eq!(drawn.code, 130, "{drawn:?}");
    let mut dumb = node.command(&["drain", "2", "--wait"]);
    let drawn = at_terminal(80, dumb.env("TERM", "dumb"), "2 shards to go");
    assert!(drawn.code == 130 && !drawn.stdout.contains('\u{1b}'), "{drawn:?}");
}
