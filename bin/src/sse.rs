//! Server-sent events, read from pieces of a body as they come.
//!
//! The WHATWG event stream format as far as a node uses it: fields `event`, `data` and `id`,
//! comments, and the three line ends. One event may have at most [`EVENT_BYTES_MAX`] bytes; past
//! that the stream is refused, since what is one revision can't be shown in part.

/// Most bytes of one event: all that one transaction may write, with its previous values, in
/// base64 and JSON.
pub(crate) const EVENT_BYTES_MAX: usize = 64 * 1024 * 1024;

const _: () = assert!(EVENT_BYTES_MAX > 4 * aspen::limits::TXN_BYTES_MAX * 4 / 3);

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its kind; `message` is the format's own default and is given as an empty name.
    pub(crate) event: String,
    /// Its data, lines joined by line feeds.
    pub(crate) data: String,
    /// The id that stands from this event on, for resuming.
    pub(crate) id: Option<String>,
}

/// An event has more bytes than are taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Puts pieces together into events.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// The start of a line whose end has not come.
    line: Vec<u8>,
    /// The event whose empty line has not come.
    event: Event,
    /// Whether `event` has a data field: one without is no event.
    has_data: bool,
    /// The last line ended with a carriage return; a line feed right after belongs to it.
    after_return: bool,
    /// The id that stands.
    id: Option<String>,
}

impl Parser {
    /// Takes a piece and adds the events it completes to `events`.
    pub(crate) fn push(&mut self, piece: &[u8], events: &mut Vec<Event>) -> Result<(), TooLarge> {
        let mut rest = piece;
        while let Some(&first) = rest.first() {
            if std::mem::take(&mut self.after_return) && first == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let (part, ended) = match end {
                Some(end) => (&rest[..end], Some(rest[end])),
                None => (rest, None),
            };
            if self.line.len() + self.event.data.len() + part.len() > EVENT_BYTES_MAX {
                return Err(TooLarge);
            }
            self.line.extend_from_slice(part);
            rest = &rest[part.len() + usize::from(ended.is_some())..];
            if let Some(ended) = ended {
                self.after_return = ended == b'\r';
                let line = std::mem::take(&mut self.line);
                self.end_line(&String::from_utf8_lossy(&line), events);
            }
        }
        Ok(())
    }

    fn end_line(&mut self, line: &str, events: &mut Vec<Event>) {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            if std::mem::take(&mut self.has_data) {
                events.push(Event { id: self.id.clone(), ..event });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event.event = value.to_owned(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // A comment (an empty field name), `retry`, or a field of a later version.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, data: &str, id: Option<&str>) -> Event {
        Event { event: event.to_owned(), data: data.to_owned(), id: id.map(str::to_owned) }
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        let stream = ": hello\r\nid: 7\nevent: change\ndata: {\"a\":\ndata: 1}\r\rdata\n\n: beat\n\n\
                      id: 8\r\ndata:grüße\r\n\r\nevent: left open\n";
        let expected = vec![
            event("change", "{\"a\":\n1}", Some("7")),
            event("", "", Some("7")),
            event("", "grüße", Some("8")),
        ];
        for size in 1..stream.len() {
            let (mut parser, mut events) = (Parser::default(), Vec::new());
            for piece in stream.as_bytes().chunks(size) {
                parser.push(piece, &mut events).expect("small");
            }
            assert_eq!(events, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn an_event_over_the_limit_is_refused() {
        let (mut parser, mut events) = (Parser::default(), Vec::new());
        let piece = vec![b'x'; EVENT_BYTES_MAX / 2];
        parser.push(b"data: ", &mut events).expect("small");
        parser.push(&piece, &mut events).expect("half");
        assert_eq!(parser.push(&piece, &mut events), Err(TooLarge));
    }
}
