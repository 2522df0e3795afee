//! What an operation of the API takes and answers, in the words of its OpenAPI document.
//!
//! An [`Operation`] stands beside the handler that does it, and a route is made of both, so that
//! nothing is answered that is not described. Names of query parameters are read by the same words.
//! Where debug assertions are on, as in tests, each answer is held against what its operation says.

use axum::body::Body;
use axum::handler::Handler;
use axum::http::{Method, Response};
use axum::routing::{MethodFilter, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::auth::Need;
use super::problem::*;
use super::schemas::KeyText;
use crate::types::{Consistency, KeyspaceName};

/// How a form's schema is written.
pub(super) type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

fn schema_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// One operation: a method of a path.
#[derive(Debug)]
pub(super) struct Operation {
    /// Its name, which clients that are made from the document call it by.
    pub(super) id: &'static str,
    /// The part of the API that it belongs to.
    pub(super) part: &'static str,
    pub(super) about: &'static str,
    /// What whoever asks needs.
    pub(super) need: Need,
    pub(super) path: &'static [Param],
    pub(super) query: &'static [Param],
    pub(super) headers: &'static [Param],
    pub(super) body: Option<Content>,
    pub(super) answers: &'static [Reply],
    pub(super) problems: &'static [&'static [&'static Kind]],
}

impl Operation {
    /// One about nothing, to be filled in.
    pub(super) const NEW: Operation = Operation {
        id: "",
        part: "",
        about: "",
        need: Need::Token,
        path: &[],
        query: &[],
        headers: &[],
        body: None,
        answers: &[],
        problems: &[],
    };

    /// The same by another name, at a path that leaves nothing open.
    pub(super) const fn at_one_path(&self, id: &'static str, about: &'static str) -> Operation {
        Operation { id, about, path: &[], ..*self }
    }

    /// The kinds of problems that it may answer, each once.
    pub(super) fn kinds(&self) -> Vec<&'static Kind> {
        let kinds = self.problems.iter().copied().flatten();
        let mut kinds: Vec<&'static Kind> = kinds.copied().collect();
        kinds.sort_by_key(|kind| (kind.status, kind.name));
        kinds.dedup();
        kinds
    }

    /// Panics if an answer is not as it says, where debug assertions are on: what is not described is
    /// a bug of the description.
    pub(super) fn check(&self, response: &Response<Body>) {
        if !cfg!(debug_assertions) {
            return;
        }
        let status = response.status().as_u16();
        match response.extensions().get::<&'static Kind>() {
            Some(kind) => assert!(
                self.kinds().contains(kind),
                "{} does not say that it may answer {}",
                self.id,
                kind.name
            ),
            None => assert!(
                self.answers.iter().any(|answer| answer.status == status),
                "{} does not say that it may answer {status}",
                self.id
            ),
        }
    }
}

/// A parameter in a path, a query or a header.
#[derive(Debug)]
pub(super) struct Param {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) schema: SchemaOf,
    pub(super) is_required: bool,
    /// What somebody would give, as it stands in the address.
    pub(super) example: Option<&'static str>,
}

impl Param {
    /// One that may be left out.
    pub(super) const fn of<T: JsonSchema>(name: &'static str, about: &'static str) -> Self {
        Param { name, about, schema: schema_of::<T>, is_required: false, example: None }
    }

    /// One that may not.
    pub(super) const fn needed<T: JsonSchema>(
        name: &'static str,
        about: &'static str,
        example: &'static str,
    ) -> Self {
        Param { name, about, schema: schema_of::<T>, is_required: true, example: Some(example) }
    }
}

/// A body of a request or of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    /// Its media type.
    pub(super) kind: &'static str,
    pub(super) schema: SchemaOf,
    /// What somebody would send.
    pub(super) example: Option<&'static str>,
}

impl Content {
    /// A form in JSON that is sent.
    pub(super) const fn json<T: JsonSchema>(example: &'static str) -> Self {
        Content { kind: "application/json", schema: schema_of::<T>, example: Some(example) }
    }

    /// Something else.
    pub(super) const fn of<T: JsonSchema>(kind: &'static str) -> Self {
        Content { kind, schema: schema_of::<T>, example: None }
    }
}

/// An answer that is no problem.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) about: &'static str,
    pub(super) content: Option<Content>,
    /// Another form of the same, for who asks for it.
    pub(super) or: Option<Content>,
    pub(super) headers: &'static [Param],
}

impl Reply {
    /// One without a body.
    pub(super) const fn empty(status: u16, about: &'static str) -> Self {
        Reply { status, about, content: None, or: None, headers: &[] }
    }

    /// One in JSON.
    pub(super) const fn json<T: JsonSchema>(status: u16, about: &'static str) -> Self {
        Reply::of(status, about, Content::of::<T>("application/json"))
    }

    /// One of another kind.
    pub(super) const fn of(status: u16, about: &'static str, content: Content) -> Self {
        Reply { status, about, content: Some(content), or: None, headers: &[] }
    }

    /// The same with these headers.
    pub(super) const fn with(self, headers: &'static [Param]) -> Self {
        Reply { headers, ..self }
    }
}

// --- what several operations share ---

pub(super) const KEYSPACE: Param =
    Param::of::<KeyspaceName>("keyspace", "the keyspace; `default` without it");
