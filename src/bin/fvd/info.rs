//! `fvd info`: what an image is.

use std::io::{Result as Printed, Write};

use fvd::format::header::Header;
use fvd::image::Info;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::open::{For, OpenArgs};
use crate::units::human;

/// Say what an image is
#[derive(clap::Args)]
pub(crate) struct Args {
    /// As JSON: the header as the format spells it, numbers in bytes
    #[arg(long)]
    json: bool,
    /// Look even while somebody writes to the image; what is seen may be half written
    #[arg(short = 'U', long)]
    unlocked: bool,
    #[command(flatten)]
    open: OpenArgs,
    /// The image
    file: String,
}

impl Args {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let purpose = if self.unlocked {
            For::Peeking
        } else {
            For::Inspecting
        };
        let image = self.open.open(&self.file, purpose)?;
        let info = image.info();
        if self.json {
            writeln!(out, "{:#}", as_json(&self.file, &info))?;
        } else {
            writeln!(out, "image: {}", self.file)?;
            print(&info, out)?;
        }
        Ok(image.close()?)
    }
}

fn as_json(file: &str, info: &Info) -> Value {
    json!({
        "file": file,
        "format": "fvd",
        "virtual_size": info.header.virtual_disk_size,
        "data_length": info.data_length,
        "blocks": info.geometry.blocks.map(|blocks| blocks.count),
        "present_blocks": info.geometry.blocks.map(|_| info.present_blocks),
        "chunks": info.geometry.chunks.map(|chunks| chunks.entries),
        "allocated_chunks": info.geometry.chunks.map(|_| info.allocated_chunks),
        "header": header_json(&info.header),
    })
}

/// Pairs of name and value, for fields whose names in Rust are those of the format.
macro_rules! named {
    ($header:expr; $($field:ident),* $(,)?) => {
        [$((stringify!($field), json!($header.$field))),*]
    };
}

/// The header, every field under the name that the format gives it; sizes and offsets in bytes.
fn header_json(header: &Header) -> Value {
    let fields = named![header;
        all_data_in_fvd_img, virtual_disk_size, metadata_size, base_img, base_img_fmt,
        base_img_size, bitmap_offset, bitmap_size, block_size, copy_on_read,
        max_outstanding_copy_on_read_data, data_file, data_file_fmt, prefetch_start_delay,
        prefetch_profile_offset, prefetch_profile_entries, num_prefetch_slots,
        bytes_per_prefetch, prefetch_read_throughput_measure_time,
        prefetch_write_throughput_measure_time, prefetch_perf_calc_alpha,
        prefetch_min_read_throughput, prefetch_min_write_throughput,
        prefetch_max_read_throughput, prefetch_max_write_throughput, prefetch_throttle_time,
        compact_image, table_offset, chunk_size, storage_grow_unit, add_storage_cmd,
        journal_offset, journal_size, clean_shutdown, need_zero_init, generate_prefetch_profile,
        profile_directed_prefetch_start_delay,
    ];
    let others = [
        (
            "unit_of_PrefetchProfileEntry_len",
            json!(header.unit_of_prefetch_profile_entry_len),
        ),
        (
            "write_updates_base_img",
            json!(header.write_updates_base_img.name()),
        ),
    ];
    let all = fields.into_iter().chain(others);
    all.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Prints it for people.
pub(crate) fn print(info: &Info, out: &mut dyn Write) -> Printed<()> {
    let size = info.header.virtual_disk_size;
    writeln!(out, "virtual size: {} ({size} bytes)", human(size))?;
    print_base(info, out)?;
    print_data(info, out)?;
    print_shutdown(info, out)
}

fn print_base(info: &Info, out: &mut dyn Write) -> Printed<()> {
    let header = &info.header;
    if header.base_img.is_empty() {
        return writeln!(out, "base image: none");
    }
    let format = if header.base_img_fmt.is_empty() {
        "raw"
    } else {
        &header.base_img_fmt
    };
    write!(out, "base image: {} ({format})", header.base_img)?;
    match info.geometry.blocks {
        None => writeln!(out, ", not needed any more"),
        Some(blocks) => writeln!(
            out,
            " behind the first {}; of {} blocks of {}, {} are in the image",
            human(blocks.base_size),
            blocks.count,
            human(blocks.block_size),
            info.present_blocks
        ),
    }
}

fn print_data(info: &Info, out: &mut dyn Write) -> Printed<()> {
    let length = human(info.data_length);
    match info.header.data_file.as_str() {
        "" => writeln!(out, "file length: {length}")?,
        name => writeln!(out, "data file: {name}, {length} long")?,
    }
    match info.geometry.chunks {
        None => writeln!(out, "layout: flat"),
        Some(chunks) => writeln!(
            out,
            "layout: compact; of {} chunks of {}, {} are allocated; grows by {}",
            chunks.entries,
            human(chunks.chunk_size),
            info.allocated_chunks,
            human(chunks.grow_unit)
        ),
    }
}

fn print_shutdown(info: &Info, out: &mut dyn Write) -> Printed<()> {
    match info.geometry.journal {
        None => writeln!(out, "journal: none")?,
        Some(journal) => writeln!(out, "journal: {}", human(journal.len))?,
    }
    let clean = match (info.header.clean_shutdown, info.geometry.journal) {
        (true, _) => "yes",
        (false, Some(_)) => "no; it is recovered when it is next opened for writing",
        (false, None) => "no",
    };
    writeln!(out, "shut down cleanly: {clean}")
}
