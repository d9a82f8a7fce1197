//! `fvd update`: change attributes of an image that exists.

use std::io::Write;

use fvd::format::attributes::{Attribute, UPDATE_ATTRIBUTES};
use fvd::image::Image;

use crate::failure::Failure;
use crate::open::{For, OpenArgs, host};
use crate::units::list_options;

/// Change attributes of an image; `fvd update help` lists them
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    open: OpenArgs,
    /// The image
    file: String,
    /// What to change
    #[arg(value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<Attribute>,
}

fn attribute(text: &str) -> Result<Attribute, String> {
    Attribute::parse(text).map_err(|error| error.to_string())
}

impl Args {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        if self.attributes.is_empty() {
            if self.file == "help" {
                return Ok(list_options(out, UPDATE_ATTRIBUTES)?);
            }
            return Err(Failure::Usage("update: NAME=VALUE is missing".to_owned()));
        }
        let options = self.open.options(For::Writing);
        Ok(Image::update(
            &host(),
            &self.file,
            &self.attributes,
            &options,
        )?)
    }
}
