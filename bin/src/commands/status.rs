//! `status`: one screen about a cluster, as the node that is asked sees it: who it is and how well, the
//! members, the shards, what is under way, and what to do about what is wrong.
//!
//! With `--watch` the same, drawn anew every second until it is interrupted. The screen that was there
//! before is there again afterwards.

mod advice;
mod view;

use std::io::{self, Write};
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use self::view::{Cluster, Health, Operations, View};
use super::keyspace::Keyspaces;
use crate::client::{self, Node, Request};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::screen::Screen;
use crate::signals::Signals;

/// How often it is shown anew.
const EVERY: Duration = Duration::from_secs(1);
/// A screen of its own, without a cursor; and back to the one before, with it.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";
/// The first place; what is right of a line; what is below the last one. What is drawn over is never
/// cleared before, or it would flicker.
const HOME: &str = "\u{1b}[H";
const REST_OF_LINE: &str = "\u{1b}[K";
const REST_OF_SCREEN: &str = "\u{1b}[J";

/// Prints a cluster's status. What is not well is shown, not refused.
pub(crate) async fn run(node: Node, json: bool) -> Result<(), Failure> {
    if json {
        let (cluster, health) = look(&node).await?;
        return output::json_line(&json!({ "cluster": cluster, "health": health }));
    }
    output::line(&Seen::look(&node).await?.view()?.text(&Screen::here()))
}

/// Shows it until it is interrupted.
pub(crate) async fn watch(node: Node, json: bool) -> Result<(), Failure> {
    if json || !Screen::here().redraws() {
        return print_again_and_again(&node, json).await;
    }
    let mut signals = Signals::catch()
        .map_err(|error| Failure::refused(format!("signals can't be caught: {error}")))?;
    draw(ENTER)?;
    let ended = tokio::select! {
        biased;
        asked = signals.next() => Err(Failure::silent(Exit::Signal(asked.number()))),
        failed = redraw(&node) => failed,
    };
    draw(LEAVE)?;
    ended
}

async fn print_again_and_again(node: &Node, json: bool) -> Result<(), Failure> {
    loop {
        if json {
            let answer: Value =
                node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
            output::json_line(&json!({ "now_s": answer["now_s"], "members": answer["members"] }))?;
        } else {
            let seen = Seen::look(node).await?;
            output::line(&(seen.view()?.text(&Screen::here()) + "\n"))?;
        }
        sleep(EVERY).await;
    }
}

async fn redraw(node: &Node) -> Result<(), Failure> {
    let mut last = String::new();
    loop {
        let screen = Screen::here();
        // A node that is away for a while is looked for until it is back.
        let (text, note) = match Seen::look(node).await {
            Ok(seen) => (seen.view()?.text(&screen), String::new()),
            Err(failure) if failure.exit() == Exit::Unreachable && !last.is_empty() => {
                (last.clone(), screen.wrapped(failure.sentence(), 0) + "\n\n")
            }
            Err(failure) => return Err(failure),
        };
        last.clone_from(&text);
        let rows = screen.rows().unwrap_or(usize::MAX);
        let mut frame = HOME.to_owned();
        let shown = format!("{note}{text}");
        for (at, line) in shown.lines().take(rows).enumerate() {
            // No line end after the last, or the screen would be pushed up.
            frame.push_str(if at == 0 { "" } else { "\n" });
            frame.push_str(line);
            frame.push_str(REST_OF_LINE);
        }
        frame.push_str(REST_OF_SCREEN);
        draw(&frame)?;
        sleep(EVERY).await;
    }
}

fn draw(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// What a node has at hand, whoever else answers: its cluster and its health.
async fn look(node: &Node) -> Result<(Value, Value), Failure> {
    let cluster = node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
    // An unhealthy node answers with its health under another status.
    let health = node.send(Request::read(Method::GET, "/health")).await?.json()?;
    Ok((cluster, health))
}

/// What a node answered.
#[derive(Debug)]
struct Seen {
    cluster: Value,
    health: Value,
    keyspaces: Value,
    operations: Value,
}

impl Seen {
    async fn look(node: &Node) -> Result<Self, Failure> {
        let read = |path| Request::read(Method::GET, path);
        let (cluster, health) = look(node).await?;
        // Both are asked of the others first, and answered without them after a moment.
        let (keyspaces, operations) =
            tokio::join!(node.ask(read("/v1/keyspaces")), node.ask(read("/v1/operations")));
        let operations = match operations {
            Ok(operations) => operations.json()?,
            // A node of before there were operations.
            Err(failure) if failure.exit() == Exit::Refused => json!({ "operations": [] }),
            Err(failure) => return Err(failure),
        };
        Ok(Seen { cluster, health, keyspaces: keyspaces?.json()?, operations })
    }

    fn view(self) -> Result<View, Failure> {
        Ok(View {
            cluster: Cluster::deserialize(self.cluster).map_err(client::not_understood)?,
            health: Health::deserialize(self.health).map_err(client::not_understood)?,
            keyspaces: Keyspaces::deserialize(self.keyspaces).map_err(client::not_understood)?,
            operations: Operations::deserialize(self.operations).map_err(client::not_understood)?,
        })
    }
}
