//! What an earlier run has bound: epochs that are minted again as they were.

use super::journal::BindingReader;
use crate::flow::{Binding, Epoch, Facts};

/// Recorded bindings, and the epoch that they begin with.
#[derive(Debug)]
pub struct Recorded {
    /// The first epoch that is minted.
    pub from: Epoch,
    /// The epoch after the last one that is recorded.
    pub until: Epoch,
    /// The watermark before the first one, milliseconds.
    pub watermark_ms: i64,
    /// At whose end what is kept is dumped.
    pub dump_at: Option<Epoch>,
    bindings: Source,
}

#[derive(Debug)]
enum Source {
    Journal(Box<BindingReader>),
    Memory(std::vec::IntoIter<Binding>),
}

impl Default for Recorded {
    fn default() -> Self {
        Recorded::of(Vec::new())
    }
}

impl Recorded {
    /// Of these bindings, from the beginning on.
    pub fn of(bindings: Vec<Binding>) -> Self {
        let until = bindings.last().map_or(0, |last| last.epoch + 1);
        Recorded {
            from: 0,
            until,
            watermark_ms: i64::MIN,
            dump_at: None,
            bindings: Source::Memory(bindings.into_iter()),
        }
    }

    /// Of a journal, behind the epoch of a cut, if there is one, up to (not with) `until`.
    pub fn in_journal(bindings: BindingReader, cut: Option<Facts>, until: Epoch) -> Self {
        let (from, watermark_ms) = cut.map_or((0, i64::MIN), |facts| (facts.epoch + 1, facts.watermark_ms));
        Recorded { from, until, watermark_ms, dump_at: None, bindings: Source::Journal(Box::new(bindings)) }
    }

    /// Has what is kept dumped at the end of the last one.
    #[must_use]
    pub fn dumping_last(mut self) -> Self {
        self.dump_at = self.until.checked_sub(1);
        self
    }

    /// The next binding; `None` after the last one.
    ///
    /// # Errors
    /// If the journal cannot be read, or lacks it.
    pub fn next_binding(&mut self) -> Result<Option<Binding>, String> {
        match &mut self.bindings {
            Source::Journal(journal) => journal.next_binding(),
            Source::Memory(bindings) => Ok(bindings.next()),
        }
    }
}
