//! What the command says to arguments it can't take, and to nobody being there.

use std::net::TcpListener;

use crate::support::{aspen, run, write_file};

#[test]
fn the_command_alone_prints_its_help() {
    let help = run(&mut aspen::<&str>([])).printed();
    assert!(help.contains("Usage: aspen") && help.contains("Exit codes:"), "{help}");
    assert_eq!(run(&mut aspen(["help"])).printed(), help);
    let version = run(&mut aspen(["--version"])).printed();
    assert_eq!(version, format!("aspen {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_arguments_are_one_sentence_that_says_where_to_look() {
    let cases: &[(&[&str], &str)] = &[
        (&["bogus"], "there is no command 'bogus'; see `aspen --help`"),
        (&["put"], "put needs <KEY>; see `aspen put --help`"),
        (
            &["start", "--reech", "lan"],
            "start has no flag --reech (did you mean --reach?); see `aspen start --help`",
        ),
        (
            &["put", "k", "--if-absnt"],
            "put has no flag --if-absnt (did you mean --if-absent?); see `aspen put --help`",
        ),
        (
            &["del", "a", "--prefix", "b"],
            "the argument '[KEY]' cannot be used with '--prefix <PREFIX>'; see `aspen del --help`",
        ),
        (
            &["get", "k", "--consistency", "fresh"],
            "invalid value 'fresh' for '--consistency <KIND>' [possible values: linearizable, \
             lease, stale]; see `aspen get --help`",
        ),
        (
            &["lease", "grant", "30"],
            "invalid value '30' for '<TTL>': use a time such as 500ms, 10s, 2m, 1h or 7d; see \
             `aspen lease grant --help`",
        ),
        (
            &["lease", "show", "xyz"],
            "invalid value 'xyz' for '<ID>': a lease id is 1 to 16 hexadecimal digits and not 0; \
             see `aspen lease show --help`",
        ),
        (&["lease"], "lease needs a command; see `aspen lease --help`"),
        (&["get", ""], "a key must have at least one byte"),
        (&["get", "zz", "--encoding", "hex"], "\"zz\" is not an even number of hexadecimal digits"),
        (&["txn", "{"], "the transaction is not JSON: it ends early, at line 1 column 1"),
        (
            &["get", "k", "--node", "ftp://node"],
            "--node can't be \"ftp://node\"; use a URL such as http://127.0.0.1:4680 or \
             https://node.example, or a socket such as unix:/run/aspen.sock",
        ),
        (
            &["start", "--node", "http://node"],
            "--node is for commands that talk to a running node, such as put and get",
        ),
        (
            &["--timeout", "1s", "config", "show"],
            "--timeout is for commands that talk to a running node, such as put and get",
        ),
    ];
    for (arguments, sentence) in cases {
        run(&mut aspen(*arguments)).failed_with(2, sentence);
    }
}

#[test]
fn keys_and_values_over_their_limits_are_refused_before_anything_is_sent() {
    let key = "k".repeat(aspen::limits::KEY_BYTES_MAX + 1);
    run(&mut aspen(["get", &key])).failed_with(2, "the key has 4097 bytes; the limit is 4096");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("value");
    write_file(&path, &"v".repeat(aspen::limits::VALUE_BYTES_MAX + 1));
    let shown = path.display();
    run(aspen(["put", "k", "--file"]).arg(&path))
        .failed_with(2, &format!("{shown} has more than 4194304 bytes, which is the limit"));
}

#[test]
fn nobody_there_is_told_with_what_to_do_about_it() {
    // A port that was free a moment ago and that nobody is told of.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let url = format!("http://{address}");
    for command in [&["get", "k"][..], &["put", "k", "v"], &["status"], &["watch"], &["range"]] {
        run(aspen(command).env("ASPEN_NODE", &url)).failed_with(
            3,
            &format!(
                "no node answers at {url} (connection refused); start one with `aspen start`, or \
                 name another with --node"
            ),
        );
    }
}

#[test]
fn shells_and_manuals_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&mut aspen(["completions", shell])).printed();
        assert!(script.contains("keyspace") && script.contains("consistency"), "{shell}");
    }
    let script = run(&mut aspen(["completions", "bash"])).printed();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("aspen.bash");
    write_file(&path, &script);
    run(std::process::Command::new("bash").arg("-n").arg(&path)).printed();

    let page = run(&mut aspen(["man"])).printed();
    assert!(page.contains(".TH aspen 1"), "{page}");
    run(aspen(["man", "--dir"]).arg(dir.path())).printed();
    for name in ["aspen.1", "aspen-put.1", "aspen-keyspace-create.1"] {
        assert!(dir.path().join(name).is_file(), "no {name}");
    }
    let absent = dir.path().join("absent");
    run(aspen(["man", "--dir"]).arg(&absent)).refused_as("the pages can't be written into ");
}
