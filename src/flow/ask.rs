//! Who asks the views on behalf of changes.

use super::{Change, Outgoing};

/// Cuts changes of transactions to the requests of one view. It runs where the transactions are kept, on every worker, while
/// their events are at hand; each view has one.
pub trait Asker {
    /// Key kinds that it asks of.
    fn plans(&self) -> usize {
        1
    }

    /// Asks what a change asks of the view, if it concerns it.
    fn ask(&mut self, change: &Change, out: &mut Outgoing);
}
