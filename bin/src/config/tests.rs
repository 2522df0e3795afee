//! The layering, the refusals and their sentences, without a process.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use aspen::Reach;

use super::*;

fn setting(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.name == name).expect("a setting")
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, OsString)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect()
}

/// A file with this text, and the directory that keeps it.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("aspen.toml");
    std::io::Write::write_all(&mut std::fs::File::create(&path).expect("a file"), text.as_bytes())
        .expect("written");
    (dir, path)
}

/// The sentences that refuse a file, with its directory left out.
fn refusals(text: &str) -> Vec<String> {
    let (dir, path) = file(text);
    let prefix = format!("{}/", dir.path().display());
    check_file(&path).iter().map(|problem| problem.to_string().replace(&prefix, "")).collect()
}

fn origin<'a>(loaded: &'a Loaded, name: &str) -> (Option<String>, &'a Origin) {
    let row = loaded.rows().find(|(setting, ..)| setting.name == name).expect("a row");
    (row.1, row.2)
}

#[test]
fn flags_are_over_environment_over_file_over_defaults() {
    let (_dir, path) = file("reach = \"internet\"\nname = \"lab\"\nnode-id = 3\n");
    let shown = path.display().to_string();
    let environment = variables(&[("ASPEN_REACH", "lan"), ("ASPEN_NAME", "field")]);
    let flags = [(setting("reach"), "loopback".to_owned())];
    let loaded = load_node(&flags, Some(&path), &environment).expect("all allowed");
    assert_eq!(loaded.config.reach, Reach::Loopback);
    assert_eq!(origin(&loaded, "reach").1, &Origin::Flag("--reach".to_owned()));
    assert_eq!(loaded.config.name.as_deref(), Some("field"));
    assert_eq!(origin(&loaded, "name").1, &Origin::Environment("ASPEN_NAME".to_owned()));
    assert_eq!(loaded.config.node_id, Some(3));
    assert_eq!(origin(&loaded, "node-id").1, &Origin::File { path: shown, line: 3 });
    assert_eq!(origin(&loaded, "storage"), (Some("redb".to_owned()), &Origin::Default));
    assert_eq!(origin(&loaded, "listen"), (None, &Origin::Default));
}

#[test]
fn the_file_is_named_by_the_flag_or_the_variable() {
    let (_dir, one) = file("name = \"one\"");
    let (_dir_too, two) = file("name = \"two\"");
    let environment = variables(&[(CONFIG_VARIABLE, one.to_str().expect("text"))]);
    let name =
        |file: Option<&Path>| load_node(&[], file, &environment).expect("all allowed").config.name;
    assert_eq!(name(None).as_deref(), Some("one"));
    assert_eq!(name(Some(&two)).as_deref(), Some("two"));
}

#[test]
fn every_row_of_the_table_is_whole() {
    let mut names = HashSet::new();
    let loaded = Loaded::defaults();
    for (setting, value, _) in loaded.rows() {
        assert!(names.insert(setting.name), "{} is there twice", setting.name);
        assert_eq!(
            value.as_deref(),
            setting.default,
            "{}: the default is shown as it is",
            setting.name
        );
        assert!(setting.help.len() <= 90 && !setting.help.ends_with('.'), "{}", setting.name);
        let mut config = Config::default();
        assert!(
            (setting.apply)(&mut config, "").is_none(),
            "{}: nothing is no value",
            setting.name
        );
    }
}

#[test]
fn a_bad_line_is_told_with_its_place_and_what_is_allowed() {
    assert_eq!(
        refusals("# mine\nreach = \"wan\"\n"),
        ["aspen.toml:2: reach can't be \"wan\"; use one of: loopback, lan, internet"]
    );
    assert_eq!(
        refusals("node-id = 0"),
        ["aspen.toml:1: node-id can't be \"0\"; use a whole number from 1"]
    );
    assert_eq!(
        refusals("http = true"),
        ["aspen.toml:1: http can't be of type boolean; use an address and port such as \
          127.0.0.1:4680 (port 0 takes a free one), a socket such as unix:/run/aspen.sock, or \
          off"]
    );
    assert_eq!(
        refusals("[http]\naddr = 1"),
        ["aspen.toml:1: http can't be of type table; use an address and port such as \
          127.0.0.1:4680 (port 0 takes a free one), a socket such as unix:/run/aspen.sock, or \
          off"]
    );
}

