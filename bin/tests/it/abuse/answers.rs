//! What a node sends, read more strictly than any client would: each byte belongs to an answer in the
//! form of RFC 9112, or the node is wrong.

use serde_json::Value;

/// What begins the type of every problem.
const PROBLEM: &str = "urn:aspen:problem:";
/// The statuses of refusals that come before the head was read, and so have no document.
const BEFORE_THE_HEAD: [u16; 3] = [400, 414, 431];

/// One answer, interim ones left out.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What was sent so far: the whole ones, to which another may be on its way.
#[derive(Debug, Default)]
pub(super) struct Answers(pub(super) Vec<Answer>);

/// What of the bytes is no answer.
pub(super) type Wrong = String;

impl Answers {
    /// Reads all that was sent. Answers to `HEAD` have no body.
    pub(super) fn read(mut bytes: &[u8], to_head: bool) -> Result<Self, Wrong> {
        let mut answers = Answers::default();
        while !bytes.is_empty() {
            match Answer::take(&mut bytes, to_head)? {
                // What leads to the answer, such as leave to send the body.
                Some(answer) if answer.status < 200 => {}
                Some(answer) => answers.0.push(answer),
                None => break,
            }
        }
        Ok(answers)
    }
}

impl Answer {
    fn take(bytes: &mut &[u8], to_head: bool) -> Result<Option<Self>, Wrong> {
        let Some(end) = find(bytes, b"\r\n\r\n") else {
            let is_begun = bytes.starts_with(b"HTTP/1.") || b"HTTP/1.".starts_with(bytes);
            return if is_begun { Ok(None) } else { Err(shown("no answer begins so", bytes)) };
        };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| shown("no text", bytes))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(status).ok_or_else(|| shown("no status", bytes))?;
        let header = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let is_token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            let is_well = !name.is_empty() && name.bytes().all(is_token);
            is_well.then(|| (name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let headers: Option<Vec<_>> = lines.map(header).collect();
        let headers = headers.ok_or_else(|| shown("a header is malformed", bytes))?;
        let mut answer = Answer { status, headers, body: Vec::new() };
        let mut rest = &bytes[end + 4..];
        let has_none = to_head || status < 200 || matches!(status, 204 | 304);
        // One that goes on until somebody leaves is answered once its head is there.
        if answer.header("content-type") == Some("text/event-stream") {
            rest = &[];
        } else if !has_none {
            let (length, coding) =
                (answer.header("content-length"), answer.header("transfer-encoding"));
            answer.body = match (length, coding) {
                (Some(length), None) => {
                    let length = length.parse().map_err(|_| shown("its length", bytes))?;
                    let Some((body, after)) = rest.split_at_checked(length) else {
                        return Ok(None);
                    };
                    rest = after;
                    body.to_vec()
                }
                (None, Some("chunked")) => match chunks(&mut rest)? {
                    Some(body) => body,
                    None => return Ok(None),
                },
                _ => return Err(shown("it has no length, or two", bytes)),
            };
        }
        *bytes = rest;
        Ok(Some(answer))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Whether it is what a node may answer to a stranger: nothing of the node's own failing, and a
    /// refusal is a problem's document, unless the head could not be read.
    pub(super) fn check(&self, to_head: bool, is_head_read: bool) -> Result<(), Wrong> {
        let Answer { status, body, .. } = self;
        let said = || format!("{status}: {}", body.escape_ascii());
        if *status >= 500 {
            return Err(format!("the node failed: {}", said()));
        }
        if *status < 400 || to_head {
            return Ok(());
        }
        if body.is_empty() && !is_head_read && BEFORE_THE_HEAD.contains(status) {
            return Ok(());
        }
        let document: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_problem = self.header("content-type") == Some("application/problem+json")
            && document["type"].as_str().is_some_and(|kind| kind.starts_with(PROBLEM))
            && document["status"] == *status
            && document["detail"].as_str().is_some_and(|detail| !detail.is_empty());
        if is_problem { Ok(()) } else { Err(format!("no problem's document: {}", said())) }
    }
}

fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    let (status, _reason) = rest.split_once(' ')?;
    let status = (status.len() == 3).then(|| status.parse().ok())?;
    status.filter(|status| (100..600).contains(status))
}

/// A body in chunks, if it is whole.
fn chunks(rest: &mut &[u8]) -> Result<Option<Vec<u8>>, Wrong> {
    let mut body = Vec::new();
    loop {
        let Some(end) = find(rest, b"\r\n") else { return Ok(None) };
        let size = std::str::from_utf8(&rest[..end]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        let size = size.ok_or_else(|| shown("a chunk's size", rest))?;
        let Some((chunk, after)) = rest[end + 2..].split_at_checked(size + 2) else {
            return Ok(None);
        };
        let chunk = chunk.strip_suffix(b"\r\n").ok_or_else(|| shown("a chunk's end", rest))?;
        body.extend_from_slice(chunk);
        *rest = after;
        if size == 0 {
            return Ok(Some(body));
        }
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn shown(what: &str, bytes: &[u8]) -> Wrong {
    format!("{what}: {}", bytes[..bytes.len().min(300)].escape_ascii())
}
