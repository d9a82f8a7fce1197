//! Close: a checkpoint, an empty journal, and last of all the word that all is well.
//!
//! ```text
//!   trim ──▶ checkpoint ──▶ zero every record of the journal ──▶ flush
//!        ──▶ clean_shutdown = 1 ──▶ flush
//! ```
//!
//! What the storage grew by and nobody wrote is trimmed, so that the next session finds no chunk
//! there that it had to zero; where the trim is lost, it lost zeros.
//!
//! Cut anywhere, the image is recovered at its next open; records that were not zeroed yet say what
//! table and bitmap say already. After a failed flush nothing is written: the next open recovers.

use std::rc::Rc;

use crate::format::header::Field;
use crate::host::Severity;

use super::canary::{Canary, planted};
use super::commit::flush_or_stop;
use super::core::Core;
use super::error::Result;
use super::header::write_field;

impl Core {
    /// Brings the image to rest. No request may be under way.
    ///
    /// # Errors
    /// A flush that failed, now or before, or metadata that could not be written: what completed
    /// flushes covered is safe, and the next open recovers it.
    pub(crate) async fn shut_down(self: &Rc<Self>) -> Result<()> {
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
        self.trim().await;
        self.checkpoint().await?;
        self.empty_journal().await?;
        self.say_clean().await
    }

    /// Gives back what the storage grew by and nobody wrote; where that fails, it stays.
    async fn trim(&self) {
        let Some(table) = &self.layer.table else {
            return;
        };
        let data = &self.layer.data;
        let untouched = u64::from(self.allocator.borrow().untouched_from());
        let end = data.start.get() + untouched * table.chunks.chunk_size;
        if data.file.is_device || data.length.get() <= end || self.check_not_failed().is_err() {
            return;
        }
        match data.file.truncate(end).await {
            Ok(()) => self.committer.data_written(),
            Err(error) => self.executor.log(Severity::Warning, error.to_string()),
        }
    }

    async fn empty_journal(&self) -> Result<()> {
        let reached = self
            .committer
            .journal
            .borrow()
            .as_ref()
            .map(|journal| journal.reached());
        let Some(range) = reached.filter(|range| !range.is_empty()) else {
            return Ok(());
        };
        self.layer.metadata.write_zeroes(range).await?;
        flush_or_stop(self, &self.layer.metadata).await
    }

    /// Where there is a journal, its flag says whether it must be replayed; elsewhere it stays as
    /// it was found.
    async fn say_clean(&self) -> Result<()> {
        if self.layer.geometry.journal.is_none() {
            return Ok(());
        }
        let mut header = self.header.borrow().clone();
        header.clean_shutdown = true;
        write_field(&self.layer.metadata, &header, Field::CleanShutdown).await?;
        flush_or_stop(self, &self.layer.metadata).await?;
        *self.header.borrow_mut() = header;
        Ok(())
    }
}
