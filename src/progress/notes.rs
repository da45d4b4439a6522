//! PURE. What else travels with a commit: how often tasks have failed.
//!
//! ```text
//!   tag 64: attempts   offset (from the one before, the first from the base), how often: two numbers each
//! ```
//!
//! It may be passed over by whoever does not know it, and is left out where there is no room.

use std::collections::BTreeMap;

use bytes::BytesMut;

use super::map::put_field;
use crate::{record::Offset, varint};

const ATTEMPTS: u8 = 64;

/// What travels with a commit beside what is finished above it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// How often the tasks of unfinished messages have failed, where they have.
    pub attempts: BTreeMap<Offset, u32>,
}

impl Notes {
    /// Whether there is nothing to be said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    /// The fields, beside a commit of `base`. What lies below it is left out.
    pub(super) fn write(&self, base: Offset) -> BytesMut {
        let mut all = BytesMut::new();
        let mut field = BytesMut::new();
        let mut at = base;
        for (offset, attempts) in self.attempts.range(base..) {
            varint::put(&mut field, offset.0 - at.0);
            varint::put(&mut field, i64::from(*attempts));
            at = *offset;
        }
        put_field(&mut all, ATTEMPTS, &field);
        all
    }

    /// Takes in a field, if it is this one. `None` if it is not as it should be.
    pub(super) fn read(&mut self, base: Offset, tag: u8, mut content: &[u8]) -> Option<()> {
        if tag != ATTEMPTS {
            return Some(());
        }
        let mut at = base;
        while !content.is_empty() {
            let gap = varint::take(&mut content).ok().filter(|gap| *gap >= 0)?;
            at = Offset(at.0.checked_add(gap)?);
            let attempts = u32::try_from(varint::take(&mut content).ok()?).ok()?;
            self.attempts.insert(at, attempts);
        }
        Some(())
    }

    /// Only what is said of messages from `start` on and below `end`: where the log ends, or ended when this was written. What
    /// lies there now may be another.
    #[must_use]
    pub fn within(self, start: Offset, end: Offset) -> Self {
        let Self { mut attempts } = self;
        attempts.retain(|offset, _| (start..end).contains(offset));
        Self { attempts }
    }
}
