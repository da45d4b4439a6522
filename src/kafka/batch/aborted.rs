//! PURE. Tells which batches belong to transactions that were aborted, for those who read committed records only.
//!
//! ```text
//!  Fetch response: (producer, first offset) of each aborted transaction       its batches, in order
//!                                │                                                   │
//!                                ▼ begins at or before the batch's last offset        ▼
//!                       producers inside an aborted transaction ◀──abort marker ends it── is it aborted?
//! ```
//!
//! It goes by the list of one Fetch response, which has every aborted transaction that touches what was fetched, and is
//! meant for the batches of that response alone, all of them, as they come. The same as Kafka's Java client does.

use std::collections::BTreeSet;

use super::{Control, Damage, RawBatch};
use crate::record::Offset;

/// An aborted transaction, as a Fetch response names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// The producer's id.
    pub producer_id: i64,
    /// The first offset of the transaction in this partition.
    pub first_offset: Offset,
}

/// The aborted transactions of a Fetch response, on the way through its batches.
#[derive(Debug, Clone, Default)]
pub struct AbortedTransactions {
    /// Those that have not begun yet; the next one last.
    ahead: Vec<Aborted>,
    /// Producers in the middle of one.
    inside: BTreeSet<i64>,
}

impl AbortedTransactions {
    /// The list of a response, in whatever order.
    #[must_use]
    pub fn new(mut list: Vec<Aborted>) -> Self {
        list.sort_unstable_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
        Self { ahead: list, inside: BTreeSet::new() }
    }

    /// Whether the records of `batch` do not count. To be asked for each batch of the response, in their order, control
    /// batches too: they end transactions. Of a control batch the answer is no; it has no records.
    ///
    /// # Errors
    /// A control batch that does not say what it is.
    pub fn is_aborted(&mut self, batch: &RawBatch) -> Result<bool, Damage> {
        if batch.producer_id() < 0 {
            return Ok(false);
        }
        while let Some(aborted) = self.ahead.pop_if(|aborted| aborted.first_offset <= batch.last_offset()) {
            self.inside.insert(aborted.producer_id);
        }
        if batch.control()? == Some(Control::Abort) {
            self.inside.remove(&batch.producer_id());
        }
        Ok(!batch.is_control() && batch.is_transactional() && self.inside.contains(&batch.producer_id()))
    }
}
