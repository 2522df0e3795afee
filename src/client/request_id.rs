//! What a request is called in the log lines of all nodes that have to do with it.
//!
//! Whoever asks gives it, or the door at which it comes in. Within a process it goes with the task
//! that works on the request, so that nobody on the way has to hand it on.

use std::fmt;
use std::future::Future;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::trace::TraceContext;
use crate::limits::REQUEST_ID_BYTES_MAX;
use crate::types::{Form, Spelt};

/// The name of a request: visible ASCII, and not much of it.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Bytes);

tokio::task_local! {
    static PRESENT: Present;
}

/// What goes with the task that works on a request.
#[derive(Clone, Debug)]
pub(super) struct Present {
    /// What the request is called.
    pub(super) id: RequestId,
    /// Where it is in its trace, if it is recorded.
    pub(super) trace: Option<TraceContext>,
}

impl Present {
    /// Works on it.
    pub(super) fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> + use<F> {
        PRESENT.scope(self, work)
    }

    /// What goes with the present task if it is recorded.
    pub(super) fn recorded() -> Option<(RequestId, TraceContext)> {
        let recorded = |present: &Present| Some((present.id.clone(), present.trace?));
        PRESENT.try_with(recorded).ok().flatten()
    }
}

impl RequestId {
    /// One of these bytes, if they can be one.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        let fits = (1..=REQUEST_ID_BYTES_MAX).contains(&bytes.len());
        (fits && bytes.iter().all(u8::is_ascii_graphic)).then_some(RequestId(bytes))
    }

    /// One that whoever asks has chosen: not what only nodes make, a name with a trace before it.
    pub fn given(bytes: impl Into<Bytes>) -> Option<Self> {
        RequestId::new(bytes).filter(|id| TraceContext::split(id.clone()).0.is_none())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The name of the request that the present task works on, if it has one: for its log lines.
    pub fn present() -> Option<Self> {
        PRESENT.try_with(|present| present.id.clone()).ok()
    }

    /// Works on a request of this name that another node has passed on; `what` says in the log which
    /// kind it was.
    pub(super) fn log<F: Future>(
        self,
        what: &'static str,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let (trace, id) = TraceContext::split(self);
        let work = async move {
            let done = work.await;
            tracing::debug!("{what}");
            done
        };
        Present { id, trace }.scope(work)
    }

    /// Works on a request of this name.
    pub fn name<F: Future>(self, work: F) -> impl Future<Output = F::Output> + use<F> {
        Present { id: self, trace: None }.scope(work)
    }
}

/// The form of a name that came from another node, with a trace before it or without.
pub(super) const FORM: Form = Form {
    name: "name of a request",
    again: |bytes| match TraceContext::split(RequestId::new(Bytes::copy_from_slice(bytes))?) {
        (Some(context), name) => Some(context.before(&name)?.as_bytes().to_vec()),
        (None, name) => Some(name.as_bytes().to_vec()),
    },
    spelt: Spelt::Freely,
};

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        let id = RequestId::new(Bytes::copy_from_slice(bytes));
        id.ok_or_else(|| serde::de::Error::custom("it is no name of a request"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_visible_and_short() {
        for good in ["a", "7f3c-1", "~!{}", &"x".repeat(REQUEST_ID_BYTES_MAX)] {
            assert_eq!(RequestId::new(good.to_owned()).unwrap().to_string(), good);
        }
        for bad in ["", "a b", "a\tb", "ä", "a\x7f", &"x".repeat(REQUEST_ID_BYTES_MAX + 1)] {
            assert_eq!(RequestId::new(bad.to_owned()), None, "{bad}");
        }
    }
}
