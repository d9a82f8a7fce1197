//! Open: from a name to an engine that takes requests.
//!
//! First everything is read and checked: the image's metadata, its data file, its base images down
//! the chain. Only then is anything written ([`recovery`](super::recovery)), so an open that fails
//! leaves the image as it was.

use std::rc::Rc;

use crate::format::header::Header;
use crate::format::limits::{MAX_BASE_DEPTH, MAX_BITMAP_AND_TABLE};
use crate::host::{Access, OpenRequest, Role};

use super::allocator::Allocator;
use super::commit::Committer;
use super::core::Core;
use super::error::{Error, ErrorKind, Result};
use super::file::File;
use super::journal::Journal;
use super::layer::{Backing, DataFile, Layer};
use super::load::{Loaded, Shutdown, load};
use super::names::{Follow, Named};
use super::objections::object;
use super::options::OpenOptions;
use super::recovery::make_writable;
use super::task::Executor;

/// Opens the image `name`.
///
/// # Errors
/// What the host says of a file; an image that breaks a rule of the format, or asks for what
/// `options` do not allow; an image that only tools may open.
pub(crate) async fn open(
    executor: Rc<Executor>,
    name: String,
    options: OpenOptions,
) -> Result<Rc<Core>> {
    let request = Named::as_given(&name).request(Role::Metadata, options.access());
    let mut chain = Chain::new(&executor, options.clone());
    let loaded = chain.load(request).await?;
    let shutdown = loaded.shutdown;
    let mut header = loaded.header.clone();
    let layer = chain.complete(loaded).await?;
    let config = options.config();
    let mut allocator = Allocator::default();
    if !config.read_only {
        complete_last_chunk(&layer).await?;
        make_writable(&layer, &mut header, shutdown).await?;
        allocator = free_chunks(&layer);
    }
    let committer = Committer::new(layer.geometry.journal.map(|region| {
        let reached = if shutdown == Shutdown::Crashed {
            region.len
        } else {
            0
        };
        Journal::new(region, reached, options.journal_limit)
    }));
    Ok(Rc::new(Core::new(
        executor, layer, header, config, allocator, committer,
    )))
}

/// The way from an image down to its last base, while it is opened.
pub(super) struct Chain {
    executor: Rc<Executor>,
    options: OpenOptions,
    /// How many images are above the one being opened.
    depth: usize,
    /// Bytes that bitmaps and tables further down may take.
    memory: u64,
}

impl Chain {
    pub(super) fn new(executor: &Rc<Executor>, options: OpenOptions) -> Self {
        let executor = Rc::clone(executor);
        Self {
            executor,
            options,
            depth: 0,
            memory: MAX_BITMAP_AND_TABLE,
        }
    }

    /// The chain below an image that does not exist yet; what the bases name is followed as in any
    /// image from a stranger.
    pub(super) fn below_an_image(executor: &Rc<Executor>) -> Self {
        let options = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        Self {
            depth: 1,
            ..Self::new(executor, options)
        }
    }

    async fn load(&mut self, request: OpenRequest) -> Result<Loaded> {
        let decode = |bytes: &[u8]| Ok(Header::decode(bytes)?);
        load(&self.executor, request, &mut self.memory, decode).await
    }

    /// Adds data file and base image to an image's metadata, and checks that they fit.
    async fn complete(&mut self, loaded: Loaded) -> Result<Layer> {
        let role = if self.depth == 0 {
            Role::Data
        } else {
            Role::Base
        };
        let header = loaded.header.clone();
        let (follow, access) = (self.options.follow, self.options.access());
        let data = data_request(loaded.file.name(), &header, follow, role, access)?;
        let data = match data {
            Some(request) => Rc::new(File::open(&self.executor, request).await?),
            None => Rc::clone(&loaded.file),
        };
        let backing = match &loaded.bitmap {
            Some(_) => Some(self.open_backing(loaded.file.name(), &header).await?),
            None => None,
        };
        let shutdown = loaded.shutdown;
        let layer = loaded.with(data, backing);
        object(
            &self.executor,
            &layer,
            &header,
            shutdown,
            self.options.tools,
        )?;
        Ok(layer)
    }

    async fn open_backing(&mut self, image: &str, header: &Header) -> Result<Backing> {
        let named = match self.options.base.take() {
            Some(name) => Named::as_given(&name),
            None => Named::in_header(image, "base_img", &header.base_img, self.options.follow)?,
        };
        self.options.read_only = true;
        self.depth += 1;
        let request = named.request(Role::Base, self.options.access());
        self.open_base(request, &header.base_img_fmt).await
    }

    /// Opens a base image of the format `fmt`, with whatever is below it.
    pub(super) async fn open_base(&mut self, request: OpenRequest, fmt: &str) -> Result<Backing> {
        if fmt != "fvd" {
            require_raw(&request.name, "base_img_fmt", fmt)?;
            return Ok(Backing::Raw(Rc::new(
                File::open(&self.executor, request).await?,
            )));
        }
        if self.depth > MAX_BASE_DEPTH {
            let message = format!(
                "'{}': base images are more than {MAX_BASE_DEPTH} deep",
                request.name
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let loaded = self.load(request).await?;
        Ok(Backing::Layer(Box::new(
            Box::pin(self.complete(loaded)).await?,
        )))
    }
}

/// The request to open the data file that `header` names, if it names one.
pub(super) fn data_request(
    image: &str,
    header: &Header,
    follow: Follow,
    role: Role,
    access: Access,
) -> Result<Option<OpenRequest>> {
    if header.data_file.is_empty() {
        return Ok(None);
    }
    require_raw(image, "data_file_fmt", &header.data_file_fmt)?;
    let named = Named::in_header(image, "data_file", &header.data_file, follow)?;
    Ok(Some(named.request(role, access)))
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

/// Extends a file that ends within the last chunk to that chunk's end, so that all of it can be
/// written.
async fn complete_last_chunk(layer: &Layer) -> Result<()> {
    let Some(table) = &layer.table else {
        return Ok(());
    };
    let DataFile { file, length, .. } = &layer.data;
    let last = table
        .numbers()
        .flatten()
        .max()
        .and_then(|number| table.place_of(number));
    let end = last.map_or(0, |place| place.get() + table.chunks.chunk_size);
    if !file.is_device && length.get() < end {
        file.truncate(end).await?;
        length.set(end);
    }
    Ok(())
}

/// Finds the free chunks. All within the storage may hold old content.
fn free_chunks(layer: &Layer) -> Allocator {
    let Some(table) = &layer.table else {
        return Allocator::default();
    };
    let DataFile {
        file,
        start,
        length,
    } = &layer.data;
    let in_use = length
        .get()
        .saturating_sub(start.get())
        .div_ceil(table.chunks.chunk_size);
    let clean_from = if file.is_device {
        None
    } else {
        u32::try_from(in_use).ok()
    };
    Allocator::new(
        table.numbers().flatten().collect(),
        clean_from.unwrap_or(u32::MAX),
    )
}
