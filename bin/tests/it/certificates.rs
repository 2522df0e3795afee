//! The HTTP door with TLS: who is believed, certificates that are exchanged, and files that are no
//! good.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

use crate::support::{Node, aspen, run, until, write_file};

/// A directory with certificates and keys.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Files(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        write_file(&self.path(name), text);
    }

    /// A certificate of this machine's own, in `NAME.pem`, and its key, in `NAME.key`, as
    /// `openssl req -x509` makes them: it says of itself that it may sign others.
    fn make_own(&self, name: &str) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        self.write(&format!("{name}.pem"), &certificate.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// The same, signed by another, whose certificate is in `NAME-ca.pem`.
    fn make_signed(&self, name: &str) {
        let ca_key = KeyPair::generate().expect("a key");
        let mut ca_params = CertificateParams::new(Vec::<String>::new()).expect("no name");
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // One of another name than what it signs: else that looks as if it had signed itself.
        ca_params.distinguished_name.push(DnType::CommonName, "whoever signs");
        let ca = ca_params.self_signed(&ca_key).expect("a certificate");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        let signed = params.signed_by(&key, &Issuer::new(ca_params, ca_key)).expect("signed");
        self.write(&format!("{name}-ca.pem"), &ca.pem());
        self.write(&format!("{name}.pem"), &signed.pem());
        self.write(&format!("{name}.key"), &key.serialize_pem());
    }

    /// Gives the door another pair.
    fn show(&self, name: &str) {
        for (from, to) in [("pem", "cert.pem"), ("key", "key.pem")] {
            let from = self.path(&format!("{name}.{from}"));
            std::fs::copy(from, self.path(to)).expect("copied");
        }
    }

    fn start(&self, dir: &Path) -> Node {
        let (certificate, key) = (self.text("cert.pem"), self.text("key.pem"));
        Node::start(dir, &["--http-tls-cert", &certificate, "--http-tls-key", &key])
    }
}

fn curl(ca: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "60", "--cacert", ca]).args(arguments);
    command.output().expect("curl runs")
}

