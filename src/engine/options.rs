//! How an image is opened.

use crate::format::argument::{Argument, OptionInfo, OptionKind, row, split};
use crate::format::error::FormatError;
use crate::host::Access;

pub use super::names::Follow;

/// How to open an image.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// No write is allowed, and nothing is written, not even to recover.
    pub read_only: bool,
    /// Opens, read-only, what a guest may not have: a crashed image without a journal, one that
    /// lost chunks, one whose base became too short.
    pub tools: bool,
    /// Opens read-only whoever else has the image open; what it shows may be half written.
    pub unlocked: bool,
    /// The base image, in place of the one that the header names.
    pub base: Option<String>,
    /// How far names inside the image are followed.
    pub follow: Follow,
    /// `cache=writethrough`: every write is durable before it completes.
    pub write_through: bool,
    /// Off, every request becomes a task: for tests.
    pub fast_path: bool,
    /// Only so many sectors of the journal are used: for tests.
    pub journal_limit: Option<u64>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            tools: false,
            unlocked: false,
            base: None,
            follow: Follow::default(),
            write_through: false,
            fast_path: true,
            journal_limit: None,
        }
    }
}

/// What [`OpenOptions::parse`] takes.
pub const OPEN_OPTIONS: &[OptionInfo] = &[
    row(
        "read_only",
        OptionKind::Bool,
        "no write is allowed, and nothing is written",
        "off",
    ),
    row(
        "tools",
        OptionKind::Bool,
        "read-only, and also what a guest may not have",
        "off",
    ),
    row(
        "unlocked",
        OptionKind::Bool,
        "read-only, whoever else has the image open",
        "off",
    ),
    row(
        "base",
        OptionKind::Text,
        "the base image, in place of the one in the header",
        "",
    ),
    row(
        "follow",
        FOLLOW,
        "how far names inside the image are followed",
        "same-dir",
    ),
    row(
        "cache",
        CACHE,
        "writethrough: each write is durable when it completes",
        "writeback",
    ),
    row(
        "fastpath",
        OptionKind::Bool,
        "off: every request takes the long way; for tests",
        "on",
    ),
];

const FOLLOW: OptionKind = OptionKind::Choice(&["none", "same-dir", "any"]);
const CACHE: OptionKind = OptionKind::Choice(&["writeback", "writethrough"]);

impl OpenOptions {
    /// Reads "name=value,name=value"; of several values of one name, the last holds; ",," stands
    /// for a comma.
    ///
    /// # Errors
    /// A name that is not in [`OPEN_OPTIONS`], or a value that the option does not take.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut options = Self::default();
        for item in split(text) {
            let argument = Argument::parse(&item, OPEN_OPTIONS)?;
            match argument.name {
                "read_only" => options.read_only = argument.bool()?,
                "tools" => options.tools = argument.bool()?,
                "unlocked" => options.unlocked = argument.bool()?,
                "base" => options.base = Some(argument.text()).filter(|name| !name.is_empty()),
                "follow" => {
                    options.follow = match argument.choice()? {
                        "none" => Follow::None,
                        "any" => Follow::Any,
                        _ => Follow::SameDir,
                    }
                }
                "cache" => options.write_through = argument.choice()? == "writethrough",
                "fastpath" => options.fast_path = argument.bool()?,
                name => unreachable!("{name} is listed, but nobody reads it"),
            }
        }
        Ok(options)
    }

    fn is_read_only(&self) -> bool {
        self.read_only || self.tools || self.unlocked
    }

    /// How the image's own files are opened.
    pub(super) fn access(&self) -> Access {
        match (self.unlocked, self.is_read_only()) {
            (true, _) => Access::ReadUnlocked,
            (false, true) => Access::ReadOnly,
            (false, false) => Access::ReadWrite,
        }
    }

    pub(super) fn config(&self) -> Config {
        Config {
            read_only: self.is_read_only(),
            write_through: self.write_through,
            fast_path: self.fast_path,
        }
    }
}

/// What requests need to know of the options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// No write is allowed.
    pub(crate) read_only: bool,
    /// Every write is durable before it completes.
    pub(crate) write_through: bool,
    /// Requests may take the fast path.
    pub(crate) fast_path: bool,
}
