//! Open: from a name to an engine that takes requests.
//!
//! First everything is read and checked: the image's metadata, its data file, its base images down the chain. Only then
//! is anything written ([`recovery`](super::recovery)), so an open that fails leaves the image as
//! it was.

use std::cell::Cell;
use std::rc::Rc;

use crate::format::header::Header;
use crate::format::limits::MAX_BASE_DEPTH;
use crate::format::units::{SECTOR, round_up};
use crate::host::{Access, OpenRequest, Role, Severity};

use super::allocator::Allocator;
use super::core::{Config, Core};
use super::error::{Error, ErrorKind, Result};
use super::extents::{Backing, DataFile, Layer};
use super::file::File;
use super::load::{Loaded, Shutdown, load};
pub use super::names::Follow;
use super::names::follow;
use super::recovery::make_writable;
use super::task::Executor;

/// How to open an image.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// No write is allowed, and nothing is written, not even to recover.
    pub read_only: bool,
    /// Opens, read-only, what a guest may not have: a crashed image without a journal, one that lost
    /// chunks, one whose base became too short.
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
        }
    }
}

impl OpenOptions {
    fn is_read_only(&self) -> bool {
        self.read_only || self.tools || self.unlocked
    }

    fn access(&self) -> Access {
        match (self.unlocked, self.is_read_only()) {
            (true, _) => Access::ReadUnlocked,
            (false, true) => Access::ReadOnly,
            (false, false) => Access::ReadWrite,
        }
    }

    /// How the image's base is opened, and the bases below it.
    fn for_base(&self) -> Self {
        Self {
            read_only: true,
            base: None,
            ..self.clone()
        }
    }
}

/// Opens the image `name`.
///
/// # Errors
/// What the host says of a file; an image that breaks a rule of the format, or asks for what `options` do
/// not allow; an image that only tools may open.
pub async fn open(executor: Rc<Executor>, name: String, options: OpenOptions) -> Result<Rc<Core>> {
    let request = metadata_request(&name, Role::Metadata, options.access());
    let loaded = load(&executor, request, |bytes| Ok(Header::decode(bytes)?)).await?;
    let shutdown = loaded.shutdown;
    let mut header = loaded.header.clone();
    let layer = layer_of(&executor, loaded, &options, 0).await?;
    let config = Config {
        read_only: options.is_read_only(),
        write_through: options.write_through,
        fast_path: options.fast_path,
    };
    let mut allocator = Allocator::default();
    if !config.read_only {
        make_writable(&layer, &mut header, shutdown).await?;
        allocator = free_chunks(&layer).await?;
    }
    let core = Core::new(executor, layer, header, config, allocator);
    if let Shutdown::Crashed { journal_reach } = shutdown {
        core.committer.found_records(journal_reach);
    }
    Ok(Rc::new(core))
}

pub(super) fn metadata_request(name: &str, role: Role, access: Access) -> OpenRequest {
    OpenRequest {
        role,
        name: name.to_owned(),
        beneath: None,
        access,
    }
}