#[track_caller]
fn curl_printed(ca: &str, arguments: &[&str]) -> String {
    let output = curl(ca, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_node_is_reached_by_those_who_believe_its_certificate() {
    let (dir, files) = (tempfile::tempdir().expect("a directory"), Files::new());
    files.make_signed("a");
    files.make_own("b");
    files.show("a");
    let node = files.start(dir.path());
    assert!(node.url().starts_with("https://127.0.0.1:"), "{}", node.url());
    let ca = files.text("a-ca.pem");
    node.printed(&["put", "greeting", "hello", "--ca", &ca]);
    assert_eq!(run(node.command(&["get", "greeting"]).env("ASPEN_CA", &ca)).printed(), "hello");
    // The node's own certificate says as much.
    let own = files.text("a.pem");
    assert_eq!(node.printed(&["get", "greeting", "--ca", &own]), "hello");
    let key = format!("{}/v1/kv/greeting", node.url());
    let version = ["-w", " %{http_version}", &key];
    assert_eq!(curl_printed(&ca, &version), "hello 2");
    assert_eq!(curl_printed(&ca, &[&["--http1.1"][..], &version].concat()), "hello 1.1");

    let stranger = files.text("b.pem");
    assert!(!curl(&stranger, &[&key]).status.success());
    let refused = node.run(&["get", "greeting", "--ca", &stranger]);
    assert!(refused.stderr.starts_with("aspen: no TLS with the node at https://"), "{refused:?}");
    assert!(refused.stderr.contains("is signed by nobody in the file of --ca"), "{refused:?}");
    assert_eq!(refused.code, 3);
    node.run(&["get", "greeting"]).failed_with(
        2,
        "a node at https is known by its certificate: name the file of whoever vouches for it \
         with --ca FILE",
    );
    let nowhere = files.text("nowhere");
    node.run(&["get", "greeting", "--ca", &nowhere])
        .failed_with(2, &format!("{nowhere} can't be read: no such file or directory"));
    let key = files.text("a.key");
    node.run(&["get", "greeting", "--ca", &key])
        .failed_with(2, &format!("{key} has no certificate in PEM"));
    // Nobody gets in without.
    let plain = node.url().replace("https:", "http:");
    assert_ne!(run(&mut aspen(["get", "greeting", "--node", &plain])).code, 0);
}

/// What the node says of its certificate, to those who believe this one.
fn certificate(ca: &str, node: &Node) -> Option<Value> {
    let output = curl(ca, &[&format!("{}/health", node.url())]);
    let health: Value = serde_json::from_slice(&output.stdout).ok()?;
    let parts = health["parts"].as_array()?;
    parts.iter().find(|part| part["name"] == "http certificate").cloned()
}

#[test]
fn a_certificate_is_exchanged_while_the_node_runs_and_a_bad_one_is_not() {
    let (dir, files) = (tempfile::tempdir().expect("a directory"), Files::new());
    files.make_own("a");
    files.make_own("b");
    files.show("a");
    let node = files.start(dir.path());
    let (a, b) = (files.text("a.pem"), files.text("b.pem"));
    assert_eq!(certificate(&a, &node).expect("it is shown")["state"], "healthy");
    assert!(certificate(&b, &node).is_none());

    files.show("b");
    assert!(until(|| certificate(&b, &node).is_some()), "{}", node.log());
    assert!(certificate(&a, &node).is_none());
    assert_eq!(
        node.printed(&["status", "--ca", &b]).lines().next().map(str::is_empty),
        Some(false)
    );

    // The key of another: the pair before it stays, and the node says why.
    std::fs::copy(files.path("a.key"), files.path("key.pem")).expect("copied");
    let wrong = format!(
        "{} is not the key of the certificate in {}; the certificate before it is shown",
        files.text("key.pem"),
        files.text("cert.pem")
    );
    let is_degraded = || {
        certificate(&b, &node)
            .is_some_and(|part| part["state"] == "degraded" && part["reason"] == wrong.as_str())
    };
    assert!(until(is_degraded), "{:?}\n{}", certificate(&b, &node), node.log());
    node.wait_for_log("the certificate is not exchanged");
    files.show("b");
    let is_healthy = || certificate(&b, &node).is_some_and(|part| part["state"] == "healthy");
    assert!(until(is_healthy), "{:?}", certificate(&b, &node));
}

#[test]
fn files_that_are_no_good_stop_the_start_with_one_sentence() {
    let (dir, files) = (tempfile::tempdir().expect("a directory"), Files::new());
    files.make_own("a");
    files.make_own("b");
    files.write("text", "hello");
    files.write("broken", "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n");
    files.write("short", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let start = |certificate: &str, key: &str| {
        let mut command = aspen(["start", "--reach", "loopback", "--log", "off"]);
        command.args(["--http", "127.0.0.1:0", "--data-dir"]).arg(dir.path());
        command.args(["--http-tls-cert", &files.text(certificate)]);
        run(command.args(["--http-tls-key", &files.text(key)]))
    };
    let text = |name| files.text(name);
    start("none", "a.key").refused_as(&format!("{} can't be read: no such file", text("none")));
    start("a.pem", "none").refused_as(&format!("{} can't be read: no such file", text("none")));
    start("text", "a.key").refused_as(&format!("{} has no certificate in PEM", text("text")));
    start("broken", "a.key").refused_as(&format!("{} is not PEM", text("broken")));
    let short = format!("the certificate in {} can't be used", text("short"));
    start("short", "a.key").refused_as(&short);
    start("a.pem", "text").refused_as(&format!("{} has no private key in PEM", text("text")));
    let other = format!("{} is not the key of the certificate in {}", text("b.key"), text("a.pem"));
    start("a.pem", "b.key").refused_as(&other);
    let mut half = aspen(["start", "--http-tls-cert", "a.pem"]);
    run(half.current_dir(dir.path()))
        .failed_with(2, "http-tls-cert and http-tls-key go together: give both");
    let mut socket = aspen(["start", "--http-tls-cert", "a", "--http-tls-key", "b", "--http"]);
    run(socket.arg("unix:s").current_dir(dir.path()))
        .failed_with(2, "http-tls-cert and http-tls-key are for HTTP at an address and port");
}
