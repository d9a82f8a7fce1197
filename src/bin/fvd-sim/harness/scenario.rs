//! What a seed is about: its geometry, its guest, its host, and its troubles.
//!
//! Every number is drawn so that the rare cases are common: sizes that do not divide each other, a
//! journal that is full after a few commits, writes that crowd around a few borders. About half of
//! the seeds know no faults, so that no error can hide behind an injected one.

use fvd::host::sim::{Faults, Knobs, Prng, SECTOR};

/// Where the image and its data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In files that grow.
    Files,
    /// The image on a device with garbage on it.
    Device,
    /// The data in a file of its own.
    DataFile,
    /// The data on a device with garbage on it.
    DataDevice,
}

impl Place {
    /// True if the data is in a file of its own.
    pub(crate) fn has_data_file(self) -> bool {
        matches!(self, Self::DataFile | Self::DataDevice)
    }

    /// True if the data is on a device.
    pub(crate) fn is_device(self) -> bool {
        matches!(self, Self::Device | Self::DataDevice)
    }
}

/// What the image stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// Nothing.
    None,
    /// A raw file of so many bytes.
    Raw(u64),
    /// An FVD image over a raw file of so many bytes.
    Fvd(u64),
}

/// The image's geometry, and how it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) sectors: u64,
    pub(crate) base: Base,
    /// Every so many sectors of the base, a run of zeros; 0: none.
    pub(crate) holes: u64,
    pub(crate) detect_sparse_hole: Option<u64>,
    pub(crate) block_size: u64,
    /// Compact: the size of a chunk.
    pub(crate) chunk_size: Option<u64>,
    pub(crate) grow_unit: u64,
    /// `None`: without.
    pub(crate) journal_size: Option<u64>,
    /// Only so many sectors of the journal are used.
    pub(crate) journal_limit: Option<u64>,
    pub(crate) place: Place,
    pub(crate) write_through: bool,
}

/// What the guest does; likelihoods are per mille.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// So many requests at once at most.
    pub(crate) parallelism: u64,
    /// The largest request, in sectors.
    pub(crate) max_sectors: u64,
    /// Weights of reads, writes, flushes and fetches.
    pub(crate) weights: [u64; 4],
    /// Writes that are durable at once.
    pub(crate) fua: u32,
    /// Writes of zeros.
    pub(crate) zeros: u32,
    /// Steps that cancel a request, one way or the other.
    pub(crate) cancel: u32,
    /// Steps that submit, as long as there is room; the others wait for something to end.
    pub(crate) submit: u32,
    /// Callbacks that submit another request at once.
    pub(crate) nested: u32,
    /// Places that most requests crowd around.
    pub(crate) hot_spots: u64,
    /// Requests after which one of these places is another.
    pub(crate) wander: u32,
    /// Writes that look for a place where nothing was written: there metadata changes.
    pub(crate) fresh: u32,
    /// Requests that begin and end at a border of blocks or chunks.
    pub(crate) aligned: u32,
}

/// What happens to the session; per mille of the steps, or of the occasions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Trouble {
    pub(crate) crash: u32,
    /// Flushes and FUA writes during which the host crashes.
    pub(crate) crash_at_commit: u32,
    /// Of the crashes: kills, where the others are power cuts.
    pub(crate) kill: u32,
    /// Of the recoveries: those that crash again.
    pub(crate) crash_again: u32,
    /// Steps that close the image and open it again.
    pub(crate) reopen: u32,
    /// Of these: the image is let go without a close.
    pub(crate) drop: u32,
    /// Opens before which an attribute is changed.
    pub(crate) change: u32,
    /// Opens before which somebody looks at the image read-only.
    pub(crate) look: u32,
}

/// All that a seed decides before the first step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) layout: Layout,
    pub(crate) mix: Mix,
    pub(crate) knobs: Knobs,
    pub(crate) trouble: Trouble,
    pub(crate) steps: u64,
}