/// Adds data file and base image to an image's metadata, and checks that they fit.
async fn layer_of(
    executor: &Rc<Executor>,
    loaded: Loaded,
    options: &OpenOptions,
    depth: usize,
) -> Result<Layer> {
    let data = open_data(executor, &loaded, options, depth).await?;
    let backing = open_backing(executor, &loaded, options, depth).await?;
    let Loaded {
        file,
        header,
        geometry,
        bitmap,
        table,
        shutdown,
    } = loaded;
    let layer = Layer {
        geometry,
        bitmap,
        table,
        metadata: file,
        data,
        backing,
    };
    let objections = [
        unrecoverable(&layer, &header, shutdown),
        short_data(&layer),
        lost_chunks(&layer),
    ];
    for objection in objections.into_iter().flatten() {
        let message = format!("'{}': {objection}", layer.metadata.name());
        if !options.tools {
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        executor.log(Severity::Warning, message);
    }
    Ok(layer)
}

async fn open_data(
    executor: &Rc<Executor>,
    loaded: &Loaded,
    options: &OpenOptions,
    depth: usize,
) -> Result<DataFile> {
    let Loaded {
        file,
        header,
        geometry,
        ..
    } = loaded;
    let data = match header.data_file.as_str() {
        "" => Rc::clone(file),
        name => {
            require_raw(file.name(), "data_file_fmt", &header.data_file_fmt)?;
            let named = follow(file.name(), "data_file", name, options.follow)?;
            let role = if depth == 0 { Role::Data } else { Role::Base };
            let access = options.access();
            let request = OpenRequest {
                role,
                name: named.name,
                beneath: named.beneath,
                access,
            };
            Rc::new(File::open(executor, request).await?)
        }
    };
    let length = Cell::new(data.length_at_open);
    Ok(DataFile {
        file: data,
        start: geometry.data_start(),
        length,
    })
}

async fn open_backing(
    executor: &Rc<Executor>,
    loaded: &Loaded,
    options: &OpenOptions,
    depth: usize,
) -> Result<Option<Backing>> {
    let Loaded {
        file,
        header,
        geometry,
        ..
    } = loaded;
    let Some(blocks) = &geometry.blocks else {
        return Ok(None);
    };
    if depth == MAX_BASE_DEPTH {
        let message = format!("'{}': base images are more than {depth} deep", file.name());
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let request = base_request(file.name(), header, options)?;
    let backing = open_base(executor, request, &header.base_img_fmt, options, depth).await?;
    let size = round_up(backing.size(), SECTOR);
    if size < blocks.base_size {
        let message = format!(
            "'{}': its base image '{}' has {size} bytes now, and had {} when the image was made",
            file.name(),
            header.base_img,
            blocks.base_size
        );
        if !options.tools {
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        executor.log(Severity::Warning, message);
    }
    Ok(Some(backing))
}

fn base_request(image: &str, header: &Header, options: &OpenOptions) -> Result<OpenRequest> {
    let (name, beneath) = match &options.base {
        Some(name) => (name.clone(), None),
        None => {
            let named = follow(image, "base_img", &header.base_img, options.follow)?;
            (named.name, named.beneath)
        }
    };
    let access = options.for_base().access();
    Ok(OpenRequest {
        role: Role::Base,
        name,
        beneath,
        access,
    })
}

/// Opens a base image of the format `fmt`, with whatever is below it.
pub(super) async fn open_base(
    executor: &Rc<Executor>,
    request: OpenRequest,
    fmt: &str,
    options: &OpenOptions,
    depth: usize,
) -> Result<Backing> {
    if fmt != "fvd" {
        require_raw(&request.name, "base_img_fmt", fmt)?;
        return Ok(Backing::Raw(Rc::new(File::open(executor, request).await?)));
    }
    let loaded = load(executor, request, |bytes| Ok(Header::decode(bytes)?)).await?;
    let options = options.for_base();
    let layer = Box::pin(layer_of(executor, loaded, &options, depth + 1)).await?;
    Ok(Backing::Layer(Box::new(layer)))
}

fn require_raw(file: &str, field: &str, fmt: &str) -> Result<()> {
    if matches!(fmt, "" | "raw") {
        return Ok(());
    }
    let what = format!("'{file}': {field} '{fmt}' is not supported");
    Err(Error::new(
        ErrorKind::Invalid,
        format!("{what}; convert the file to raw"),
    ))
}

/// A crashed image without a journal may be wrong.
fn unrecoverable(layer: &Layer, header: &Header, shutdown: Shutdown) -> Option<String> {
    let has_metadata = layer.table.is_some() || layer.bitmap.is_some();
    (shutdown == Shutdown::NoJournal && !header.clean_shutdown && has_metadata).then(|| {
        let what = "was not shut down cleanly and has no journal, so its metadata may be wrong";
        format!("{what}; check it, then allow it with `fvd update clean_shutdown=on`")
    })
}

/// The data of a flat image does not fit its device.
fn short_data(layer: &Layer) -> Option<String> {
    let data = &layer.data;
    let needed = data.start.get() + layer.geometry.virtual_size;
    let too_short = layer.table.is_none() && data.file.is_device && data.length.get() < needed;
    too_short.then(|| {
        let (name, length) = (data.file.name(), data.length.get());
        format!("the device '{name}' has {length} bytes, and the image needs {needed}")
    })
}

/// Entries that point past the end of the data file.
fn lost_chunks(layer: &Layer) -> Option<String> {
    let (table, chunks) = layer.chunks()?;
    let place = |number| {
        chunks
            .offset_of(number, layer.data.start)
            .map_or(u64::MAX, |at| at.get())
    };
    let is_lost = |number: &u32| place(*number) >= layer.data.length.get();
    let lost = (0..chunks.entries)
        .filter_map(|i| table.get(i))
        .filter(is_lost)
        .count();
    (lost > 0).then(|| {
        let name = layer.data.file.name();
        format!("{lost} chunks lie past the end of '{name}': data was lost; open it read-only")
    })
}

/// Finds the free chunks. Behind the last one that is named a file is cut, so that what lay there is
/// gone and new chunks need no zeroing.
async fn free_chunks(layer: &Layer) -> Result<Allocator> {
    let Some((table, chunks)) = layer.chunks() else {
        return Ok(Allocator::default());
    };
    let numbers: Vec<u32> = (0..chunks.entries).filter_map(|i| table.get(i)).collect();
    let data = &layer.data;
    if data.file.is_device {
        return Ok(Allocator::new(numbers, u32::MAX));
    }
    let next = numbers.iter().max().map_or(0, |highest| highest + 1);
    let end = data.start.get() + u64::from(next) * chunks.chunk_size;
    if data.length.get() > end {
        data.file.truncate(end).await?;
        data.file.flush().await?;
        data.length.set(end);
    }
    Ok(Allocator::new(numbers, next))
}
