//! How a verb ends when it does not succeed, and the exit code that goes with it.

use std::fmt;
use std::io;
use std::process::ExitCode;

use fvd::Error;
use fvd::format::FormatError;
use fvd::host::HostError;

/// Why a verb did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments make no sense together; clap finds most of these by itself.
    Usage(String),
    /// It was tried, and did not work.
    Failed(String),
    /// Whoever read the output has gone away (`fvd map | head`): there is nothing left to do.
    NobodyReads,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::NobodyReads => ExitCode::SUCCESS,
            Self::Failed(_) => ExitCode::from(1),
            Self::Usage(_) => ExitCode::from(2),
        }
    }

    /// A failure of the file `name`.
    pub(crate) fn of_file(name: &str, error: &io::Error) -> Self {
        Self::Failed(format!("'{name}': {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(message) => write!(f, "{message} (see `fvd --help`)"),
            Self::Failed(message) => f.write_str(message),
            Self::NobodyReads => f.write_str("nobody reads the output any more"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::Failed(error.message)
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Of printing: everything else names its file, see [`Failure::of_file`].
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::NobodyReads,
            _ => Self::Failed(format!("cannot print: {error}")),
        }
    }
}
