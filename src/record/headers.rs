//! PURE. The headers of a record that is to be written: put together once, in one piece of memory.

use std::fmt;

use bytes::Bytes;

use super::Header;
use crate::{page::Page, varint};

/// Headers as a record batch holds them (KIP-82): in their order, names more than once and values absent where that is what
/// they are. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Headers {
    count: usize,
    encoded: Bytes,
}

impl Headers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each name with its value, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let mut left = &self.encoded[..];
        let mut piece = move || {
            let length = varint::take(&mut left).expect("we wrote it");
            // Below 0 stands for none.
            let (piece, rest) = left.split_at(usize::try_from(length).ok()?);
            left = rest;
            Some(piece)
        };
        (0..self.count).map(move |_| (piece().unwrap_or_default(), piece()))
    }

    /// Each by itself.
    #[must_use]
    pub fn to_vec(&self) -> Vec<Header> {
        let copied = Bytes::copy_from_slice;
        self.iter().map(|(name, value)| Header { name: copied(name), value: value.map(copied) }).collect()
    }

    /// As a batch holds them, without their number.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl<'a> FromIterator<&'a Header> for Headers {
    fn from_iter<I: IntoIterator<Item = &'a Header>>(headers: I) -> Self {
        let mut page = Page::default();
        let mut put = PutHeaders::in_page(&mut page);
        for header in headers {
            put.put(&header.name, header.value.as_deref());
        }
        put.done()
    }
}

impl From<Vec<Header>> for Headers {
    fn from(headers: Vec<Header>) -> Self {
        headers.iter().collect()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.to_vec()).finish()
    }
}

/// Headers in the making, in a page.
#[derive(Debug)]
pub(crate) struct PutHeaders<'a> {
    page: &'a mut Page,
    count: usize,
}

impl<'a> PutHeaders<'a> {
    pub(crate) fn in_page(page: &'a mut Page) -> Self {
        Self { page, count: 0 }
    }

    pub(crate) fn put(&mut self, name: &[u8], value: Option<&[u8]>) {
        let buffer = self.page.piece(varint::bytes_size(Some(name)) + varint::bytes_size(value));
        varint::put_bytes(buffer, Some(name));
        varint::put_bytes(buffer, value);
        self.count += 1;
    }

    /// Puts a number in decimal.
    pub(crate) fn put_number(&mut self, name: &[u8], value: i64) {
        let mut digits = itoa::Buffer::new();
        self.put(name, Some(digits.format(value).as_bytes()));
    }

    pub(crate) fn done(self) -> Headers {
        Headers { count: self.count, encoded: self.page.finish() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stay_what_they_were() {
        let headers = vec![
            Header::new("a", "1"),
            Header::new("a", ""),
            Header { name: Bytes::from_static(b"\xff"), value: None },
            Header::new("", vec![7; 20_000]),
        ];
        let put = Headers::from(headers.clone());
        assert_eq!((put.len(), put.to_vec()), (4, headers));
        let mut page = Page::default();
        page.copy(b"before");
        let mut numbers = PutHeaders::in_page(&mut page);
        numbers.put_number(b"n", i64::MIN);
        assert_eq!(numbers.done().to_vec(), [Header::new("n", i64::MIN.to_string())]);
    }
}
