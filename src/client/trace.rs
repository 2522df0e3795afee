//! Where a request is in its trace: which part of the work on it the present task does, and which part
//! of it asked for that, perhaps on another node.
//!
//! A part is a span of [`TARGET`] with the ids of W3C's trace context as fields, so that whoever
//! subscribes to that target can export it; [`TraceContext`] is what a part's parts are told of it. A
//! trace begins at the door, of this node or of who sent it a `traceparent`; what is asked elsewhere has
//! none. Without a subscriber nothing is made and no number is drawn; what came along goes on.
//!
//! A span is never entered: it begins and ends, and what lies between is not looked at.

use std::fmt;
use std::future::Future;

use futures_util::future::Either;
use rand::Rng;
use tracing::Span;

use super::RequestId;
use super::request_id::Present;
use crate::seams::ThreadRandom;
use crate::types::{Form, GroupId, Spelt};

/// The target of all parts. They are as fine as debug.
pub const TARGET: &str = "aspen::trace";

/// Between the context and the name of a request on their way to another node.
const BEFORE_NAME: u8 = b';';

/// A part of a trace, for its own parts: it is recorded by whoever began the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace: u128,
    part: u64,
    /// It is a part on another node.
    is_afar: bool,
}

/// What a `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceParent {
    /// The trace is recorded, and this is the part that asks.
    Recorded(TraceContext),
    /// Whoever asks does not want it recorded.
    Left,
}

impl TraceParent {
    /// Reads the header of <https://www.w3.org/TR/trace-context/>; one that is none counts as absent.
    pub fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut fields = text.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits)?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            field.bytes().all(is_hex).then_some(field)
        };
        let (version, trace, part, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
        let is_more = fields.next().is_some();
        if version == "ff" || (version == "00" && is_more) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let part = u64::from_str_radix(part, 16).ok().filter(|part| *part != 0)?;
        let is_recorded = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let context = TraceContext { trace, part, is_afar: true };
        Some(if is_recorded { TraceParent::Recorded(context) } else { TraceParent::Left })
    }
}

/// The form of a `traceparent`.
pub(super) const FORM: Form = Form {
    name: "traceparent",
    again: |bytes| match TraceParent::read(bytes)? {
        TraceParent::Recorded(context) => Some(context.to_string().into_bytes()),
        TraceParent::Left => None,
    },
    spelt: Spelt::Freely,
};

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.part)
    }
}

impl TraceContext {
    /// A request's name with this before it, if that is short enough for one. To builds that know
    /// names and no traces it is a name.
    pub(super) fn before(&self, name: &RequestId) -> Option<RequestId> {
        let mut bytes = self.to_string().into_bytes();
        bytes.push(BEFORE_NAME);
        bytes.extend_from_slice(name.as_bytes());
        RequestId::new(bytes)
    }

    /// The context before a name that came from another node, and the name.
    pub(super) fn split(name: RequestId) -> (Option<Self>, RequestId) {
        let split = || {
            let at = name.as_bytes().iter().position(|byte| *byte == BEFORE_NAME)?;
            let TraceParent::Recorded(context) = TraceParent::read(&name.as_bytes()[..at])? else {
                return None;
            };
            Some((context, RequestId::new(name.as_bytes().slice(at + 1..))?))
        };
        match split() {
            Some((context, name)) => (Some(context), name),
            None => (None, name),
        }
    }
}

/// Who is on the other side of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// Somebody asked for it over the network.
    Server,
    /// It asks somebody over the network.
    Client,
    /// Nobody.
    Internal,
}

impl Side {
    /// As OpenTelemetry has it.
    fn as_str(self) -> &'static str {
        match self {
            Side::Server => "server",
            Side::Client => "client",
            Side::Internal => "internal",
        }
    }
}

/// A part of a trace; it ends when the last copy is dropped.
#[derive(Clone, Debug)]
pub struct Part {
    span: Span,
    context: Option<TraceContext>,
}

impl Part {
    /// The work on a request that comes in at a door by this method.
    pub fn at_door(parent: Option<TraceParent>, id: &RequestId, method: &str) -> Self {
        let parent = match parent {
            Some(TraceParent::Left) => return Part { span: Span::none(), context: None },
            Some(TraceParent::Recorded(parent)) => Some(parent),
            None => None,
        };
        let part = Part::begin(method, parent, Side::Server, id);
        part.span.record("http.request.method", method);
        part
    }

    /// What the present task does next for a group, if it works on something that is recorded.
    pub(super) fn next(name: &'static str, group: GroupId) -> Option<Self> {
        let (id, parent) = Present::recorded()?;
        let side = if parent.is_afar { Side::Server } else { Side::Internal };
        let part = Part::begin(name, Some(parent), side, &id);
        part.span.record("aspen.group", group.0);
        Some(part)
    }

    /// The same where another node is asked.
    pub(super) fn asking(peer: &dyn fmt::Display, group: GroupId) -> Option<Self> {
        let (id, parent) = Present::recorded()?;
        let part = Part::begin("ask another node", Some(parent), Side::Client, &id);
        part.span.record("aspen.group", group.0);
        part.span.record("aspen.peer", tracing::field::display(peer));
        Some(part)
    }

