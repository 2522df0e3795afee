//! What the command is told to do, from four places: flags over environment over file over
//! defaults.
//!
//! One table ([`settings::SETTINGS`]) names every setting; its flag, its `ASPEN_*` variable and
//! its key in the file follow from the name. Loading reads all four places, collects every
//! problem it meets, and gives either a [`Config`] with the origin of each value or the list of
//! problems; a start never goes on with a value that was not understood, even one that a higher
//! place overrides.

mod file;
mod settings;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

pub(crate) use settings::{Config, LogFormat, SETTINGS, Scope, Setting};

use aspen::DoorAddress;
use aspen::http::Auth;

use crate::exit::Failure;
use crate::input;

/// The variable that names the file, as `--config` does.
pub(crate) const CONFIG_VARIABLE: &str = "ASPEN_CONFIG";

/// What all variables of the command begin with.
const VARIABLE_PREFIX: &str = "ASPEN_";

/// Largest configuration file that is read: far above any real one.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nobody said otherwise.
    Default,
    /// A line of the configuration file.
    File { path: String, line: usize },
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(String),
}

impl Origin {
    /// The kind of place, as one word for programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Origin::Default => "default",
            Origin::File { .. } => "file",
            Origin::Environment(_) => "environment",
            Origin::Flag(_) => "flag",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Environment(variable) => f.write_str(variable),
            Origin::Flag(flag) => f.write_str(flag),
        }
    }
}

/// A configuration and where each of its values came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The values.
    pub(crate) config: Config,
    /// One origin a row of [`SETTINGS`], in its order.
    origins: Vec<Origin>,
}

impl Loaded {
    /// Every setting with its value (`None` if it has none) and its origin.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&'static Setting, Option<String>, &Origin)> {
        SETTINGS
            .iter()
            .zip(&self.origins)
            .map(|(setting, origin)| (setting, (setting.show)(&self.config), origin))
    }

    /// Where a setting's value came from.
    pub(crate) fn origin(&self, name: &str) -> &Origin {
        let row = SETTINGS.iter().position(|setting| setting.name == name);
        row.and_then(|row| self.origins.get(row)).unwrap_or(&Origin::Default)
    }

    /// The defaults alone.
    fn defaults() -> Self {
        let mut config = Config::default();
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                let understood = (setting.apply)(&mut config, default);
                debug_assert!(understood.is_some(), "the default of {} is allowed", setting.name);
            }
        }
        Loaded { config, origins: vec![Origin::Default; SETTINGS.len()] }
    }

    /// Takes a value over what was there, or says why it can't be taken.
    fn set(&mut self, setting: &Setting, text: &str, origin: Origin) -> Result<(), Problem> {
        if (setting.apply)(&mut self.config, text).is_none() {
            return Err(Problem::value(&origin, setting, text));
        }
        let row = SETTINGS.iter().position(|s| s.name == setting.name);
        if let Some(place) = row.and_then(|row| self.origins.get_mut(row)) {
            *place = origin;
        }
        Ok(())
    }
}

/// One thing that is wrong with the configuration, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem(String);

