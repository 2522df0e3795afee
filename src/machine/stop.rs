//! Why a decision ends early, so that `?` carries both kinds out of nested calls.
//!
//! A refusal is an answer and leaves the tables as they were; a table error is not an answer at
//! all. Public functions split them again with [`settle`].

use super::tables::TableError;
use crate::error::Refusal;

/// A refusal, or tables that could not be read.
#[derive(Debug)]
pub(crate) enum Stop {
    Refused(Refusal),
    Tables(TableError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Stop::Tables(error)
    }
}

/// The answer or refusal on the inside, a table error on the outside.
pub(crate) fn settle<A>(decided: Result<A, Stop>) -> Result<Result<A, Refusal>, TableError> {
    match decided {
        Ok(answer) => Ok(Ok(answer)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Tables(error)) => Err(error),
    }
}
