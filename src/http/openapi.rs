//! `/openapi.json`: the document of all operations, made from the routes and the forms of their
//! bodies; `/docs`: a page that shows it to people.
//!
//! It is made when it is asked for and not kept. `docs/openapi.json` is a copy, held against it by a
//! test.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{Method, Response};
use schemars::Schema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Map, Value, json};

use super::auth::Need;
use super::counts::Described;
use super::described;
use super::operation::{ANY, Content, Operation, Param, Reply, SchemaOf};
use super::problem::{Kind, Problem};
use crate::roster::builds::split;
use crate::seams;

/// The page; it loads nothing but the document.
const PAGE: &str = include_str!("docs.html");
/// Nothing of the page comes from elsewhere, nor goes there.
const PAGE_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'";

/// What is answered before a request is read so far that it is known what it is.
const AT_ONCE: [(u16, &str); 2] =
    [(414, "the address is over its limit"), (431, "the head is over its limit")];

const SCHEMAS: &str = "/components/schemas";

/// What the parts of the API are, in the order in which a reader meets them.
const PARTS: &[(&str, &str)] = &[
    (KEYS, "One key, its value as the raw body; or many"),
    (WATCHES, "Changes as they come, as server-sent events"),
    (LEASES, "Keys that go when nobody keeps them"),
    (CLAIMS, "Locks and elections: claims of leases on names, with fencing tokens"),
    (KEYSPACES, "Keyspaces, and where their shards are"),
    (CLUSTER, "Members, groups, tickets and settings"),
    (NODE, "The node that is asked"),
];

pub(super) const KEYS: &str = "keys";
pub(super) const WATCHES: &str = "watches";
pub(super) const LEASES: &str = "leases";
pub(super) const CLAIMS: &str = "claims";
pub(super) const KEYSPACES: &str = "keyspaces";
pub(super) const CLUSTER: &str = "cluster";
pub(super) const NODE: &str = "node";

pub(super) static DOCUMENT: Operation = Operation {
    id: "showDocument",
    part: NODE,
    about: "This document",
    need: Need::Nothing,
    answers: &[Reply::json::<Map<String, Value>>(200, "OpenAPI 3.1")],
    problems: &[ANY],
    ..Operation::NEW
};

pub(super) async fn show() -> Response<Body> {
    let mut response = Response::new(Body::from(document()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

pub(super) static DOCS: Operation = Operation {
    id: "showDocs",
    part: NODE,
    about: "This document as a page",
    need: Need::Nothing,
    answers: &[Reply::of(200, "a page for people", Content::of::<String>("text/html"))],
    problems: &[ANY],
    ..Operation::NEW
};

pub(super) async fn docs() -> Response<Body> {
    let mut response = Response::new(Body::from(PAGE));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY));
    response
}

/// The OpenAPI document of everything that a node answers, as JSON.
pub fn document() -> String {
    let document = serde_json::to_string_pretty(&described_as()).expect("a value is always JSON");
    document + "\n"
}

fn described_as() -> Value {
    let mut schemas = Schemas::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let described = described();
    for Described { path, method, operation } in &described {
        let name = method.as_str().to_ascii_lowercase();
        let of = schemas.operation(method, operation);
        paths.entry(path).or_default().insert(name, of);
    }
    // Refusals name it; it is of no operation in particular.
    schemas.answered.subschema_for::<Problem>();
    let parts = PARTS.iter().map(|(name, about)| json!({"name": name, "description": about}));
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Aspen",
            "summary": "A strongly consistent key-value store",
            "version": split(seams::version()).0,
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "tags": parts.collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas.definitions(),
            "securitySchemes": {"token": {
                "type": "http",
                "scheme": "bearer",
                "description": "A token, where the node asks for one",
            }},
        },
        // A node may be told not to ask.
        "security": [{"token": []}, {}],
    })
}

