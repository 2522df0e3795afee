//! `settings`: what holds for the whole cluster.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::SettingsCmd;
use crate::client::{Node, Request, segment};
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Deserialize)]
struct Settings {
    settings: Vec<Setting>,
}

#[derive(Debug, Deserialize)]
struct Setting {
    name: String,
    value: String,
    default: String,
    help: String,
}

/// What came of setting one.
#[derive(Debug, Deserialize)]
struct WasSet {
    epoch: u64,
    members: Vec<Knows>,
}

#[derive(Debug, Deserialize)]
struct Knows {
    node: u64,
    epoch: Option<u64>,
}

/// Does what is asked with the settings.
pub(crate) async fn run(node: Node, command: SettingsCmd, json: bool) -> Result<(), Failure> {
    match command {
        SettingsCmd::Get { name } => get(&node, name, json).await,
        SettingsCmd::Set { name, value } => set(&node, &name, json!(value), json).await,
        SettingsCmd::Reset { name } => set(&node, &name, Value::Null, json).await,
    }
}

async fn get(node: &Node, name: Option<String>, json: bool) -> Result<(), Failure> {
    let answer = node.ask(Request::read(Method::GET, "/v1/settings")).await?;
    let Settings { settings } = answer.json()?;
    if let Some(name) = name {
        let setting = settings.iter().find(|setting| setting.name == name);
        let Some(setting) = setting else {
            let names: Vec<&str> = settings.iter().map(|setting| setting.name.as_str()).collect();
            let known = names.join(", ");
            return Err(Failure::refused(format!(
                "there is no setting {name:?}; use one of: {known}"
            )));
        };
        return match json {
            true => output::json_line(&json!({ "name": name, "value": setting.value })),
            false => output::line(&setting.value),
        };
    }
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    let mut rows = vec![["SETTING", "VALUE", "DEFAULT", "WHAT IT IS"].map(str::to_owned).to_vec()];
    let row = |setting: Setting| vec![setting.name, setting.value, setting.default, setting.help];
    rows.extend(settings.into_iter().map(row));
    output::line(&output::table(&rows))
}

async fn set(node: &Node, name: &str, value: Value, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/settings/{}", segment(name));
    let done = if value.is_null() { "reset" } else { "set" };
    let request = Request::write(Method::PUT, &path).json(&json!({ "value": value }));
    let answer = node.ask(request).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    let WasSet { epoch, members } = answer.json()?;
    let all = members.len();
    let behind: Vec<String> = members
        .into_iter()
        .filter(|member| member.epoch.is_none_or(|known| known < epoch))
        .map(|member| member.node.to_string())
        .collect();
    let known = format!("known to {} of {all} nodes as of epoch {epoch}", all - behind.len());
    match behind.is_empty() {
        true => output::line(&format!("{done}; {known}")),
        false => output::line(&format!("{done}; {known}; not heard from: {}", behind.join(", "))),
    }
}
