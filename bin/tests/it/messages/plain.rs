//! What varies from run to run, as fixed words: keys, ids, tickets, ports, times.

/// The text with fixed words for what varies.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        plain.push_str(&times(&runs(&stamp(line))));
    }
    plain
}

/// The time at which a line was logged.
fn stamp(line: &str) -> String {
    match line.split_once(' ') {
        Some((time, rest)) if time.starts_with("20") && time.ends_with('Z') && time.len() == 27 => {
            format!("TIME {rest}")
        }
        _ => line.to_owned(),
    }
}

/// Words of letters and digits that are an id, a key, a ticket; and ports that were free.
fn runs(line: &str) -> String {
    let mut told = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        told.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        let is_port = told.ends_with("127.0.0.1:") && run.len() == 5;
        told.push_str(if is_port { "PORT" } else { word(run) });
        rest = behind;
    }
    told.push_str(rest);
    told
}

fn word(run: &str) -> &str {
    let is_hex = run.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_varied = run.bytes().any(|byte| byte != run.as_bytes()[0]);
    match run.len() {
        64 if is_hex => "PUBLIC-KEY",
        32 if is_hex && is_varied => "ID",
        10 if is_hex => "PUBLIC-KEY",
        80.. if run.starts_with("aspenclient") => "CLIENT-TICKET",
        80.. if run.starts_with("aspen") => "NODE-TICKET",
        _ => run,
    }
}

/// Spans of time from or to now, and measured ones.
fn times(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let told = words.iter().enumerate().map(|(at, word)| {
        let next = words.get(at + 1).map(|next| next.trim_end());
        let behind_next = words.get(at + 2).map(|word| word.trim_end_matches([';', '\n']));
        let is_ago = next == Some("ago");
        let is_long_ago = next == Some("s") && behind_next == Some("ago") && is_number(word);
        let is_ahead = at > 0 && words[at - 1] == "in";
        let is_measured = next == Some("ms") && word.contains('.');
        let is_span = word.trim_end().strip_suffix(['s', 'm', 'h', 'd']).is_some_and(is_number);
        match () {
            () if (is_ago || is_ahead) && is_span => word.replace(word.trim_end(), "TIME"),
            () if is_measured || is_long_ago => "TIME".to_owned(),
            () => (*word).to_owned(),
        }
    });
    told.collect::<Vec<_>>().join(" ")
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[test]
fn what_varies_is_a_word_and_the_rest_is_as_it_was() {
    let key = "8d2dfc73ab4a313e8211717d00f0e84463108e20c6e262bd84dd154536d5837a";
    let told = format!("node {key} at 127.0.0.1:37039 and 127.0.0.1:4680, heard 3s ago\n");
    assert_eq!(
        plain(&told),
        "node PUBLIC-KEY at 127.0.0.1:PORT and 127.0.0.1:4680, heard TIME ago\n"
    );
    assert_eq!(plain("it expired 1 s ago; ask"), "it expired TIME s ago; ask");
    assert_eq!(plain("expires  in 59m\nput in 7 shards"), "expires  in TIME\nput in 7 shards");
    let ticket = format!("aspen join aspen{}", "a".repeat(90));
    assert_eq!(plain(&ticket), "aspen join NODE-TICKET");
    let logged = "2026-11-23T15:17:55.132654Z  INFO aspen: stopped\n";
    assert_eq!(plain(logged), "TIME  INFO aspen: stopped\n");
    assert_eq!(plain(&"0".repeat(32)), "0".repeat(32));
}
