//! The two ends of a conversion: a disk to read and one to fill, each in a raw file or in an image.
//!
//! A new disk reads zeros where nothing is written, so a conversion only has to move the rest.

use std::ops::Range;

use clap::ValueEnum;
use fvd::format::options::CreateOptions;
use fvd::image::{MapPiece, MapState};
use fvd::{Follow, Image, OpenOptions};

use crate::failure::Failure;
use crate::open::{For, OpenArgs, host};
use crate::raw::RawFile;

/// The unit in which zeros are left out: a page, which file systems allocate by.
pub(crate) const GRAIN: u64 = 4096;

/// Bytes of the disk whose map is asked for at once. A run found in it costs one look at all of it.
const MAP_STEP: u64 = 1 << 20;

/// A format of a disk.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Raw,
    Fvd,
}

impl Format {
    /// The format that the file begins like. Only the magic decides, and a user who knows better
    /// says so: a guest can write the magic to the start of its raw disk.
    pub(crate) fn probe(name: &str) -> Result<Self, Failure> {
        let mut first = [0; 512];
        RawFile::open(name)?.read(0, &mut first)?;
        Ok(if Image::probe(&first) {
            Self::Fvd
        } else {
            Self::Raw
        })
    }
}

/// A disk to read.
pub(crate) enum Source {
    Raw(RawFile),
    Fvd(Box<Image>),
}

impl Source {
    /// Opens the disk in the file `name`.
    pub(crate) fn open(name: &str, format: Format, args: &OpenArgs) -> Result<Self, Failure> {
        Ok(match format {
            Format::Raw => Self::Raw(RawFile::open(name)?),
            Format::Fvd => Self::Fvd(Box::new(args.open(name, For::Inspecting)?)),
        })
    }

    /// Bytes of the disk.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Raw(file) => file.length(),
            Self::Fvd(image) => image.virtual_size(),
        }
    }

    /// Reads; what lies past the end of a raw file is zero.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        match self {
            Self::Raw(file) => file.read(offset, bytes),
            Self::Fvd(image) => Ok(image.read_at(offset, bytes)?),
        }
    }

    /// The first run at or behind `from` that may hold something else than zeros. It may begin a
    /// little before that, at a multiple of [`GRAIN`].
    pub(crate) fn next_data(&self, from: u64) -> Result<Option<Range<u64>>, Failure> {
        let run = match self {
            Self::Raw(file) => file.next_data(from)?,
            Self::Fvd(image) => next_run(image, from),
        };
        Ok(run
            .map(|run| run.start / GRAIN * GRAIN..run.end.next_multiple_of(GRAIN).min(self.size())))
    }

    /// Closes it.
    pub(crate) fn close(self) -> Result<(), Failure> {
        match self {
            Self::Raw(_) => Ok(()),
            Self::Fvd(image) => Ok(image.close()?),
        }
    }
}

/// The first run of the map at or behind `from` that is not known to be zeros.
fn next_run(image: &Image, mut from: u64) -> Option<Range<u64>> {
    while from < image.virtual_size() {
        let pieces = image.map(from, MAP_STEP);
        let is_zero = |piece: &&MapPiece| piece.state == MapState::Zero;
        let mut rest = pieces.iter().skip_while(is_zero);
        if let Some(first) = rest.next() {
            let last = rest
                .take_while(|piece| !is_zero(piece))
                .last()
                .unwrap_or(first);
            return Some(first.start..last.start + last.len);
        }
        from += MAP_STEP;
    }
    None
}

/// A disk to fill.
pub(crate) enum Sink {
    Raw { file: RawFile, len: u64 },
    Fvd(Box<Image>),
}

impl Sink {
    /// A raw file, or device, for a disk of `len` bytes.
    pub(crate) fn raw(name: &str, len: u64) -> Result<Self, Failure> {
        Ok(Self::Raw {
            file: RawFile::create(name, len)?,
            len,
        })
    }

    /// A new image.
    pub(crate) fn fvd(name: &str, options: &CreateOptions) -> Result<Self, Failure> {
        let host = host();
        Image::create(&host, name, options)?;
        // Whatever file the new image names, it was named on this command line a moment ago.
        let options = OpenOptions {
            follow: Follow::Any,
            ..OpenOptions::default()
        };
        Ok(Self::Fvd(Box::new(Image::open(&host, name, &options)?)))
    }

    /// Writes whole sectors; the last one may reach past the end of a raw disk, where it is zero.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Raw { file, .. } => file.write(offset, bytes),
            Self::Fvd(image) => Ok(image.write_at(offset, bytes)?),
        }
    }

    /// Makes everything durable and closes the disk.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Raw { file, len } => file.finish(len),
            Self::Fvd(image) => {
                image.flush()?;
                Ok(image.close()?)
            }
        }
    }
}
