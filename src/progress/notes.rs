//! PURE. What else travels with a commit: how often tasks have failed, and what a crash may have to do with.
//!
//! ```text
//!   tag 64: attempts   offset (from the one before, the first from the base), how often: two numbers each
//!   tag 65: the mark   how far tasks may have begun, from the base: a number
//!   tag 66: names      offset (as above), and what it does: a number and a byte each
//! ```
//!
//! All of them may be passed over by whoever does not know them, and are left out where there is no room.

use std::collections::BTreeMap;

use bytes::{BufMut, BytesMut};

use super::map::put_field;
use crate::{record::Offset, varint};

const ATTEMPTS: u8 = 64;
const MARK: u8 = 65;
const NAMES: u8 = 66;

/// See the [module's documentation](self).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// How often the tasks of unfinished messages have failed, where they have.
    pub attempts: BTreeMap<Offset, u32>,
    /// The process has not ended in good order: tasks may have begun below here, and none at or above.
    pub reach: Option<Offset>,
    /// What single messages do, or did.
    pub named: BTreeMap<Offset, Named>,
}

/// What is known of a message that may have to do with a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// Its task runs, among others.
    Running,
    /// It ran when the process died, and is to run alone.
    Suspect,
    /// It runs alone.
    Alone,
    /// The process died while it ran alone. It is to run alone once more.
    SuspectAgain,
    /// It runs alone, for the second time.
    AloneAgain,
}

impl Named {
    const ALL: [Self; 5] = [Self::Running, Self::Suspect, Self::Alone, Self::SuspectAgain, Self::AloneAgain];
}

impl Notes {
    /// Whether there is nothing to be said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attempts.is_empty() && self.reach.is_none() && self.named.is_empty()
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
        if let Some(reach) = self.reach {
            field.clear();
            varint::put(&mut field, reach.max(base).0 - base.0);
            put_field(&mut all, MARK, &field);
        }
        field.clear();
        at = base;
        for (offset, named) in self.named.range(base..) {
            varint::put(&mut field, offset.0 - at.0);
            field.put_u8(*named as u8);
            at = *offset;
        }
        put_field(&mut all, NAMES, &field);
        all
    }

    /// Takes in a field, if it is one of these. `None` if it is not as it should be.
    pub(super) fn read(&mut self, base: Offset, tag: u8, mut content: &[u8]) -> Option<()> {
        let mut at = base;
        let mut next = |content: &mut &[u8]| {
            let gap = varint::take(content).ok().filter(|gap| *gap >= 0)?;
            at = Offset(at.0.checked_add(gap)?);
            Some(at)
        };
        match tag {
            ATTEMPTS => {
                while !content.is_empty() {
                    let offset = next(&mut content)?;
                    let attempts = u32::try_from(varint::take(&mut content).ok()?).ok()?;
                    self.attempts.insert(offset, attempts);
                }
            }
            MARK => self.reach = Some(next(&mut content)?),
            NAMES => {
                while !content.is_empty() {
                    let offset = next(&mut content)?;
                    let (code, rest) = content.split_first()?;
                    self.named.insert(offset, *Named::ALL.get(usize::from(*code))?);
                    content = rest;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// Only what is said of messages from `start` on and below `end`: where the log ends, or ended when this was written. What
    /// lies there now may be another.
    #[must_use]
    pub fn within(self, start: Offset, end: Offset) -> Self {
        let Self { mut attempts, reach, mut named } = self;
        attempts.retain(|offset, _| (start..end).contains(offset));
        named.retain(|offset, _| (start..end).contains(offset));
        Self { attempts, reach, named }
    }
}