impl Scenario {
    pub(crate) fn draw(rng: &mut Prng) -> Self {
        let layout = Layout::draw(rng);
        let mix = Mix::draw(rng);
        let mut knobs = Knobs::draw(rng);
        if rng.chance(450) {
            knobs.faults = draw_faults(rng);
        }
        let trouble = Trouble::draw(rng);
        let steps = 40 + rng.skewed(1000);
        let drawn = Self {
            layout,
            mix,
            knobs,
            trouble,
            steps,
        };
        if rng.chance(300) {
            drawn.about_commits(rng)
        } else {
            drawn
        }
    }

    /// The same, but all about commits that are cut: scattered small writes into chunks of many
    /// blocks that nobody wrote to before, a flush after a few, and a power cut in the middle of
    /// it.
    fn about_commits(mut self, rng: &mut Prng) -> Self {
        let layout = &mut self.layout;
        layout.base = Base::Raw(layout.sectors * SECTOR as u64);
        layout.block_size = rng.pick(&[512, 1024, 4096]);
        layout.chunk_size = Some(layout.block_size * rng.pick(&[8, 16, 40]));
        layout.journal_size = Some(rng.pick(&[4096, 8192]));
        (layout.detect_sparse_hole, layout.write_through) = (None, false);
        self.mix.weights = [1, 20, rng.pick(&[2, 5]), rng.pick(&[0, 3])];
        self.mix.max_sectors = rng.pick(&[1, 2, 8]);
        self.mix.fua = 0;
        (self.mix.hot_spots, self.mix.wander, self.mix.fresh) = (1, 200, 800);
        self.trouble.crash_at_commit = 500;
        self.trouble.kill = 200;
        self.knobs.faults = Faults::default();
        self.steps = 40 + rng.skewed(200);
        self
    }
}

fn draw_faults(rng: &mut Prng) -> Faults {
    let mut rare = || {
        if rng.chance(500) {
            0
        } else {
            rng.pick(&[1, 3, 10, 40])
        }
    };
    let (read, write, no_space, length) = (rare(), rare(), rare(), rare());
    let flush = if rng.chance(600) {
        0
    } else {
        rng.pick(&[2, 10, 30])
    };
    let (dropped, reverted) = (rng.pick(&[0, 300, 1000]), rng.pick(&[0, 0, 500]));
    Faults {
        read,
        write,
        no_space,
        length,
        flush,
        dropped,
        reverted,
    }
}

impl Layout {
    fn draw(rng: &mut Prng) -> Self {
        let most = rng.pick(&[100 << 10, 200 << 10, 400 << 10, 1 << 20, 4 << 20]);
        let bytes = rng.between(most / 4, most).next_multiple_of(SECTOR as u64);
        let base = draw_base(rng, bytes);
        let chunk_sizes = [4, 8, 12, 16, 20, 64, 128, 256];
        let compact = rng.chance(if base == Base::None { 900 } else { 750 });
        let chunk_size = compact.then(|| rng.pick(&chunk_sizes) << 10);
        let block_sizes = [512, 512, 1024, 2048, 4096, 7680, 15_872, 32_768, 65_536];
        let sparse = !compact && rng.chance(200);
        Self {
            sectors: bytes / SECTOR as u64,
            base,
            holes: if rng.chance(300) {
                rng.between(20, 200)
            } else {
                0
            },
            detect_sparse_hole: sparse.then(|| rng.between(1, 64 << 10)),
            block_size: rng.pick(&block_sizes),
            chunk_size,
            grow_unit: chunk_size.unwrap_or(4096) * rng.pick(&[1, 1, 4, 33]),
            journal_size: rng.pick(&[None, Some(4096), Some(4096), Some(8192), Some(65_536)]),
            journal_limit: rng.pick(&[None, None, Some(2), Some(5)]),
            place: rng.pick(&[
                Place::Files,
                Place::Files,
                Place::DataFile,
                Place::Device,
                Place::DataDevice,
            ]),
            write_through: rng.chance(100),
        }
    }

