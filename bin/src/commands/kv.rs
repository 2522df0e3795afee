//! `put`, `get` and `del`: one key at a time, and deletion by range.

use aspen::limits::VALUE_BYTES_MAX;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{DelArgs, GetArgs, PutArgs};
use crate::client::{Answer, NO_KEY, Node, Request, key_path};
use crate::exit::Failure;
use crate::input::Source;
use crate::output;

/// Stores a value.
pub(crate) async fn put(node: Node, args: PutArgs, json: bool) -> Result<(), Failure> {
    let key = args.keys.encoding.key(&args.key)?;
    let value = Source::of(args.value, args.file, "the value")?.read(VALUE_BYTES_MAX)?;
    let mut request = Request::write(Method::PUT, &key_path(key.as_bytes()))
        .maybe("lease", args.lease.map(|id| id.to_string()))
        .flag("prev", args.prev)
        .body(value);
    // A key that does not exist is at revision 0.
    request = match args.if_revision {
        None if !args.if_absent => request,
        None | Some(0) => request.header("if-none-match", "*"),
        Some(revision) => request.header("if-match", format!("\"{revision}\"")),
    };
    let answer = node.ask(request).await?;
    let created = answer.status == StatusCode::CREATED;
    let revision = answer.number("aspen-revision");
    let prev = if args.prev { answer.json::<Prev>()?.prev } else { None };
    if json {
        let mut object = json!({ "revision": revision, "created": created });
        if args.prev {
            object["prev"] = prev.unwrap_or(Value::Null);
        }
        return output::json_line(&object);
    }
    let done = if created { "created" } else { "updated" };
    output::line(&format!("{done} at revision {}", revision.unwrap_or_default()))?;
    match prev.as_ref().and_then(|record| record.get("value")).and_then(output::bytes_from_json) {
        Some(value) => output::line(&format!("previous value: {}", output::bytes_text(&value))),
        None => Ok(()),
    }
}

/// The part of a write's answer that `--prev` asks for.
#[derive(Debug, Deserialize)]
struct Prev {
    prev: Option<Value>,
}

/// Prints a value, or what is known about it.
pub(crate) async fn get(node: Node, args: GetArgs, json: bool) -> Result<(), Failure> {
    let key = args.keys.encoding.key(&args.key)?;
    // The counters are headers; the value need not travel for them alone.
    let method = if args.meta && !json { Method::HEAD } else { Method::GET };
    let request = Request::read(method, &key_path(key.as_bytes()))
        .maybe("revision", args.revision.map(|revision| revision.to_string()))
        .maybe("consistency", args.read.consistency.map(|kind| kind.to_string()));
    let answer = node.send(request).await?;
    if answer.status == StatusCode::NOT_FOUND && answer.body.is_empty() {
        return Err(Failure::refused(NO_KEY));
    }
    let answer = answer.accepted()?;
    if json {
        let mut record = meta_json(&answer);
        record["key"] = output::bytes_json(key.as_bytes());
        if !args.meta {
            record["value"] = output::bytes_json(&answer.body);
        }
        return output::json_line(&record);
    }
    if args.meta {
        return output::line(&output::table(&meta_rows(&answer)));
    }
    output::raw(&answer.body)
}

/// The headers of a record, with the names that JSON has for them.
const META: &[(&str, &str)] = &[
    ("aspen-create-revision", "create_revision"),
    ("aspen-mod-revision", "mod_revision"),
    ("aspen-version", "version"),
    ("aspen-lease", "lease"),
    ("aspen-revision", "revision"),
];

fn meta_json(answer: &Answer) -> Value {
    let fields = META.iter().map(|(header, name)| {
        let value = match *name {
            // A lease's id is text everywhere.
            "lease" => json!(answer.header(header)),
            _ => json!(answer.number(header)),
        };
        ((*name).to_owned(), value)
    });
    Value::Object(fields.collect())
}

fn meta_rows(answer: &Answer) -> Vec<Vec<String>> {
    META.iter()
        .map(|(header, name)| {
            let value = answer.header(header).unwrap_or("none");
            vec![name.replace('_', " "), value.to_owned()]
        })
        .collect()
}

/// Deletes a key, a prefix or a range.
pub(crate) async fn del(node: Node, args: DelArgs, json: bool) -> Result<(), Failure> {
    let encoding = args.keys.encoding;
    let (deleted, revision) = match (&args.key, &args.prefix, &args.range) {
        (Some(key), _, _) => {
            let path = key_path(encoding.key(key)?.as_bytes());
            let answer = node.ask(Request::write(Method::DELETE, &path)).await?;
            let Deleted { deleted, revision } = answer.json()?;
            (deleted, revision)
        }
        (None, Some(prefix), _) => {
            let request = Request::write(Method::DELETE, "/v1/kv");
            delete_range(&node, request.parameter("prefix", encoding.bytes(prefix)?)).await?
        }
        (None, None, Some(bounds)) => {
            let mut request = Request::write(Method::DELETE, "/v1/kv");
            for (name, bound) in ["start", "end"].into_iter().zip(bounds) {
                request = request.parameter(name, encoding.bytes(bound)?);
            }
            delete_range(&node, request).await?
        }
        (None, None, None) => return Err(Failure::usage("name a key, --prefix or --range")),
    };
    if json {
        return output::json_line(&json!({ "deleted": deleted, "revision": revision }));
    }
    let keys = output::counted(deleted, "key");
    match (deleted, revision) {
        (0, _) => output::line("nothing was there"),
        (_, Some(revision)) => output::line(&format!("deleted {keys} at revision {revision}")),
        (_, None) => output::line(&format!("deleted {keys} in several shards")),
    }
}

/// The answer to a deletion.
#[derive(Debug, Deserialize)]
struct Deleted {
    deleted: u64,
    /// Missing if the range is in several shards.
    revision: Option<u64>,
}

async fn delete_range(node: &Node, request: Request) -> Result<(u64, Option<u64>), Failure> {
    let Deleted { deleted, revision } = node.ask(request).await?.json()?;
    Ok((deleted, revision))
}
