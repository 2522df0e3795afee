//! How the command ends for answers that a healthy node seldom gives, from a socket that plays
//! them back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::support::{Run, aspen, run};

/// Runs a command against a socket that takes one request and answers with these bytes; an empty
/// answer closes the connection. Gives the run and the request's head.
fn against(answer: &str, arguments: &[&str]) -> (Run, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    thread::scope(|scope| {
        let served = scope.spawn(|| {
            let (stream, _) = listener.accept().expect("a connection");
            serve(stream, answer)
        });
        let run = run(aspen(arguments).env("ASPEN_NODE", &url));
        (run, served.join().expect("served"))
    })
}

/// Reads one request with its body, answers, and closes.
fn serve(stream: TcpStream, answer: &str) -> String {
    let mut reader = BufReader::new(&stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "the head is whole");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a length"))];
    reader.read_exact(&mut body).expect("the body");
    // The other side may have given up, which is its right.
    let _ = (&stream).write_all(answer.as_bytes());
    head
}

fn problem(status: &str, name: &str, detail: &str) -> String {
    let body = format!(r#"{{"type":"urn:aspen:problem:{name}","title":"t","detail":"{detail}"}}"#);
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn a_write_whose_answer_is_lost_has_an_unknown_outcome() {
    let (run, _) = against("", &["put", "k", "v"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(run.stderr.contains("may or may not have been done, so read before"), "{}", run.stderr);
    let (run, _) = against("HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", &["del", "k"]);
    assert_eq!(run.code, 4, "{}", run.stderr);
}

#[test]
fn a_read_whose_answer_is_lost_can_be_tried_again() {
    let (run, _) = against("", &["get", "k"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.ends_with("; try again\n"), "{}", run.stderr);
}

#[test]
fn time_that_runs_out_is_told_by_what_was_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    // Connections are accepted by the system; nobody ever answers them.
    let late = |command: &[&str]| run(aspen(command).args(["--timeout", "50ms", "--node", &url]));
    late(&["get", "k"])
        .failed_with(3, &format!("the node at {url} did not answer within 50ms; try again"));
    late(&["put", "k", "v"]).failed_with(
        4,
        &format!(
            "the node at {url} did not answer within 50ms; the write may or may not have been \
             done, so read before you repeat it"
        ),
    );
}

#[test]
fn a_problem_decides_the_code_and_its_detail_is_the_sentence() {
    let cases = [
        ("403 Forbidden", "denied", 1),
        ("404 Not Found", "lease-not-found", 1),
        ("412 Precondition Failed", "condition-failed", 1),
        ("507 Insufficient Storage", "no-space", 1),
        ("429 Too Many Requests", "busy", 3),
        ("503 Service Unavailable", "not-founded", 3),
    ];
    for (status, name, code) in cases {
        let (run, _) = against(&problem(status, name, "do that"), &["put", "k", "v"]);
        run.failed_with(code, "do that");
    }
    let (run, _) = against(&problem("503 Service Unavailable", "unavailable", "no"), &["get", "k"]);
    run.failed_with(3, "no; try again, `aspen members` shows who is away");
    let unknown = problem("504 Gateway Timeout", "outcome-unknown", "who knows");
    let (run, _) = against(&unknown, &["put", "k", "v"]);
    run.failed_with(4, "who knows; read before you repeat it");
}

#[test]
fn keys_reach_the_node_as_they_are_and_conditions_as_headers() {
    let created = "HTTP/1.1 201 Created\r\naspen-revision: 7\r\ncontent-length: 0\r\n\r\n";
    let (run, head) = against(created, &["put", "a/../b c", "v", "--if-absent"]);
    assert_eq!(run.printed(), "created at revision 7\n");
    assert!(head.starts_with("PUT /v1/kv/a/../b%20c HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("if-none-match: *\r\n"), "{head}");

    let (_, head) =
        against(created, &["put", "ff00", "v", "--encoding", "hex", "--if-revision", "3"]);
    assert!(head.starts_with("PUT /v1/kv/%FF%00 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("if-match: \"3\"\r\n"), "{head}");
}

#[test]
fn a_watch_goes_on_where_its_connection_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let change = |revision: u64| {
        let data = format!(
            r#"{{"revision":{revision},"events":[{{"key":"k","record":{{"value":"v{revision}"}}}}]}}"#
        );
        format!("id: {revision}\nevent: change\ndata: {data}\n\n")
    };
    let busy = "event: error\ndata: {\"status\":503,\"detail\":\"no leader\"}\n\n";
    let gone = "event: compacted\ndata: {\"status\":410,\"detail\":\"compacted\"}\n\n";
    let answers = [
        format!("{head}id: 4\nevent: progress\ndata: {{}}\n\n"),
        format!("{head}{}{}id: 7\nevent: progress\ndata: {{}}\n\n{busy}", change(5), change(6)),
        format!("{head}{}{gone}", change(8)),
    ];
    let (run, heads) = thread::scope(|scope| {
        let served = scope.spawn(|| {
            answers.map(|answer| serve(listener.accept().expect("a connection").0, &answer))
        });
        let run = run(aspen(["watch", "--prefix", "k"]).env("ASPEN_NODE", &url));
        (run, served.join().expect("served"))
    });
    assert_eq!(run.stdout, "5\tput\tk\tv5\n6\tput\tk\tv6\n8\tput\tk\tv8\n");
    let lost = "aspen: the connection was lost; trying again\n";
    assert_eq!(run.stderr, format!("{lost}{lost}aspen: compacted\n"));
    assert_eq!(run.code, 1);
    let first = "GET /v1/watch?prefix=k HTTP/1.1\r\n";
    for (head, seen) in heads.iter().zip([None, Some(4), Some(7)]) {
        assert!(head.starts_with(first), "{head}");
        assert_eq!(head.contains("last-event-id"), seen.is_some(), "{head}");
        let seen = seen.map(|seen| format!("last-event-id: {seen}\r\n"));
        assert!(seen.is_none_or(|seen| head.contains(&seen)), "{head}");
    }
}
