//! `fvd map`: where each part of the disk is.

use std::io::Write;

use fvd::image::{MapPiece, MapState};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::open::{For, OpenArgs};

/// Say where each part of the disk is
#[derive(clap::Args)]
pub(crate) struct Args {
    /// As JSON: numbers are bytes
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    open: OpenArgs,
    /// The image
    file: String,
}

impl Args {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let image = self.open.open(&self.file, For::Inspecting)?;
        let pieces = image.map(0, image.virtual_size());
        if self.json {
            let pieces: Vec<Value> = pieces.iter().map(as_json).collect();
            writeln!(out, "{:#}", Value::from(pieces))?;
        } else {
            writeln!(out, "{:>16} {:>16}  what", "start", "length")?;
            for piece in &pieces {
                writeln!(
                    out,
                    "{:>16} {:>16}  {}",
                    piece.start,
                    piece.len,
                    what(piece)
                )?;
            }
        }
        Ok(image.close()?)
    }
}

fn state(piece: &MapPiece) -> &'static str {
    match (piece.state, piece.depth) {
        (MapState::Zero, _) => "zero",
        (MapState::Lost, _) => "lost",
        (MapState::Data { .. }, 0) => "data",
        (MapState::Data { .. }, _) => "base",
    }
}

fn as_json(piece: &MapPiece) -> Value {
    let mut object = json!({
        "start": piece.start,
        "length": piece.len,
        "state": state(piece),
        "depth": piece.depth,
    });
    if let MapState::Data { offset } = piece.state {
        object["offset"] = offset.into();
        object["file"] = piece.file.clone().into();
    }
    object
}

fn what(piece: &MapPiece) -> String {
    match (piece.state, &piece.file) {
        (MapState::Data { offset }, Some(file)) => format!("{} {offset} of {file}", state(piece)),
        _ => state(piece).to_owned(),
    }
}
