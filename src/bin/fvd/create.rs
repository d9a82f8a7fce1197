//! `fvd create`: a new image, alone or over a base.

use std::io::Write;

use fvd::format::options::{CREATE_OPTIONS, CreateOptions};
use fvd::image::Image;

use crate::failure::Failure;
use crate::open::{For, OpenArgs, host};
use crate::units::{human, list_options, size};

/// Make an image; what was in FILE is lost
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Name of the base image, as it is seen from FILE's folder
    #[arg(short = 'b', value_name = "BASE")]
    base: Option<String>,
    /// Format of the base image: raw or fvd [default: raw]
    #[arg(short = 'F', value_name = "FMT", requires = "base")]
    base_format: Option<String>,
    #[command(flatten)]
    options: OptionArgs,
    /// The file to make
    #[arg(required_unless_present = "options")]
    file: Option<String>,
    /// Size of the disk, as in 10G; without it that of the base
    #[arg(value_parser = size)]
    size: Option<u64>,
}

/// `-o`, of the verbs that make an image.
#[derive(clap::Args)]
pub(crate) struct OptionArgs {
    /// Options of the new image; `-o help` lists them
    #[arg(short = 'o', id = "options", value_name = "NAME=VALUE,...", value_parser = checked)]
    texts: Vec<String>,
}

/// The text, if it is a list of options or asks for the list of all.
fn checked(text: &str) -> Result<String, String> {
    if text != "help" {
        CreateOptions::parse(text).map_err(|error| error.to_string())?;
    }
    Ok(text.to_owned())
}

impl OptionArgs {
    /// True where nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// The options; `None` where help was asked for, which is now printed.
    pub(crate) fn parse(&self, out: &mut dyn Write) -> Result<Option<CreateOptions>, Failure> {
        if self.texts.iter().any(|text| text == "help") {
            list_options(out, CREATE_OPTIONS)?;
            return Ok(None);
        }
        Ok(Some(CreateOptions::parse(&self.texts.join(","))?))
    }
}

impl Args {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let Some(mut options) = self.options.parse(out)? else {
            return Ok(());
        };
        let Some(file) = self.file else {
            return Err(Failure::Usage("create: FILE is missing".to_owned()));
        };
        options.size = self.size.or(options.size);
        options.backing_file = self.base.or(options.backing_file);
        options.backing_fmt = self.base_format.unwrap_or(options.backing_fmt);
        if options.size.is_none() && options.backing_file.is_none() {
            let message = "create: SIZE is missing, and there is no base image to take it from";
            return Err(Failure::Usage(message.to_owned()));
        }
        Image::create(&host(), &file, &options)?;
        let kind = if options.compact_image {
            "compact image"
        } else {
            "image"
        };
        let size = options
            .size
            .map_or("the size of its base".to_owned(), human);
        writeln!(out, "{file}: a new {kind} of {size}")?;
        // Who names a base elsewhere would otherwise be told only when the image is first used.
        if let Err(failure) = OpenArgs::default().open(&file, For::Reading) {
            writeln!(out, "note: {failure}")?;
        }
        Ok(())
    }
}
