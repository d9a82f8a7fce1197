//! Programs that the tests ask for an independent opinion: file system tools, the archiver.

use std::process::{Command, Output};

/// A command that is also looked for where only root's PATH looks.
pub(crate) fn command(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Runs a command to its end.
pub(crate) fn output(command: &mut Command) -> Output {
    let name = command.get_program().to_owned();
    command.output().unwrap_or_else(|error| {
        panic!("{name:?} cannot be run ({error}); the tests need Debian's zstd and e2fsprogs")
    })
}

/// Runs a command that must succeed; what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let output = output(command);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{printed}{complaints}",
        output.status
    );
    printed
}
