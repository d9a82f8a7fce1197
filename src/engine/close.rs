//! Close: a checkpoint, an empty journal, and last of all the word that all is well.
//!
//! ```text
//!   checkpoint ──▶ zero every record of the journal ──▶ flush ──▶ clean_shutdown = 1 ──▶ flush
//! ```
//!
//! Cut anywhere, the image is recovered at its next open; records that were not zeroed yet say what table and
//! bitmap say already. After a failed flush nothing is written: the next open recovers.

use std::rc::Rc;

use crate::format::header::Field;

use super::canary::{Canary, planted};
use super::commit::flush;
use super::core::Core;
use super::error::Result;
use super::recovery::write_field;

impl Core {
    /// Brings the image to rest. No request may be under way.
    ///
    /// # Errors
    /// A flush that failed, now or before, or metadata that could not be written: what completed flushes
    /// covered is safe, and the next open recovers it.
    pub async fn shut_down(self: &Rc<Self>) -> Result<()> {
        debug_assert_eq!(
            self.requests.live(),
            0,
            "close waits for the requests first"
        );
        if self.config.read_only {
            return Ok(());
        }
        if planted(Canary::CleanBeforeBitmap) {
            self.say_clean().await?;
        }
        self.checkpoint().await?;
        self.empty_journal().await?;
        self.say_clean().await
    }

    async fn empty_journal(&self) -> Result<()> {
        let used = self
            .committer
            .journal
            .borrow()
            .as_ref()
            .map(|j| j.dirty_range());
        let Some(range) = used.filter(|range| !range.is_empty()) else {
            return Ok(());
        };
        self.layer
            .metadata
            .write_zeroes(range.start, range.end - range.start)
            .await?;
        flush(self, &self.layer.metadata).await
    }

    /// Where there is a journal, its flag says whether it must be replayed; elsewhere it stays as it
    /// was found.
    async fn say_clean(&self) -> Result<()> {
        if self.layer.geometry.journal.is_none() {
            return Ok(());
        }
        let mut header = self.header.borrow().clone();
        header.clean_shutdown = true;
        write_field(&self.layer.metadata, &header, Field::CleanShutdown).await?;
        flush(self, &self.layer.metadata).await?;
        *self.header.borrow_mut() = header;
        Ok(())
    }
}
