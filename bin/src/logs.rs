//! Log lines: to stderr, as text for people or JSON for programs, filtered by target.
//!
//! Standard output belongs to answers; nothing is logged to it.
//!
//! Every line ends in the node that it is about, and the group and the request if it is about one. What
//! a line says itself is not said again.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use aspen::client::RequestId;
use aspen::client::trace::TARGET;
use aspen::seams::Here;
use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields, JsonFields, Writer};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::LogFormat;
use crate::otlp;

/// Whether a text is a level, or `target=level` pairs and levels joined by commas.
pub(crate) fn is_filter(text: &str) -> bool {
    let part = |part: &str| {
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        !level.is_empty() && LevelFilter::from_str(level).is_ok()
    };
    text.split(',').all(part) && Targets::from_str(text).is_ok()
}

/// Sends the log lines that pass a filter to stderr from now on, and traces where they are taken in.
pub(crate) fn start(text: &str, format: LogFormat, traces: Option<otlp::Taking>) {
    let stderr_is_for_people = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(stderr_is_for_people);
    let lines = match format {
        LogFormat::Text => {
            let form = format::format().with_ansi(stderr_is_for_people);
            lines.event_format(Placed { form, format }).boxed()
        }
        LogFormat::Json => {
            let form = format::json().flatten_event(true);
            lines.fmt_fields(JsonFields::new()).event_format(Placed { form, format }).boxed()
        }
    };
    // Traces are no lines.
    let passing = filter(text).with_target(TARGET, LevelFilter::OFF);
    let lines = lines.with_filter(passing);
    let traces = traces.map(otlp::Taking::layer);
    let outcome = tracing_subscriber::registry().with(lines).with(traces).try_init();
    debug_assert!(outcome.is_ok(), "log lines are started once");
}

/// A level alone is about Aspen; the libraries below it speak up only when something is wrong.
/// openraft warns of what is normal, such as a message that an election has overtaken, and calls it an
/// error when who leads changes under a change of members, which is then tried again. iroh-gossip
/// warns of each member that is away.
fn filter(text: &str) -> Targets {
    match LevelFilter::from_str(text) {
        Ok(level) if level > LevelFilter::WARN => Targets::new()
            .with_default(LevelFilter::WARN)
            .with_target("openraft", LevelFilter::ERROR)
            .with_target("openraft::raft::api::management", LevelFilter::OFF)
            .with_target("iroh_gossip", LevelFilter::ERROR)
            .with_target("aspen", level),
        // The configuration has checked it.
        _ => text.parse().unwrap_or_default(),
    }
}

/// A form of lines with what they are about at the end.
struct Placed<F> {
    form: F,
    format: LogFormat,
}

impl<S, N, F> FormatEvent<S, N> for Placed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.form.format_event(context, Writer::new(&mut line), event)?;
        let here = Here::present();
        let about = [
            ("node", here.node().map(|node| Value::from(node.0))),
            ("group", here.group().map(|group| Value::from(group.0))),
            ("request_id", RequestId::present().map(|id| Value::from(id.to_string()))),
        ];
        let said = event.metadata().fields();
        let about = about.into_iter().filter(|(name, _)| said.field(name).is_none());
        let about = about.filter_map(|(name, value)| Some((name, value?)));
        let (line, end) = match self.format {
            LogFormat::Text => (line.strip_suffix('\n'), "\n"),
            LogFormat::Json => (line.strip_suffix("}\n"), "}\n"),
        };
        out.write_str(line.ok_or(std::fmt::Error)?)?;
        for (name, value) in about {
            match (self.format, value) {
                (LogFormat::Json, value) => write!(out, ",\"{name}\":{value}")?,
                // It is visible ASCII, without a quote around it that would have to be escaped.
                (LogFormat::Text, Value::String(text)) => write!(out, " {name}={text}")?,
                (LogFormat::Text, value) => write!(out, " {name}={value}")?,
            }
        }
        out.write_str(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_pairs_and_nothing_else() {
        for text in ["info", "off", "aspen=debug", "warn,aspen=trace,iroh=info"] {
            assert!(is_filter(text), "{text}");
        }
        for text in ["", "loud", "aspen=loud", "info,", "aspen", "=", "aspen="] {
            assert!(!is_filter(text), "{text}");
        }
    }

    #[test]
    fn a_level_alone_leaves_the_libraries_quiet() {
        use tracing::Level;
        let debug = filter("debug");
        assert!(debug.would_enable("aspen::raft", &Level::DEBUG));
        assert!(!debug.would_enable("iroh", &Level::INFO));
        assert!(!debug.would_enable("openraft", &Level::WARN));
        assert!(!debug.would_enable("openraft::raft::api::management", &Level::ERROR));
        assert!(!debug.would_enable("iroh_gossip::net", &Level::WARN));
        assert!(!filter("error").would_enable("aspen", &Level::WARN));
        assert!(filter("aspen=debug").would_enable("aspen", &Level::DEBUG));
        assert!(!filter("aspen=debug").would_enable("iroh", &Level::ERROR));
    }
}
