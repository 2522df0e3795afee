//! `completions` and `man`: the command's own words, for shells and for readers of manuals.

use std::path::Path;

use clap::Command;
use clap_complete::Shell;

use crate::exit::Failure;
use crate::input::reason;
use crate::output;

/// Prints what makes a shell complete the command's words.
pub(crate) fn completions(mut command: Command, shell: Shell) -> Result<(), Failure> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    output::raw(&script)
}

/// Prints the command's manual page, or writes it and those of all its commands into a directory.
pub(crate) fn man(command: Command, dir: Option<&Path>) -> Result<(), Failure> {
    let Some(dir) = dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return output::raw(&page);
    };
    clap_mangen::generate_to(command, dir).map_err(|error| {
        let (dir, reason) = (dir.display(), reason(&error));
        Failure::refused(format!("the pages can't be written into {dir}: {reason}"))
    })
}
