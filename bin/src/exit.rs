//! How the command ends: the exit codes, and the one sentence that goes with them.
//!
//! The codes are a contract with scripts (`docs/command.md`): they sort failures by what the
//! caller can do next, never by where in the program they arose.

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::input::reason;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It was done.
    Done,
    /// It was refused, or what was asked for is not there. Nothing changed.
    Refused,
    /// The arguments, the environment or the configuration are wrong. Nothing was sent.
    Usage,
    /// The node could not be reached, or can't serve at the moment. Nothing changed; trying again
    /// may help.
    Unreachable,
    /// A write was sent and its answer is missing: it may or may not have been done.
    Unknown,
    /// A signal with this number ended a node that was stopping already, or what showed how far it is.
    Signal(u8),
}

impl Exit {
    /// The process's exit code.
    fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Refused => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Unknown => 4,
            // As shells tell of a process that a signal ended.
            Exit::Signal(number) => 128 + number,
        }
    }
}

/// Why a run did not end well, as one sentence for a person.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    sentence: Option<String>,
}

impl Failure {
    /// Refused by the node, or not found.
    pub(crate) fn refused(sentence: impl fmt::Display) -> Self {
        Failure::new(Exit::Refused, sentence)
    }

    /// Wrong as it was typed.
    pub(crate) fn usage(sentence: impl fmt::Display) -> Self {
        Failure::new(Exit::Usage, sentence)
    }

    /// Nobody there to ask.
    pub(crate) fn unreachable(sentence: impl fmt::Display) -> Self {
        Failure::new(Exit::Unreachable, sentence)
    }

    /// What the store said, by its kind.
    pub(crate) fn of_store(error: aspen::Error) -> Self {
        use aspen::error::Kind;
        let exit = match error.kind() {
            Kind::Busy | Kind::Unavailable => Exit::Unreachable,
            Kind::OutcomeUnknown => Exit::Unknown,
            _ => Exit::Refused,
        };
        Failure::new(exit, error)
    }

    /// A failure of a given kind.
    pub(crate) fn new(exit: Exit, sentence: impl fmt::Display) -> Self {
        Failure { exit, sentence: Some(sentence.to_string()) }
    }

    /// One of which nothing is to be said.
    pub(crate) fn silent(exit: Exit) -> Self {
        Failure { exit, sentence: None }
    }

    /// What there is to say of it.
    pub(crate) fn sentence(&self) -> &str {
        self.sentence.as_deref().unwrap_or_default()
    }

    /// Prints the sentence, if there is one to print, and gives the code to end with.
    #[expect(clippy::print_stderr, reason = "this is where the command speaks of its failures")]
    pub(crate) fn report(self) -> ExitCode {
        if let Some(sentence) = self.sentence {
            eprintln!("aspen: {sentence}");
        }
        ExitCode::from(self.exit.code())
    }

    /// The kind.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

/// A failure to write what was asked for. A reader that has seen enough (`| head`) is no failure.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure { exit: Exit::Done, sentence: None };
        }
        Failure::refused(format!("the output can't be written: {}", reason(&error)))
    }
}