#[test]
fn an_unknown_key_is_told_with_the_nearest_known_one() {
    let of_nodes = SETTINGS.iter().filter(|setting| setting.scope == Scope::Node);
    let names: Vec<&str> = of_nodes.map(|setting| setting.name).collect();
    let keys = format!("use one of: {}", names.join(", "));
    assert_eq!(
        refusals("data_dir = \"x\"\nstorrage = \"redb\"\ncolour = 1"),
        [
            format!("aspen.toml:1: \"data_dir\" is not a key (did you mean data-dir?); {keys}"),
            format!("aspen.toml:2: \"storrage\" is not a key (did you mean storage?); {keys}"),
            format!("aspen.toml:3: \"colour\" is not a key; {keys}"),
        ]
    );
    assert_eq!(
        refusals("timeout = \"1s\""),
        ["aspen.toml:1: timeout is not a key of this file, which is for nodes; use --timeout or \
          ASPEN_TIMEOUT"]
    );
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_told() {
    let [broken] = &refusals("reach = \"lan\"\nname = lab\n")[..] else { panic!("one problem") };
    assert!(broken.starts_with("aspen.toml:2: "), "{broken}");
    let [twice] = &refusals("reach = \"lan\"\nreach = \"lan\"\n")[..] else { panic!("one") };
    assert!(twice.starts_with("aspen.toml:2: this key is there already"), "{twice}");
    let absent = check_file(Path::new("/nowhere/aspen.toml"));
    assert!(absent[0].to_string().starts_with("/nowhere/aspen.toml can't be read: "));
}

#[test]
fn a_value_that_is_overridden_must_be_right_all_the_same() {
    let environment = variables(&[("ASPEN_REACH", "wan")]);
    let flags = [(setting("reach"), "lan".to_owned())];
    let problems = load_node(&flags, None, &environment).expect_err("a bad variable");
    assert_eq!(
        problems[0].to_string(),
        "ASPEN_REACH can't be \"wan\"; use one of: loopback, lan, internet"
    );
}

#[test]
fn times_that_do_not_go_together_are_told() {
    let problems = |name: &str, time: &str| {
        let flags = [(setting(name), time.to_owned())];
        load_node(&flags, None, &[]).map(drop).map_err(|problems| problems[0].to_string())
    };
    problems("heartbeat", "100ms").expect("more room");
    let sentence = problems("heartbeat", "250ms").expect_err("two of them are not less");
    assert!(sentence.contains("must be more than two heartbeats"), "{sentence}");
    let sentence = problems("election-max", "500ms").expect_err("no room to draw from");
    assert!(sentence.contains("must be more than the shortest"), "{sentence}");
}

#[test]
fn a_ticket_is_never_shown() {
    let environment = variables(&[("ASPEN_TICKET", "aspenclientsecret")]);
    let loaded = load_node(&[], None, &environment).expect("allowed");
    assert_eq!(origin(&loaded, "ticket").0.as_deref(), Some("(a secret)"));
}

#[test]
fn an_unknown_variable_stops_a_node_and_not_a_client() {
    let environment = variables(&[("ASPEN_REECH", "lan")]);
    let problems = load_node(&[], None, &environment).expect_err("an unknown variable");
    let sentence = problems[0].to_string();
    assert!(
        sentence.starts_with(
            "ASPEN_REECH is not a variable of aspen (did you mean ASPEN_REACH?); unset it or use \
             one of: ASPEN_DATA_DIR, "
        ),
        "{sentence}"
    );
    load_client(&[], &environment).expect("none of a client's business");
    load_client(&[], &variables(&[("ASPEN_TIMEOUT", "soon")])).expect_err("its own");
}

#[test]
fn a_variable_that_is_no_text_is_told() {
    let environment = vec![("ASPEN_NAME".to_owned(), OsString::from_vec(vec![b'a', 0xff]))];
    let problems = load_node(&[], None, &environment).expect_err("no text");
    assert!(problems[0].to_string().starts_with("ASPEN_NAME can't be \"a\u{fffd}\"; use "));
}

#[test]
fn every_problem_of_every_place_is_told_at_once() {
    let (_dir, path) = file("reach = \"wan\"\nstorage = \"tape\"");
    let environment = variables(&[("ASPEN_HTTP", "on"), ("ASPEN_X", "1")]);
    let flags = [(setting("log"), "loud".to_owned())];
    let problems = load_node(&flags, Some(&path), &environment).expect_err("five of them");
    assert_eq!(problems.len(), 5);
}

#[test]
fn the_documented_settings_are_those_of_the_table() {
    let documented: Vec<&str> = include_str!("../../../docs/config.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    let expected: Vec<String> = SETTINGS
        .iter()
        .map(|setting| {
            let Setting { name, allowed, help, default, .. } = setting;
            let default = default.map_or_else(|| " ".to_owned(), |text| format!(" `{text}` "));
            format!("| `{name}` | `{}` |{default}| {allowed} | {help} |", setting.variable())
        })
        .collect();
    assert_eq!(documented, expected);
}
