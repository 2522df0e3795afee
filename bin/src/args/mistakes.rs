//! Arguments that can't be taken: what is wrong with them in one sentence, in our words, and what to
//! type instead.
//!
//! What clap says is kept where it is a sentence about the argument; its layout never is.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use super::Cli;
use crate::exit::Failure;

/// Reads the process's arguments. Help and the version are printed here and end with `None`.
pub(crate) fn parse() -> Result<Option<Cli>, Failure> {
    let error = match Cli::try_parse() {
        Ok(cli) => return Ok(Some(cli)),
        Err(error) => error,
    };
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            error.print()?;
            Ok(None)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let command = words(std::env::args().skip(1));
            let what = of_aspen(&command);
            Err(Failure::usage(format!("{what} needs a command; see `{command} --help`")))
        }
        _ => {
            let command = words(std::env::args().skip(1));
            let told = told(&error, &command);
            Err(Failure::usage(format!("{told}; see `{command} --help`")))
        }
    }
}

/// A command as sentences name it, which begin with `aspen: ` anyway.
fn of_aspen(command: &str) -> &str {
    command.strip_prefix("aspen ").unwrap_or(command)
}

/// What is wrong with the arguments of a command, on one line.
fn told(error: &clap::Error, command: &str) -> String {
    let command = of_aspen(command);
    let context = |kind| error.get(kind);
    let text = |kind| match context(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::MissingRequiredArgument => {
            if let Some(ContextValue::Strings(missing)) = context(ContextKind::InvalidArg) {
                return format!("{command} needs {}", missing.join(" "));
            }
        }
        ErrorKind::InvalidSubcommand => {
            if let Some(word) = text(ContextKind::InvalidSubcommand) {
                let meant = meant(error);
                return match command {
                    "aspen" => format!("there is no command '{word}'{meant}"),
                    _ => format!("{command} has no command '{word}'{meant}"),
                };
            }
        }
        ErrorKind::UnknownArgument => {
            if let Some(word) = text(ContextKind::InvalidArg) {
                if !word.starts_with('-') {
                    return format!("'{word}' is one argument too many");
                }
                let flag = word.split('=').next().unwrap_or(word);
                let tip = match meant(error) {
                    tip if tip.is_empty() => elsewhere(flag),
                    tip => tip,
                };
                return format!("{command} has no flag {flag}{tip}");
            }
        }
        _ => {}
    }
    plain(&error.to_string())
}

/// What clap takes for what was meant.
fn meant(error: &clap::Error) -> String {
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand];
    match kinds.into_iter().find_map(|kind| error.get(kind)) {
        Some(ContextValue::String(word)) => format!(" (did you mean {word}?)"),
        // The last is the most like it.
        Some(ContextValue::Strings(words)) => {
            words.last().map(|word| format!(" (did you mean {word}?)")).unwrap_or_default()
        }
        _ => String::new(),
    }
}

/// Where a flag belongs that was given to another command; and what is no flag at all but begins
/// with a dash is written behind two of them.
fn elsewhere(flag: &str) -> String {
    let owners: Vec<String> = flag.strip_prefix("--").map(owners).unwrap_or_default();
    match &owners[..] {
        [] => format!("; if it is no flag, write it behind two dashes: -- {flag}"),
        [owner] => format!("; it is a flag of `{owner}`"),
        [first, ..] => format!("; it is a flag of others, such as `{first}`"),
    }
}

/// The commands that have a flag.
fn owners(flag: &str) -> Vec<String> {
    fn walk(command: &Command, name: &str, flag: &str, found: &mut Vec<String>) {
        if command.get_arguments().any(|arg| arg.get_long() == Some(flag) && !arg.is_hide_set()) {
            found.push(name.to_owned());
        }
        for next in command.get_subcommands() {
            walk(next, &format!("{name} {}", next.get_name()), flag, found);
        }
    }
    let (command, mut found) = (Cli::command(), Vec::new());
    walk(&command, command.get_name(), flag, &mut found);
    found
}

/// What clap says, without its usage and hints where to look, on one line.
fn plain(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .map(|line| line.strip_prefix("error: ").unwrap_or(line));
    let mut told = String::new();
    for line in lines {
        let joint = match line.strip_prefix("tip: ") {
            _ if told.is_empty() => "",
            Some(_) => "; ",
            None => " ",
        };
        told.push_str(joint);
        told.push_str(line.strip_prefix("tip: ").unwrap_or(line));
    }
    told
}

/// The command that the arguments name: `aspen lease grant`.
fn words(arguments: impl Iterator<Item = String>) -> String {
    let mut command = Cli::command();
    let mut words = command.get_name().to_owned();
    for argument in arguments {
        if let Some(next) = command.find_subcommand(&argument) {
            command = next.clone();
            words.push(' ');
            words.push_str(&argument);
        }
    }
    words
}