/// Makes schemas of forms, and gathers those that have names.
struct Schemas {
    /// Of what is read.
    asked: SchemaGenerator,
    /// Of what is written.
    answered: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = || {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = SCHEMAS.into();
                settings.meta_schema = None;
            });
            settings.with_transform(RecursiveTransform(bounded))
        };
        Schemas {
            asked: settings().for_deserialize().into_generator(),
            answered: settings().for_serialize().into_generator(),
        }
    }

    fn definitions(mut self) -> Map<String, Value> {
        let mut definitions = self.answered.take_definitions(true);
        for (name, asked) in self.asked.take_definitions(true) {
            let answered = definitions.insert(name.clone(), asked.clone());
            assert!(
                answered.is_none_or(|answered| answered == asked),
                "a form that is asked for and one that is answered are both called {name}"
            );
        }
        definitions
    }

    fn operation(&mut self, method: &Method, operation: &Operation) -> Value {
        let Operation { id, part, about, need, path, query, headers, body, answers, .. } =
            operation;
        let (needs, tags) = (need.about(), [part]);
        let mut of =
            json!({"operationId": id, "tags": tags, "summary": about, "description": needs});
        let placed = [("path", path), ("query", query), ("header", headers)];
        let parameters: Vec<Value> = placed
            .into_iter()
            .flat_map(|(place, params)| params.iter().map(move |param| (place, param)))
            .map(|(place, param)| self.parameter(place, param))
            .collect();
        if !parameters.is_empty() {
            of["parameters"] = parameters.into();
        }
        if let Some(content) = body {
            assert!(*method != Method::GET, "{id} has a body, which GET has not");
            let content = content_of(&mut self.asked, &[*content]);
            of["requestBody"] = json!({"required": true, "content": content});
        }
        let mut responses = Map::new();
        for answer in *answers {
            responses.insert(answer.status.to_string(), self.answer(answer));
        }
        for kinds in operation.kinds().chunk_by(|a, b| a.status == b.status) {
            let status = kinds[0].status.to_string();
            let problem = refusal(kinds);
            match responses.get_mut(&status) {
                // An answer of the same status, as that of a node that is not ready.
                Some(answer) => {
                    answer["content"]["application/problem+json"] = problem_content();
                }
                None => {
                    responses.insert(status, problem);
                }
            }
        }
        for (status, about) in AT_ONCE {
            responses.insert(status.to_string(), json!({"description": about}));
        }
        of["responses"] = responses.into();
        of
    }

    fn parameter(&mut self, place: &str, param: &Param) -> Value {
        let Param { name, about, schema, is_required, example } = param;
        let schema = made(&mut self.asked, *schema);
        let mut of = json!({"name": name, "in": place, "description": about, "schema": schema});
        if *is_required {
            of["required"] = true.into();
        }
        if let Some(example) = example {
            of["example"] = (*example).into();
        }
        of
    }

    fn answer(&mut self, answer: &Reply) -> Value {
        let Reply { about, content, or, headers, .. } = answer;
        let mut of = json!({"description": about});
        let contents: Vec<Content> = [*content, *or].into_iter().flatten().collect();
        if !contents.is_empty() {
            of["content"] = content_of(&mut self.answered, &contents);
        }
        for Param { name, about, schema, is_required, .. } in *headers {
            let schema = made(&mut self.answered, *schema);
            of["headers"][name] =
                json!({"description": about, "schema": schema, "required": is_required});
        }
        of
    }
}

fn made(generator: &mut SchemaGenerator, schema: SchemaOf) -> Value {
    let mut schema = schema(generator);
    RecursiveTransform(bounded).transform(&mut schema);
    schema.to_value()
}

/// Says how large a number may be, which the schema's format alone does not.
fn bounded(schema: &mut Schema) {
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint64") => u64::MAX,
        Some("uint32") => u64::from(u32::MAX),
        _ => return,
    };
    if schema.get("maximum").is_none() {
        schema.insert("maximum".into(), most.into());
    }
}

fn content_of(generator: &mut SchemaGenerator, contents: &[Content]) -> Value {
    let mut of = Map::new();
    for Content { kind, schema, example } in contents {
        let mut content = json!({"schema": made(generator, *schema)});
        if let Some(example) = example {
            let example: Value =
                serde_json::from_str(example).expect("examples of bodies are JSON, as a test sees");
            content["example"] = example;
        }
        of.insert((*kind).to_owned(), content);
    }
    of.into()
}

fn problem_content() -> Value {
    json!({"schema": {"$ref": "#/components/schemas/Problem"}})
}

/// The problems of one status.
fn refusal(kinds: &[&Kind]) -> Value {
    let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name)).collect();
    json!({
        "description": names.join(", "),
        "content": {"application/problem+json": problem_content()},
    })
}