    fn begin(name: &str, parent: Option<TraceContext>, side: Side, id: &RequestId) -> Self {
        use tracing::field::Empty;
        let span = tracing::debug_span!(
            target: TARGET,
            parent: None,
            "part",
            otel.name = Empty,
            otel.kind = side.as_str(),
            otel.status_code = Empty,
            trace = Empty,
            part = Empty,
            parent = Empty,
            http.request.method = Empty,
            http.route = Empty,
            http.response.status_code = Empty,
            aspen.request_id = Empty,
            aspen.group = Empty,
            aspen.peer = Empty,
            aspen.outcome = Empty,
        );
        if span.is_disabled() {
            return Part { span, context: parent };
        }
        let drawn = || ThreadRandom.next_u64().max(1);
        let new = || (u128::from(drawn()) << 64) | u128::from(drawn());
        let trace = parent.map_or_else(new, |parent| parent.trace);
        let part = drawn();
        span.record("otel.name", name);
        span.record("trace", trace);
        span.record("part", part);
        if let Some(parent) = parent {
            span.record("parent", parent.part);
        }
        span.record("aspen.request_id", tracing::field::display(id));
        Part { span, context: Some(TraceContext { trace, part, is_afar: false }) }
    }

    /// Whether anybody hears of it.
    pub fn is_recorded(&self) -> bool {
        !self.span.is_disabled()
    }

    /// What its parts are told.
    pub(super) fn context(&self) -> Option<TraceContext> {
        self.context
    }

    /// Which route of the door it takes.
    pub fn takes(&self, method: &str, route: &str) {
        self.span.record("otel.name", tracing::field::display(format_args!("{method} {route}")));
        self.span.record("http.route", route);
    }

    /// It is answered with a status of HTTP.
    pub fn answered(&self, status: u16) {
        self.span.record("http.response.status_code", status);
        self.fails(status >= 500);
    }

    /// It came to this.
    pub(super) fn came_to(&self, outcome: &'static str, is_failure: bool) {
        self.span.record("aspen.outcome", outcome);
        self.fails(is_failure);
    }

    fn fails(&self, is_failure: bool) {
        if is_failure {
            self.span.record("otel.status_code", "ERROR");
        }
    }

    /// Works on it, as a request of this name.
    pub fn scope<F: Future>(
        &self,
        id: RequestId,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        Present { id, trace: self.context }.scope(work)
    }
}

/// Works on a part of the present request, if it is one that is recorded.
pub(super) fn within<F: Future>(
    part: Option<&Part>,
    work: F,
) -> impl Future<Output = F::Output> + use<F> {
    match part.zip(RequestId::present()) {
        None => Either::Left(work),
        Some((part, id)) => Either::Right(part.scope(id, work)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn context() -> TraceContext {
        match TraceParent::read(SAMPLE.as_bytes()) {
            Some(TraceParent::Recorded(context)) => context,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_another_tells_is_read_as_the_standard_has_it() {
        assert_eq!(context().to_string(), SAMPLE);
        let left = SAMPLE.replace("-01", "-00");
        assert_eq!(TraceParent::read(left.as_bytes()), Some(TraceParent::Left));
        // A later version may say more.
        let later = format!("01{}-more", &SAMPLE[2..]);
        assert_eq!(TraceParent::read(later.as_bytes()), Some(TraceParent::Recorded(context())));
        for bad in [
            "",
            "-",
            &SAMPLE.replace("00-4b", "ff-4b"),
            &format!("{SAMPLE}-more"),
            &SAMPLE.to_uppercase(),
            &SAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &SAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &SAMPLE[1..],
            &SAMPLE.replace("4bf9", "+bf9"),
        ] {
            assert_eq!(TraceParent::read(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_name_goes_along_with_the_trace_before_it_if_both_fit() {
        let name = |text: String| RequestId::new(text).expect("a name");
        for text in ["a-1", ";", "a;b"] {
            let id = name(text.to_owned());
            let both = context().before(&id).expect("it fits");
            assert_eq!(both.to_string(), format!("{SAMPLE};{text}"));
            assert_eq!(TraceContext::split(both), (Some(context()), id));
        }
        let long = name("x".repeat(crate::limits::REQUEST_ID_BYTES_MAX));
        assert_eq!(context().before(&long), None);
        for alone in ["a", "a;b", SAMPLE, &format!("{SAMPLE};"), &format!("{SAMPLE}x;a")] {
            let id = name(alone.to_owned());
            assert_eq!(TraceContext::split(id.clone()), (None, id));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_passed_over(bytes: Vec<u8>, name in "[!-~]{1,128}") {
            let _ = TraceParent::read(&bytes);
            let id = RequestId::new(name).expect("a name");
            match TraceContext::split(id.clone()) {
                (None, same) => proptest::prop_assert_eq!(same, id),
                (Some(context), inner) => proptest::prop_assert_eq!(context.before(&inner), Some(id)),
            }
        }
    }
}