impl Problem {
    /// A value that its setting does not allow.
    fn value(origin: &Origin, setting: &Setting, text: &str) -> Self {
        let Setting { name, allowed, .. } = setting;
        Problem(match origin {
            Origin::File { .. } => format!("{origin}: {name} can't be {text:?}; use {allowed}"),
            _ => format!("{origin} can't be {text:?}; use {allowed}"),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a setting is when nobody says otherwise; nothing if that is left to the node.
pub(crate) fn default_of(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).and_then(|s| s.default).unwrap_or_default()
}

/// All problems become one failure, a line each.
pub(crate) fn failure(problems: &[Problem]) -> Failure {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Failure::usage(lines.join("\naspen: "))
}

/// The variables that may concern the command, as the process was given them.
pub(crate) fn environment() -> Vec<(String, OsString)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
        .collect()
}

/// Reads all four places for a node: unknown variables and keys are problems too.
pub(crate) fn load_node(
    flags: &[(&'static Setting, String)],
    file: Option<&Path>,
    environment: &[(String, OsString)],
) -> Result<Loaded, Vec<Problem>> {
    let mut loaded = Loaded::defaults();
    let mut problems = Vec::new();
    let named = environment.iter().find(|(name, _)| name == CONFIG_VARIABLE);
    if let Some(path) = file.or(named.map(|(_, value)| Path::new(value))) {
        problems.extend(apply_file(&mut loaded, path));
    }
    problems.extend(unknown_variables(environment));
    problems.extend(apply_environment(&mut loaded, environment, |_| true));
    problems.extend(apply_flags(&mut loaded, flags));
    problems.extend(loaded.config.times.check().err().map(Problem));
    // A setting that could not be read is not missing beside the others.
    if problems.is_empty() {
        problems.extend(mesh_problem(&loaded.config).map(|what| Problem(what.to_owned())));
        problems.extend(http_problem(&loaded.config).map(|what| Problem(what.to_owned())));
        problems.extend(internet_problems(&loaded));
    }
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// The settings that are for the internet, given to a node that does not reach so far.
fn internet_problems(loaded: &Loaded) -> Vec<Problem> {
    if loaded.config.reach == aspen::Reach::Internet {
        return Vec::new();
    }
    let for_internet = ["relay", "relay-only", "directory", "dht", "port-mapping"];
    let given = for_internet.into_iter().filter(|name| *loaded.origin(name) != Origin::Default);
    let reach = loaded.config.reach;
    given
        .map(|name| Problem(format!("{name} is for --reach internet, and reach is {reach}")))
        .collect()
}

/// What is wrong with the settings of HTTP together.
fn http_problem(config: &Config) -> Option<&'static str> {
    if config.http.is_none() && config.http_cors.is_some() {
        return Some("http-cors is for HTTP, which is off: drop one of the two");
    }
    if config.auth == Auth::Required && config.insecure {
        return Some("auth asks for tokens and insecure does not: drop one of the two");
    }
    let is_beyond = config.http.as_ref().is_some_and(DoorAddress::is_reached_by_others);
    if is_beyond && config.auth == Auth::Off && !config.insecure {
        return Some(
            "http is at an address that others reach, and asks nobody who they are: ask for tokens \
             with --auth required, or let everybody in with --insecure",
        );
    }
    match (&config.http_tls_cert, &config.http_tls_key) {
        (None, None) => None,
        (Some(_), Some(_)) => match config.http.as_ref().and_then(DoorAddress::tcp) {
            Some(_) => None,
            None => Some("http-tls-cert and http-tls-key are for HTTP at an address and port"),
        },
        _ => Some("http-tls-cert and http-tls-key go together: give both"),
    }
}

/// What is wrong with the settings of a mesh together.
fn mesh_problem(config: &Config) -> Option<&'static str> {
    match (&config.lan, &config.lan_secret_file, config.open) {
        (None, None, false) => None,
        (None, _, _) => Some("lan-secret-file and open are for a mesh: name it with --lan NAME"),
        (Some(_), None, false) => Some(
            "a mesh has a secret, so that nobody else on the LAN gets in: give all its nodes the \
             same file with --lan-secret-file FILE, or say --open to let in everybody on the LAN",
        ),
        (Some(_), Some(_), true) => Some("a mesh has a secret or is open: drop one of the two"),
        (Some(_), _, _) if config.reach == aspen::Reach::Loopback => Some(
            "a mesh is of nodes on one LAN, and reach is loopback, this machine only: drop one of \
             the two",
        ),
        (Some(_), _, _) => None,
    }
}

/// Reads flags, environment and defaults for a client of a node. Variables that concern only
/// nodes are none of its business.
pub(crate) fn load_client(
    flags: &[(&'static Setting, String)],
    environment: &[(String, OsString)],
) -> Result<Loaded, Vec<Problem>> {
    let mut loaded = Loaded::defaults();
    let client = |setting: &Setting| setting.scope != Scope::Node;
    let mut problems = apply_environment(&mut loaded, environment, client);
    problems.extend(apply_flags(&mut loaded, flags));
    problems.extend(one_token(&mut loaded).err());
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// Of a token and a file with one, a flag is over a variable.
fn one_token(loaded: &mut Loaded) -> Result<(), Problem> {
    match (loaded.origin("token"), loaded.origin("token-file")) {
        (Origin::Default, _) | (_, Origin::Default) => {}
        (Origin::Flag(_), Origin::Environment(_)) => loaded.config.token_file = None,
        (Origin::Environment(_), Origin::Flag(_)) => loaded.config.token = None,
        (token, file) => {
            return Err(Problem(format!("{token} and {file} are both given; give one of them")));
        }
    }
    Ok(())
}

/// Checks a file by itself.
pub(crate) fn check_file(path: &Path) -> Vec<Problem> {
    apply_file(&mut Loaded::defaults(), path)
}

fn apply_file(loaded: &mut Loaded, path: &Path) -> Vec<Problem> {
    let shown = path.display().to_string();
    let text = match input::read_file(path, FILE_BYTES_MAX).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => return vec![Problem(format!("{shown}: the file is not UTF-8 text"))],
        Err(reason) => return vec![Problem(reason)],
    };
    file::parse(&shown, &text, |setting, value, line| {
        loaded.set(setting, value, Origin::File { path: shown.clone(), line })
    })
}

fn apply_environment(
    loaded: &mut Loaded,
    environment: &[(String, OsString)],
    concerns: impl Fn(&Setting) -> bool,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (name, value) in environment {
        let Some(setting) = SETTINGS.iter().find(|s| s.variable() == *name && concerns(s)) else {
            continue;
        };
        let origin = Origin::Environment(name.clone());
        let outcome = match value.to_str() {
            Some(text) => loaded.set(setting, text, origin),
            None => Err(Problem::value(&origin, setting, &value.to_string_lossy())),
        };
        problems.extend(outcome.err());
    }
    problems
}

fn apply_flags(loaded: &mut Loaded, flags: &[(&'static Setting, String)]) -> Vec<Problem> {
    flags
        .iter()
        .filter_map(|(setting, text)| {
            loaded.set(setting, text, Origin::Flag(format!("--{}", setting.name))).err()
        })
        .collect()
}

/// A variable that looks like ours and is not is most likely a misspelt one.
fn unknown_variables(environment: &[(String, OsString)]) -> Vec<Problem> {
    let mut known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    known.push(CONFIG_VARIABLE.to_owned());
    environment
        .iter()
        .filter(|(name, _)| !known.contains(name))
        .map(|(name, _)| {
            let guess = did_you_mean(name, known.iter().map(String::as_str));
            let list = known.join(", ");
            Problem(format!(
                "{name} is not a variable of aspen{guess}; unset it or use one of: {list}"
            ))
        })
        .collect()
}

/// `, did you mean …?` for the nearest of the candidates, or nothing if none is near.
fn did_you_mean<'a>(given: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(given, candidate), candidate))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map_or_else(String::new, |(_, candidate)| format!(" (did you mean {candidate}?)"))
}

/// How alike two names must be, of 1, for one to be offered in place of the other: two slips in a
/// name of five letters.
const LIKENESS_MIN: f64 = 0.6;
