//! `drain`: everything is taken off a member, or it takes its share again.

use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::bar::{Steps, interruptible};
use crate::client::{self, Node, Request};
use crate::exit::{Exit, Failure};
use crate::output;

/// How often the node is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);
/// How long nothing goes on before it is asked whether anything is to: longer than it takes to
/// decide on the next move.
const STILL: Duration = Duration::from_secs(3);

/// What is to come of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    Begin,
    /// Begun, and told how far it is until nothing is left.
    Whole,
    End,
}

/// How far a member is drained.
#[derive(Debug, Deserialize)]
struct State {
    draining: bool,
    replicas: u64,
}

/// Takes everything off a member, or lets it take its share again.
pub(crate) async fn run(node: Node, member: u64, drain: Drain, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/members/{member}/drain");
    let form = json!({ "on": drain != Drain::End });
    let answer: Value = node.ask(Request::write(Method::POST, &path).json(&form)).await?.json()?;
    if json {
        output::json_line(&answer)?;
    }
    let State { replicas, .. } = State::deserialize(&answer).map_err(client::not_understood)?;
    match drain {
        Drain::Whole => interruptible(until_drained(&node, member, replicas, json)).await,
        _ if json => Ok(()),
        Drain::End => output::line(&format!("node {member} takes its share again")),
        Drain::Begin if replicas == 0 => is_drained(member),
        Drain::Begin => {
            let how = "; `aspen members` shows how far it is";
            output::line(&format!("{}{how}", is_being_drained(member, replicas)))
        }
    }
}

fn is_drained(member: u64) -> Result<(), Failure> {
    output::line(&format!("node {member} is drained: it holds no shard"))
}

fn is_being_drained(member: u64, left: u64) -> String {
    format!("node {member} is being drained: {} to go", output::counted(left, "shard"))
}

/// Tells how far it is, each time that there is less to go, and when nobody can take the rest. It
/// goes on without anybody waiting for it.
async fn until_drained(node: &Node, member: u64, left: u64, json: bool) -> Result<(), Failure> {
    let (all, mut left, mut since, mut is_told) = (left, left, Instant::now(), json);
    let mut steps = Steps::new();
    let text = |left| is_being_drained(member, left);
    if left > 0 && !json {
        steps.at(0, all, text(left));
    }
    while left > 0 {
        sleep(LOOK).await;
        let state = look(node, member).await?;
        if !state.draining {
            let sentence = format!("node {member} takes its share again: somebody ended the drain");
            return Err(Failure::new(Exit::Refused, sentence));
        }
        if state.replicas < left {
            (left, since, is_told) = (state.replicas, Instant::now(), json);
            match json {
                true => output::json_line(
                    &json!({ "node": member, "draining": true, "replicas": left }),
                )?,
                false if left > 0 => steps.at(all - left, all, text(left)),
                false => {}
            }
        }
        if !is_told && since.elapsed() >= STILL && is_stuck(node, member).await? {
            is_told = true;
            let note = format!(
                "no other member can take the rest now; node {member} keeps it until one can: \
                 let another node join, or end this with `aspen drain {member} --off`"
            );
            steps.say(|| output::note(&note));
        }
    }
    drop(steps);
    if json { Ok(()) } else { is_drained(member) }
}

async fn look(node: &Node, member: u64) -> Result<State, Failure> {
    let path = format!("/v1/nodes/{member}");
    let looked = node.ask(Request::read(Method::GET, &path)).await;
    let answer: Value = looked
        .map_err(|failure| match failure.exit() {
            Exit::Unreachable => {
                let sentence = "the node does not answer any longer; the drain goes on by itself, \
                                and another node's `aspen members` tells how far it is";
                Failure::new(Exit::Unreachable, sentence)
            }
            _ => failure,
        })?
        .json()?;
    State::deserialize(answer).map_err(client::not_understood)
}

/// Whether nothing that the member holds is on its way, or is to be next.
async fn is_stuck(node: &Node, member: u64) -> Result<bool, Failure> {
    let asked = node.ask(Request::read(Method::GET, "/v1/rebalance")).await?;
    let plan: Value = asked.json()?;
    let asked = node.ask(Request::read(Method::GET, "/v1/shards")).await?;
    let shards: Value = asked.json()?;
    let has = |list: &Value| list.as_array().is_some_and(|nodes| nodes.contains(&json!(member)));
    let all = |list: &Value, is_so: &dyn Fn(&Value) -> bool| {
        list.as_array().is_some_and(|all| all.iter().all(is_so))
    };
    Ok(all(&plan["moves"], &|next| !has(&next["from"]))
        && all(&shards["shards"], &|shard| !has(&shard["replicas"]) || shard["stage"] == "settled"))
}
