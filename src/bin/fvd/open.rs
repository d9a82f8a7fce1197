//! The arguments of every verb that opens an image.

use std::rc::Rc;

use clap::ValueEnum;
use fvd::host::Host;
use fvd::host::file::FileHost;
use fvd::{Follow, Image, OpenOptions};

use crate::failure::Failure;

/// How an image is opened.
#[derive(clap::Args, Default)]
pub(crate) struct OpenArgs {
    /// Take FILE as base image, whatever the image names
    #[arg(long, value_name = "FILE")]
    base: Option<String>,
    /// Which files an image may name: none, those in its own folder, or any
    #[arg(long, value_name = "WHAT", default_value = "same-dir")]
    follow: FollowArg,
    /// When a write is done: once it is written, or once it is durable
    #[arg(long, value_name = "MODE", default_value = "writeback")]
    cache: Cache,
}

/// `--follow`
#[derive(Clone, Copy, Default, ValueEnum)]
enum FollowArg {
    None,
    #[default]
    SameDir,
    Any,
}

/// `--cache`
#[derive(Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Cache {
    #[default]
    Writeback,
    Writethrough,
}

/// What a verb wants to do with the image it opens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Reading and writing, as a guest does.
    Writing,
    /// Reading as a guest does.
    Reading,
    /// Reading whatever can still be read, as tools may.
    Inspecting,
    /// As `Inspecting`, even while somebody writes to it.
    Peeking,
}

impl OpenArgs {
    /// The library's options.
    pub(crate) fn options(&self, purpose: For) -> OpenOptions {
        OpenOptions {
            read_only: purpose != For::Writing,
            tools: matches!(purpose, For::Inspecting | For::Peeking),
            unlocked: purpose == For::Peeking,
            base: self.base.clone(),
            follow: match self.follow {
                FollowArg::None => Follow::None,
                FollowArg::SameDir => Follow::SameDir,
                FollowArg::Any => Follow::Any,
            },
            write_through: self.cache == Cache::Writethrough,
            ..OpenOptions::default()
        }
    }

    /// Opens the image `name`.
    pub(crate) fn open(&self, name: &str, purpose: For) -> Result<Image, Failure> {
        Ok(Image::open(&host(), name, &self.options(purpose))?)
    }
}

/// A host on real files, which prints its messages.
pub(crate) fn host() -> Rc<dyn Host> {
    Rc::new(FileHost::new())
}