    /// The text that asks for such an image, whose base is `base`.
    pub(crate) fn create_options(&self, base: Option<(&str, &str)>) -> String {
        let mut text = format!("size={}", self.sectors * SECTOR as u64);
        if let Some((name, format)) = base {
            text += &format!(",backing_file={name},backing_fmt={format}");
            text += &format!(",block_size={}", self.block_size);
        }
        if let (Some(_), Some(bytes)) = (base, self.detect_sparse_hole) {
            text += &format!(",detect_sparse_hole={bytes}");
        }
        if let Some(chunk) = self.chunk_size {
            text += &format!(",compact_image=on,chunk_size={chunk}");
            text += &format!(",storage_grow_unit={}", self.grow_unit);
        }
        if self.place.has_data_file() {
            text += ",data_file=disk.data,data_file_fmt=raw";
        }
        text + &self
            .journal_size
            .map_or(",journal_size=-1".into(), |n| format!(",journal_size={n}"))
    }

    /// The kind of image this is, to count how many kinds were tried.
    pub(crate) fn kind(&self) -> String {
        let base = match self.base {
            Base::None => "none",
            Base::Raw(_) => "raw",
            Base::Fvd(_) => "fvd",
        };
        let block = if self.base == Base::None {
            0
        } else {
            self.block_size
        };
        let (chunk, place, journal) = (self.chunk_size, self.place, self.journal_size);
        let (limit, through) = (self.journal_limit, self.write_through);
        format!("{base} {block} {chunk:?} {place:?} {journal:?} {limit:?} {through}")
    }
}

/// A base that is as long as the disk, shorter, longer, or hardly there, often not in whole blocks
/// or sectors.
fn draw_base(rng: &mut Prng, bytes: u64) -> Base {
    let len = match rng.below(6) {
        0 => bytes,
        1 => bytes + rng.below(10_000),
        2 => rng.between(1, 2000),
        3 => rng.between(1, bytes).next_multiple_of(4096),
        _ => rng.between(1, bytes),
    };
    match rng.below(10) {
        0..2 => Base::None,
        2..8 => Base::Raw(len),
        _ => Base::Fvd(len),
    }
}

impl Mix {
    fn draw(rng: &mut Prng) -> Self {
        Self {
            parallelism: rng.pick(&[1, 2, 4, 8, 16, 32]),
            max_sectors: rng.pick(&[2, 2, 4, 8, 8, 16, 64, 512]),
            weights: [
                rng.between(1, 20),
                rng.between(5, 40),
                rng.pick(&[0, 1, 1, 2, 5]),
                rng.pick(&[0, 0, 1, 5]),
            ],
            fua: rng.pick(&[0, 0, 50, 300]),
            zeros: rng.pick(&[0, 50]),
            cancel: rng.pick(&[0, 0, 10, 60]),
            submit: rng.pick(&[300, 500, 800]),
            nested: rng.pick(&[0, 0, 100]),
            hot_spots: rng.pick(&[1, 1, 2, 6]),
            wander: rng.pick(&[0, 50, 200]),
            fresh: rng.pick(&[0, 300, 800]),
            aligned: rng.pick(&[0, 200, 700]),
        }
    }
}

impl Trouble {
    fn draw(rng: &mut Prng) -> Self {
        Self {
            crash: rng.pick(&[0, 2, 5, 15]),
            crash_at_commit: rng.pick(&[0, 200, 600]),
            kill: rng.pick(&[100, 400, 800]),
            crash_again: rng.pick(&[0, 200, 600]),
            reopen: rng.pick(&[0, 1, 10]),
            drop: rng.pick(&[0, 200]),
            change: rng.pick(&[0, 0, 100]),
            look: rng.pick(&[0, 100, 500]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_scenario_every_time() {
        let draw = |seed| format!("{:?}", Scenario::draw(&mut Prng::new(seed)));
        assert_eq!(draw(5), draw(5));
        assert_ne!(draw(5), draw(6));
    }

    #[test]
    fn seeds_draw_many_kinds_of_images() {
        let kind = |seed| Scenario::draw(&mut Prng::new(seed)).layout.kind();
        let kinds: std::collections::BTreeSet<_> = (0..1000).map(kind).collect();
        assert!(kinds.len() > 500, "{} kinds", kinds.len());
    }
}
