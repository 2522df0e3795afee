//! `operations`: what is under way in the cluster and takes long, and how far it is.

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::bar::{Steps, interruptible};
use crate::client::{self, Node, Request, segment};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::screen::Screen;

/// How often the node is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// An operation that takes long, as the node tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Operation {
    id: String,
    state: String,
    done: Option<u64>,
    of: Option<u64>,
    unit: Option<String>,
    why: Option<String>,
}

impl Operation {
    /// What is above the [`Operation::row`]s of a table.
    pub(super) const HEADING: [&str; 4] = ["OPERATION", "STATE", "DONE", "WHY"];

    pub(super) fn row(&self) -> Vec<String> {
        let why = self.why.clone().unwrap_or_default();
        vec![self.id.clone(), self.state.clone(), self.progress(), why]
    }

    /// `12 of 32 shards`
    fn progress(&self) -> String {
        match (self.done, self.of, &self.unit) {
            (Some(done), Some(of), Some(unit)) => format!("{done} of {of} {unit}"),
            _ => "-".to_owned(),
        }
    }

    /// All of it on a line.
    fn line(&self) -> String {
        let mut line = format!("{}: {}", self.id, self.state);
        if self.of.is_some() && self.state != "done" {
            line = format!("{line}, {}", self.progress());
        }
        match &self.why {
            Some(why) => format!("{line} ({why})"),
            None => line,
        }
    }
}

/// Prints all that is under way, or one operation; or waits until that one is done.
pub(crate) async fn run(
    node: Node,
    id: Option<String>,
    wait: bool,
    json: bool,
) -> Result<(), Failure> {
    match id {
        None => list(&node, json).await,
        Some(id) if wait => interruptible(until_done(&node, &id, json)).await,
        Some(id) => {
            let document = look(&node, &id).await?;
            if json {
                return output::json_line(&document);
            }
            output::line(&read(&document)?.line())
        }
    }
}

async fn list(node: &Node, json: bool) -> Result<(), Failure> {
    let answer: Value = node.ask(Request::read(Method::GET, "/v1/operations")).await?.json()?;
    let operations = answer["operations"].as_array().into_iter().flatten();
    if json {
        return operations.into_iter().try_for_each(output::json_line);
    }
    let operations = operations.map(read).collect::<Result<Vec<_>, _>>()?;
    if operations.is_empty() {
        return output::line("nothing is under way");
    }
    let heading = Operation::HEADING.map(str::to_owned).to_vec();
    let rows = operations.iter().map(Operation::row);
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    output::line(&Screen::here().table(&rows))
}

/// Tells how far it is, each time that this has changed. It goes on without anybody waiting for it.
async fn until_done(node: &Node, id: &str, json: bool) -> Result<(), Failure> {
    let (mut told, mut steps) = (None, Steps::new());
    loop {
        let document = match look(node, id).await {
            Err(failure) if failure.exit() == Exit::Unreachable && told.is_some() => {
                let sentence = format!(
                    "the node does not answer any longer; the operation goes on by itself, and any \
                     node tells how far it is: `aspen operations {id}`"
                );
                return Err(Failure::new(Exit::Unreachable, sentence));
            }
            looked => looked?,
        };
        let operation = read(&document)?;
        let is_done = operation.state == "done";
        if told.as_ref() != Some(&operation) {
            match (json, is_done) {
                (true, _) => output::json_line(&document)?,
                (false, true) => {}
                (false, false) => {
                    let (done, of) = operation.done.zip(operation.of).unwrap_or((0, 1));
                    steps.at(done, of, operation.line());
                }
            }
        }
        if is_done {
            drop(steps);
            return if json { Ok(()) } else { output::line(&operation.line()) };
        }
        told = Some(operation);
        sleep(LOOK).await;
    }
}

async fn look(node: &Node, id: &str) -> Result<Value, Failure> {
    let path = format!("/v1/operations/{}", segment(id));
    node.ask(Request::read(Method::GET, &path)).await?.json()
}

fn read(document: &Value) -> Result<Operation, Failure> {
    Operation::deserialize(document).map_err(client::not_understood)
}
