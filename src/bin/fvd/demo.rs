//! `fvd demo`: the main job from beginning to end, on real files, in a few seconds.
//!
//! A base image with a real ext4 file system is made, and an image over it that starts with
//! nothing but metadata. A guest's work on it is played: the sector writes that turn the file
//! system into a later version of itself, in an order that no file system would promise, and
//! random writes behind its end. Then the image is closed, opened again and compared sector by
//! sector with what was written, converted to a raw disk, and its file system checked by `e2fsck`.
//! Where e2fsprogs is missing, a pattern stands in for the file system.

mod ext4;
mod guest;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use fvd::format::options::CreateOptions;
use fvd::image::Image;

use crate::convert;
use crate::disk::{Format, Sink, Source};
use crate::failure::Failure;
use crate::open::{For, OpenArgs, host};
use crate::units::human;
use guest::{Model, SECTOR, allocated};

/// Bytes of the base image.
const BASE_SIZE: usize = 32 << 20;

/// Bytes of the disk over it.
const DISK_SIZE: usize = 64 << 20;

/// What the image over the base is like.
const OPTIONS: &str = "size=64M,compact_image=on,chunk_size=256K,block_size=4K,backing_fmt=raw";

/// Writes between two flushes.
const WRITES_PER_FLUSH: usize = 200;

/// Show on real files what this is for
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Work in this new folder, and leave it behind to look at
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
}

impl Args {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let kept = self.keep.is_some();
        let scratch = format!("fvd-demo-{}", std::process::id());
        let folder = self
            .keep
            .unwrap_or_else(|| std::env::temp_dir().join(scratch));
        std::fs::create_dir(&folder).map_err(|error| of_path(&folder, &error))?;
        let done = Demo {
            folder: &folder,
            out,
            has_file_system: false,
        }
        .run();
        if !kept {
            // Nothing of the demonstration is left to tell about; a failure comes first.
            let removed = std::fs::remove_dir_all(&folder);
            return done.and_then(|()| removed.map_err(|error| of_path(&folder, &error)));
        }
        done
    }
}

fn of_path(path: &Path, error: &std::io::Error) -> Failure {
    Failure::of_file(&path.to_string_lossy(), error)
}

/// One run, in its folder.
struct Demo<'a> {
    folder: &'a Path,
    out: &'a mut dyn Write,
    /// What the base image holds is one, rather than a pattern.
    has_file_system: bool,
}

impl Demo<'_> {
    fn run(&mut self) -> Result<(), Failure> {
        let start = Instant::now();
        let mut model = Model::new(self.make_base()?, DISK_SIZE);
        self.create()?;
        self.use_it(&mut model)?;
        self.verify(&model)?;
        self.convert(&model)?;
        let seconds = start.elapsed().as_secs_f64();
        writeln!(self.out, "All as it should be, in {seconds:.1} s.")?;
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).to_string_lossy().into_owned()
    }

    /// Makes the base image; its content.
    fn make_base(&mut self) -> Result<Vec<u8>, Failure> {
        let path = self.folder.join("base.raw");
        self.has_file_system = ext4::make(self.folder, &path, BASE_SIZE)?;
        let what = if self.has_file_system {
            "an ext4 file system made by mkfs.ext4"
        } else {
            let pattern = guest::pattern(1, BASE_SIZE);
            std::fs::write(&path, pattern).map_err(|error| of_path(&path, &error))?;
            "a pattern (mkfs.ext4 is missing: install e2fsprogs for a real file system)"
        };
        writeln!(self.out, "base.raw: {}, {what}", human(BASE_SIZE as u64))?;
        std::fs::read(&path).map_err(|error| of_path(&path, &error))
    }

    fn create(&mut self) -> Result<(), Failure> {
        let mut options = CreateOptions::parse(OPTIONS)?;
        options.backing_file = Some("base.raw".to_owned());
        let start = Instant::now();
        Image::create(&host(), &self.path("disk.fvd"), &options)?;
        let (size, ms) = (human(DISK_SIZE as u64), start.elapsed().as_millis());
        writeln!(
            self.out,
            "disk.fvd: {size} over base.raw, compact; created in {ms} ms"
        )?;
        Ok(())
    }

    /// Writes as a guest would, in the image and in the model.
    fn use_it(&mut self, model: &mut Model) -> Result<(), Failure> {
        let later = if self.has_file_system {
            ext4::change(self.folder)?
        } else {
            guest::overwritten(model.bytes(), BASE_SIZE)
        };
        let mut writes = guest::difference(model.bytes(), &later);
        let of_file_system = writes.len();
        writes.extend(guest::random_writes(BASE_SIZE..DISK_SIZE, 500));
        guest::shuffle(&mut writes);
        let start = Instant::now();
        let image = OpenArgs::default().open(&self.path("disk.fvd"), For::Writing)?;
        let mut flushes = 0;
        for batch in writes.chunks(WRITES_PER_FLUSH) {
            for write in batch {
                image.write_at(write.offset as u64, &write.bytes)?;
                model.write(write);
            }
            image.flush()?;
            flushes += 1;
        }
        image.close()?;
        let bytes: usize = writes.iter().map(|write| write.bytes.len()).sum();
        let (ms, size) = (start.elapsed().as_millis(), human(bytes as u64));
        writeln!(
            self.out,
            "used: {of_file_system} writes of a file system and {} random ones, shuffled: {size} \
             with {flushes} flushes in {ms} ms",
            writes.len() - of_file_system
        )?;
        let taken = allocated(&self.folder.join("disk.fvd"))?;
        writeln!(
            self.out,
            "disk.fvd now takes {} on this file system",
            human(taken)
        )?;
        Ok(())
    }

    /// Opens the image again and compares every sector.
    fn verify(&mut self, model: &Model) -> Result<(), Failure> {
        let image = OpenArgs::default().open(&self.path("disk.fvd"), For::Reading)?;
        let mut bytes = vec![0; DISK_SIZE];
        image.read_at(0, &mut bytes)?;
        image.close()?;
        model.compare(&bytes)?;
        let sectors = DISK_SIZE / SECTOR;
        writeln!(
            self.out,
            "verified: opened again, {sectors} sectors read, each as it was written"
        )?;
        Ok(())
    }

    /// Converts the image to a raw disk, compares that, and has its file system checked.
    fn convert(&mut self, model: &Model) -> Result<(), Failure> {
        let path = self.folder.join("disk.raw");
        let format = Format::Fvd;
        let source = Source::open(&self.path("disk.fvd"), format, &OpenArgs::default())?;
        let sink = Sink::raw(&self.path("disk.raw"), source.size())?;
        let copied = convert::copy(&source, &sink)?;
        sink.finish()?;
        source.close()?;
        model.compare(&std::fs::read(&path).map_err(|error| of_path(&path, &error))?)?;
        let verdict = if self.has_file_system {
            ext4::check(&path)?;
            "e2fsck -fn finds its file system clean"
        } else {
            "there is no file system to check"
        };
        writeln!(
            self.out,
            "converted: disk.raw, {} copied; {verdict}",
            human(copied)
        )?;
        Ok(())
    }
}
