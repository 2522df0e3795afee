//! `config show` and `config check`: what a node would be started with, and whether a file is
//! right.

use serde_json::{Value, json};

use crate::args::ConfigCmd;
use crate::config::{self, Origin};
use crate::exit::Failure;
use crate::output;

/// Runs either.
pub(crate) fn run(command: &ConfigCmd, json: bool) -> Result<(), Failure> {
    match command {
        ConfigCmd::Show(node) => show(&node.load()?, json),
        ConfigCmd::Check { file, misplaced } => {
            misplaced.refuse()?;
            let problems = config::check_file(file);
            if !problems.is_empty() {
                return Err(config::failure(&problems));
            }
            if json {
                return output::json_line(&json!({ "file": file, "valid": true }));
            }
            output::line(&format!("{} is valid", file.display()))
        }
    }
}

fn show(loaded: &config::Loaded, json: bool) -> Result<(), Failure> {
    if json {
        let settings: Vec<Value> = loaded
            .rows()
            .map(|(setting, value, origin)| {
                let place = (*origin != Origin::Default).then(|| origin.to_string());
                json!({
                    "name": setting.name,
                    "value": value,
                    "origin": origin.kind(),
                    "place": place,
                })
            })
            .collect();
        return output::json_line(&json!({ "settings": settings }));
    }
    let heading = ["SETTING", "VALUE", "ORIGIN"].map(str::to_owned).to_vec();
    let rows = loaded.rows().map(|(setting, value, origin)| {
        vec![
            setting.name.to_owned(),
            value.unwrap_or_else(|| "(not set)".to_owned()),
            origin.to_string(),
        ]
    });
    output::line(&output::table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>()))
}
