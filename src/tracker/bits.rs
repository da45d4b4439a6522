//! PURE. A set of offsets that lie near each other.

use std::collections::VecDeque;

use crate::record::Offset;

/// A set of offsets within a window that moves up.
#[derive(Debug, Default)]
pub(super) struct Bits {
    /// The offset of bit 0 of the first word; a multiple of 64.
    base: i64,
    pub(super) words: VecDeque<u64>,
    pub(super) count: usize,
}

impl Bits {
    pub(super) fn lowest(&self) -> Option<Offset> {
        // `clear` keeps the first word non-zero, so this is one look.
        self.words.front().map(|word| Offset(self.base + i64::from(word.trailing_zeros())))
    }

    /// Sets a bit that may lie below all others.
    pub(super) fn put(&mut self, offset: Offset) {
        let base = offset.0 & !63;
        if self.words.is_empty() || base >= self.base {
            return self.set(offset);
        }
        while self.base > base {
            self.words.push_front(0);
            self.base -= 64;
        }
        self.set(offset);
    }

    fn locate(&self, offset: Offset) -> Option<(usize, u64)> {
        let distance = usize::try_from(offset.0 - self.base).ok()?;
        Some((distance / 64, 1 << (distance % 64)))
    }

    pub(super) fn is_set(&self, offset: Offset) -> bool {
        self.locate(offset).is_some_and(|(word, bit)| self.words.get(word).is_some_and(|w| w & bit != 0))
    }

    pub(super) fn set(&mut self, offset: Offset) {
        if self.words.is_empty() {
            self.base = offset.0 & !63;
        }
        let (word, bit) = self.locate(offset).expect("offsets start in rising order");
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        debug_assert!(self.words[word] & bit == 0, "offset {offset} started twice");
        self.words[word] |= bit;
        self.count += 1;
    }

    pub(super) fn clear(&mut self, offset: Offset) -> bool {
        if !self.is_set(offset) {
            return false;
        }
        let (word, bit) = self.locate(offset).expect("is_set");
        self.words[word] &= !bit;
        self.count -= 1;
        while self.words.front() == Some(&0) {
            self.words.pop_front();
            self.base += 64;
        }
        true
    }

    /// Clears every bit from `from` on and gives how many were set.
    pub(super) fn clear_from(&mut self, from: Offset) -> usize {
        let gone: Vec<_> = self.iter().filter(|offset| *offset >= from).collect();
        for offset in &gone {
            self.clear(*offset);
        }
        gone.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Offset> + '_ {
        self.words.iter().enumerate().flat_map(move |(index, word)| {
            let left = std::iter::successors(Some(*word), |left| Some(left & left.wrapping_sub(1)));
            let bits = left.take_while(|left| *left != 0).map(|left| i64::from(left.trailing_zeros()));
            bits.map(move |bit| Offset(self.base + index as i64 * 64 + bit))
        })
    }
}
