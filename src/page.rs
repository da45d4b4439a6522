//! Where small pieces of bytes are put together.
//!
//! An allocation for each, made on one thread and given back on another, costs more than the copy. Pieces of one page
//! share its memory until the last of them is gone, so a page is small: what is held for long holds one.

use bytes::{Bytes, BytesMut};

/// A page that is being filled, and then the next.
#[derive(Debug, Default)]
pub struct Page(BytesMut);

impl Page {
    const SIZE: usize = 16 << 10;
    /// What is larger stays where it is.
    const SMALL: usize = 1 << 10;

    /// Takes over an allocation, if it is large, or else its content.
    pub fn put(&mut self, content: impl Into<Bytes> + AsRef<[u8]>) -> Bytes {
        if content.as_ref().len() > Self::SMALL { content.into() } else { self.copy(content.as_ref()) }
    }

    /// Copies `content`.
    pub fn copy(&mut self, content: &[u8]) -> Bytes {
        self.piece(content.len()).extend_from_slice(content);
        self.finish()
    }

    /// The piece in the making, with room for `more` bytes.
    pub(crate) fn piece(&mut self, more: usize) -> &mut BytesMut {
        if self.0.len() + more > self.0.capacity() {
            let mut page = BytesMut::with_capacity(Self::SIZE.max(self.0.len() + more));
            page.extend_from_slice(&self.0);
            self.0 = page;
        }
        &mut self.0
    }

    /// Ends the piece in the making.
    pub(crate) fn finish(&mut self) -> Bytes {
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_stay_what_they_were() {
        let mut page = Page::default();
        let pieces: Vec<_> = (0..3000_usize).map(|n| vec![n as u8; n % 1500]).collect();
        let put: Vec<_> = pieces.iter().map(|piece| page.put(piece.clone())).collect();
        assert_eq!(put, pieces);
    }
}
