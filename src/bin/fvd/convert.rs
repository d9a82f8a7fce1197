//! `fvd convert`: a disk from one format to another, sparse on both sides.
//!
//! Holes of the source are not read, and pages of zeros are not written, so the result takes no
//! more space than it needs. One buffer goes back and forth: on this host, whose operations block,
//! more requests in flight would only wait for each other.

use std::io::Write;
use std::ops::Range;

use crate::create::OptionArgs;
use crate::disk::{Format, GRAIN, Sink, Source};
use crate::failure::Failure;
use crate::open::OpenArgs;
use crate::units::human;

/// Bytes that are moved at once.
const STEP: u64 = 1 << 20;

/// To compare with.
static ZEROS: [u8; 4096] = [0; 4096];

/// Copy a disk into a new raw file or image
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Format of the copy
    #[arg(short = 'O', value_name = "FMT")]
    to: Format,
    /// Format of SRC [default: fvd if it begins with the magic of one, else raw]
    #[arg(short = 'f', value_name = "FMT")]
    from: Option<Format>,
    #[command(flatten)]
    options: OptionArgs,
    #[command(flatten)]
    open: OpenArgs,
    /// The disk to read
    #[arg(value_name = "SRC", required_unless_present = "options")]
    source: Option<String>,
    /// The file to make; what was in it is lost
    #[arg(value_name = "DST", required_unless_present = "options")]
    destination: Option<String>,
}

impl Args {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let Some(mut options) = self.options.parse(out)? else {
            return Ok(());
        };
        let (Some(source), Some(destination)) = (&self.source, &self.destination) else {
            return Err(Failure::Usage("convert: SRC or DST is missing".to_owned()));
        };
        if self.to == Format::Raw && !self.options.is_empty() {
            return Err(Failure::Usage(
                "convert: -o is for -O fvd; a raw file has none".to_owned(),
            ));
        }
        if options.backing_file.is_some() {
            let message = "convert: backing_file cannot be given: the copy holds the whole disk";
            return Err(Failure::Usage(message.to_owned()));
        }
        let format = self.from.map_or_else(|| Format::probe(source), Ok)?;
        let source = Source::open(source, format, &self.open)?;
        let size = *options.size.get_or_insert(source.size());
        if size < source.size() {
            let message = format!(
                "convert: size={size} is less than the {} of SRC",
                source.size()
            );
            return Err(Failure::Usage(message));
        }
        let sink = match self.to {
            Format::Raw => Sink::raw(destination, size)?,
            Format::Fvd => Sink::fvd(destination, &options)?,
        };
        let copied = copy(&source, &sink).and_then(|copied| sink.finish().map(|()| copied));
        let copied = copied.map_err(|failure| {
            Failure::Failed(format!(
                "{failure}; what is in '{destination}' now is incomplete"
            ))
        })?;
        source.close()?;
        writeln!(
            out,
            "{destination}: a disk of {}, {} of it copied",
            human(size),
            human(copied)
        )?;
        Ok(())
    }
}

/// Copies what is not zero, and says how many bytes that was.
pub(crate) fn copy(source: &Source, sink: &Sink) -> Result<u64, Failure> {
    let mut buffer = vec![0; usize::try_from(STEP).expect("a step fits into memory")];
    let (mut at, mut copied) = (0, 0);
    while let Some(run) = source.next_data(at)? {
        at = run.start.max(at);
        while at < run.end {
            let len = STEP.min(run.end - at);
            // A raw disk may end within a sector; the rest of that sector is zero.
            let sectors = usize::try_from(len.next_multiple_of(512)).expect("at most a step");
            let bytes = &mut buffer[..sectors];
            source.read(at, bytes)?;
            for part in filled(bytes) {
                copied += part.len() as u64;
                sink.write(at + part.start as u64, &bytes[part])?;
            }
            at += len;
        }
    }
    Ok(copied)
}

/// The runs of grains that are not all zeros.
fn filled(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    let grain = usize::try_from(GRAIN).expect("a grain fits into memory");
    for (index, piece) in bytes.chunks(grain).enumerate() {
        if *piece == ZEROS[..piece.len()] {
            continue;
        }
        let start = index * grain;
        match runs.last_mut().filter(|run| run.end == start) {
            Some(run) => run.end += piece.len(),
            None => runs.push(start..start + piece.len()),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_grains_that_hold_something_are_found_and_joined() {
        let mut bytes = vec![0; 5 * 4096 + 512];
        assert_eq!(filled(&bytes), []);
        bytes[4096] = 1;
        bytes[3 * 4096 - 1] = 1;
        bytes[5 * 4096 + 511] = 1;
        assert_eq!(filled(&bytes), [4096..3 * 4096, 5 * 4096..5 * 4096 + 512]);
    }
}