pub(super) const NEAR: Param = Param::of::<KeyText>(
    "near",
    "a key of the shard that is meant, where the keyspace has several",
);
pub(super) const CONSISTENCY: Param = Param::of::<Consistency>(
    "consistency",
    "how new the answer must be; `linearizable` without it",
);
pub(super) const PREFIX: Param = Param::of::<String>("prefix", "the keys that begin with this");
pub(super) const START: Param = Param::of::<String>("start", "the keys from this one on");
pub(super) const END: Param = Param::of::<String>("end", "the keys before this one");
pub(super) const PREV: Param =
    Param::of::<bool>("prev", "whether to answer with the record as it was before");
/// What says of which revision an answer about keys is.
pub(super) const REVISION: Param =
    Param::of::<u64>("Aspen-Revision", "the shard's revision when it was answered");
/// The header of most answers about keys.
pub(super) const AT_REVISION: &[Param] = &[REVISION];
/// What says under which path the thing is that was made.
pub(super) const LOCATION: Param = Param::of::<String>("Location", "the path of what was made");

/// What any request may be answered that needs a token.
pub(super) const OF_TOKEN: &[&Kind] = &[&UNAUTHENTICATED, &UNAVAILABLE];
/// What any request may be answered.
pub(super) const ANY: &[&Kind] = &[
    &BAD_ESCAPE,
    &BAD_QUERY,
    &BUSY,
    &CORRUPT,
    &DENIED,
    &FATAL,
    &INTERNAL,
    &UNAUTHENTICATED,
    &UNAVAILABLE,
];
/// What one with a body may be.
pub(super) const WITH_BODY: &[&Kind] = &[&BAD_BODY, &BAD_JSON, &BODY_TIMEOUT, &BODY_TOO_LARGE];
/// What one on the store may be.
pub(super) const OF_STORE: &[&Kind] = &[
    &CROSS_SHARD,
    &INVALID,
    &KEY_EMPTY,
    &KEY_TOO_LONG,
    &KEYSPACE_NAME,
    &KEYSPACE_NOT_FOUND,
    &OUTCOME_UNKNOWN,
    &READ_ONLY,
];
/// What one that writes to the store may be besides.
pub(super) const WRITES: &[&Kind] = &[&ALREADY_DONE, &NO_SPACE];
/// What one with a lease may be besides.
pub(super) const WITH_LEASE: &[&Kind] = &[&LEASE_NOT_FOUND, &LEASE_FULL];
/// What a change of the cluster may be.
pub(super) const OF_CLUSTER: &[&Kind] =
    &[&MEMBER_TOO_OLD, &NO_SPACE, &NOT_FOUNDED, &NOT_MEMBER, &OUTCOME_UNKNOWN, &READ_ONLY];

// --- routes ---

/// What a path takes: its methods, each with its operation.
pub(super) struct Methods<S> {
    pub(super) router: MethodRouter<S>,
    pub(super) operations: Vec<(Method, &'static Operation)>,
}

impl<S: Clone + Send + Sync + 'static> Methods<S> {
    /// None yet.
    pub(super) fn new() -> Self {
        Methods { router: MethodRouter::new(), operations: Vec::new() }
    }

    fn on<H, T>(
        mut self,
        (filter, method): (MethodFilter, Method),
        operation: &'static Operation,
        handler: H,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.operations.push((method, operation));
        Methods { router: self.router.on(filter, handler), ..self }
    }
}

/// Each method by its name; `GET` takes `HEAD` with it.
macro_rules! methods {
    ($($name:ident = $METHOD:ident;)*) => {
        impl<S: Clone + Send + Sync + 'static> Methods<S> {
            $(pub(super) fn $name<H, T>(self, operation: &'static Operation, handler: H) -> Self
            where
                H: Handler<T, S>,
                T: 'static,
            {
                self.on((MethodFilter::$METHOD, Method::$METHOD), operation, handler)
            })*
        }
    };
}

methods! {
    get = GET;
    put = PUT;
    post = POST;
    delete = DELETE;
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;
    use axum::response::IntoResponse;

    static OPERATION: Operation = Operation {
        id: "tried",
        answers: &[Reply::empty(204, "nothing")],
        problems: &[&[&BUSY, &KEY_NOT_FOUND], &[&BUSY]],
        ..Operation::NEW
    };

    #[test]
    fn what_is_described_may_be_answered() {
        OPERATION.check(&StatusCode::NO_CONTENT.into_response());
        OPERATION.check(&Problem::new(&BUSY, "wait").into_response());
        let names: Vec<_> = OPERATION.kinds().iter().map(|kind| kind.name).collect();
        assert_eq!(names, ["key-not-found", "busy"]);
    }

    #[test]
    #[should_panic(expected = "tried does not say that it may answer 200")]
    fn a_status_that_is_not_described_is_a_bug() {
        OPERATION.check(&StatusCode::OK.into_response());
    }

    #[test]
    #[should_panic(expected = "tried does not say that it may answer node-not-found")]
    fn a_problem_that_is_not_described_is_a_bug() {
        OPERATION.check(&Problem::new(&NODE_NOT_FOUND, "look again").into_response());
    }
}
