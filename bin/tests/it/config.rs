//! Settings from flags, environment and file, as the process sees them.

use crate::support::{aspen, run, write_file};

#[test]
fn each_value_is_shown_with_its_origin() {
    let dir = tempfile::tempdir().expect("a directory");
    write_file(&dir.path().join("aspen.toml"), "name = \"lab\"\nreach = \"internet\"\n");
    let mut command = aspen(["config", "show", "--config", "aspen.toml", "--node-id", "7"]);
    command.current_dir(dir.path()).env("ASPEN_REACH", "loopback");
    let text = run(&mut command).printed();
    assert_eq!(
        text,
        "SETTING          VALUE                  ORIGIN\n\
         data-dir         ./data                 default\n\
         name             lab                    aspen.toml:1\n\
         node-id          7                      --node-id\n\
         node-name        (not set)              default\n\
         reach            loopback               ASPEN_REACH\n\
         relay            public                 default\n\
         relay-only       no                     default\n\
         directory        public                 default\n\
         dht              off                    default\n\
         port-mapping     on                     default\n\
         lan              (not set)              default\n\
         lan-secret-file  (not set)              default\n\
         open             no                     default\n\
         expect           3                      default\n\
         shards           1                      default\n\
         replicas         3                      default\n\
         capacity         (not set)              default\n\
         listen           (not set)              default\n\
         http             127.0.0.1:4680         default\n\
         http-tls-cert    (not set)              default\n\
         http-tls-key     (not set)              default\n\
         http-cors        (not set)              default\n\
         http-rate        off                    default\n\
         http-at-once     4096                   default\n\
         auth             off                    default\n\
         insecure         no                     default\n\
         read-only        no                     default\n\
         storage          redb                   default\n\
         heartbeat        150ms                  default\n\
         election-min     500ms                  default\n\
         election-max     1s                     default\n\
         log              info                   default\n\
         log-format       text                   default\n\
         otlp             off                    default\n\
         node             http://127.0.0.1:4680  default\n\
         ca               (not set)              default\n\
         token            (not set)              default\n\
         token-file       (not set)              default\n\
         ticket           (not set)              default\n\
         keyspace         default                default\n\
         near             (not set)              default\n\
         timeout          10s                    default\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&run(command.arg("--json")).printed()).expect("JSON");
    assert_eq!(
        json["settings"][1],
        serde_json::json!({
            "name": "name", "value": "lab", "origin": "file", "place": "aspen.toml:1"
        })
    );
    assert_eq!(json["settings"][10]["value"], serde_json::Value::Null);
}

#[test]
fn a_file_is_checked_without_starting_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let check = |text: &str| {
        write_file(&dir.path().join("aspen.toml"), text);
        run(aspen(["config", "check", "aspen.toml"]).current_dir(dir.path()))
    };
    assert_eq!(check("reach = \"lan\"").printed(), "aspen.toml is valid\n");
    check("reach = \"wan\"\n\nhttp = 4680\nrech = 1\n").failed_with(
        2,
        "aspen.toml:1: reach can't be \"wan\"; use one of: loopback, lan, internet\n\
         aspen: aspen.toml:3: http can't be \"4680\"; use an address and port such as \
         127.0.0.1:4680 (port 0 takes a free one), a socket such as unix:/run/aspen.sock, or off\n\
         aspen: aspen.toml:4: \"rech\" is not a key (did you mean reach?); use one of: data-dir, \
         name, node-id, node-name, reach, relay, relay-only, directory, dht, port-mapping, lan, \
         lan-secret-file, open, expect, shards, replicas, capacity, listen, http, http-tls-cert, http-tls-key, http-cors, http-rate, http-at-once, auth, insecure, read-only, storage, heartbeat, election-min, election-max, log, log-format, otlp",
    );
    run(&mut aspen(["config", "check", "/nowhere/aspen.toml"]))
        .failed_with(2, "/nowhere/aspen.toml can't be read: no such file or directory");
}

#[test]
fn a_bad_setting_stops_the_start_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let start = |arguments: &[&str], variable: (&str, &str)| {
        let mut command = aspen(["start"].iter().chain(arguments));
        run(command.current_dir(dir.path()).env(variable.0, variable.1))
    };
    start(&[], ("ASPEN_REACH", "wan"))
        .failed_with(2, "ASPEN_REACH can't be \"wan\"; use one of: loopback, lan, internet");
    start(&["--http", "somewhere"], ("ASPEN_REACH", "lan")).failed_with(
        2,
        "--http can't be \"somewhere\"; use an address and port such as 127.0.0.1:4680 (port 0 \
         takes a free one), a socket such as unix:/run/aspen.sock, or off",
    );
    let run = start(&[], ("ASPEN_RAECH", "lan"));
    let begins = "aspen: ASPEN_RAECH is not a variable of aspen (did you mean ASPEN_REACH?); ";
    assert!(run.stderr.starts_with(begins), "{}", run.stderr);
    assert_eq!(run.code, 2);
    let left = dir.path().read_dir().expect("a directory").count();
    assert_eq!(left, 0, "nothing was made");
}

#[test]
fn a_mesh_that_is_not_well_defined_stops_the_start_with_one_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    write_file(&dir.path().join("short"), "abcde\n");
    write_file(&dir.path().join("long"), &"k".repeat(4_097));
    let start = |arguments: &[&str]| {
        let mut command = aspen(["start", "--log", "off"].iter().chain(arguments));
        run(command.current_dir(dir.path()))
    };
    start(&["--lan", "lab"]).failed_with(
        2,
        "a mesh has a secret, so that nobody else on the LAN gets in: give all its nodes the same \
         file with --lan-secret-file FILE, or say --open to let in everybody on the LAN",
    );
    for unnamed in [&["--open"][..], &["--lan-secret-file", "short"]] {
        start(unnamed)
            .failed_with(2, "lan-secret-file and open are for a mesh: name it with --lan NAME");
    }
    start(&["--lan", "lab", "--open", "--lan-secret-file", "short"])
        .failed_with(2, "a mesh has a secret or is open: drop one of the two");
    start(&["--lan", "lab", "--open", "--reach", "loopback"]).failed_with(
        2,
        "a mesh is of nodes on one LAN, and reach is loopback, this machine only: drop one of the \
         two",
    );
    start(&["--lan", "lab", "--open", "--expect", "0"])
        .failed_with(2, "--expect can't be \"0\"; use a whole number from 1 to 256");
    start(&["--lan", "our lab", "--open"]).failed_with(
        2,
        "--lan can't be \"our lab\"; use 1 to 63 letters, digits, dots, dashes or underscores",
    );
    // The secret is read by the start itself, and refused before anything is made.
    let secret = |file| start(&["--lan", "lab", "--lan-secret-file", file]);
    secret("nowhere").failed_with(2, "nowhere can't be read: no such file or directory");
    secret("short").failed_with(
        2,
        "short: a mesh's secret has at least 16 bytes, and this has 5; make one with: head -c 24 \
         /dev/urandom | base64",
    );
    secret("long").failed_with(2, "long has more than 4096 bytes, which is the limit");
    let made = dir.path().read_dir().expect("a directory").count();
    assert_eq!(made, 2, "nothing but the two files");
}
