//! `fvd`: make, look at, convert, change and try virtual disks from the shell.
//!
//! One verb, one file. A verb gets its arguments from clap, does its work on the host of real
//! files, and prints to the writer that it is given. What goes wrong says what, where, and what to
//! do; the exit code is 0 for success, 1 for a failure, 2 for arguments that make no sense.

mod convert;
mod create;
mod demo;
mod disk;
mod failure;
mod info;
mod io;
mod map;
mod open;
mod raw;
mod units;
mod update;

use std::io::{Write, stderr, stdout};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Virtual disks in the FVD format.
#[derive(Parser)]
#[command(name = "fvd", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Create(create::Args),
    Info(info::Args),
    Convert(convert::Args),
    Update(update::Args),
    Map(map::Args),
    Io(io::Args),
    Demo(demo::Args),
}

impl Verb {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        match self {
            Self::Create(args) => args.run(out),
            Self::Info(args) => args.run(out),
            Self::Convert(args) => args.run(out),
            Self::Update(args) => args.run(out),
            Self::Map(args) => args.run(out),
            Self::Io(args) => args.run(out),
            Self::Demo(args) => args.run(out),
        }
    }
}

fn main() -> ExitCode {
    let mut out = stdout().lock();
    let result = Cli::parse()
        .verb
        .run(&mut out)
        .and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) | Err(Failure::NobodyReads) => ExitCode::SUCCESS,
        Err(failure) => {
            // Where nobody can be told, the exit code still can.
            let _ = writeln!(stderr(), "fvd: {failure}");
            failure.exit_code()
        }
    }
}
