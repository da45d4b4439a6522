//! PURE. Numbers as Kafka's record batches hold them: zigzag, then seven bits a byte, as protocol buffers do it.

use bytes::{BufMut, BytesMut};

/// Small numbers of either sign become small.
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The bytes that a number takes.
pub(crate) fn size(value: i64) -> usize {
    (64 - (zigzag(value) | 1).leading_zeros() as usize).div_ceil(7)
}

pub(crate) fn put(buf: &mut BytesMut, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buf.put_u8((rest as u8 & 0x7f) | 0x80);
        rest >>= 7;
    }
    buf.put_u8(rest as u8);
}

/// The number at the beginning of `bytes`, which moves on behind it. `None` if there is none.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Option<i64> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
        shift += 7;
        if shift > 63 {
            return None;
        }
    }
}

/// The bytes that `content` takes with its length before it; −1 stands for none.
pub(crate) fn bytes_size(content: Option<&[u8]>) -> usize {
    content.map_or(1, |content| size(content.len() as i64) + content.len())
}

pub(crate) fn put_bytes(buf: &mut BytesMut, content: Option<&[u8]>) {
    match content {
        None => put(buf, -1),
        Some(content) => {
            put(buf, content.len() as i64);
            buf.put_slice(content);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_comes_back_and_its_size_is_known_before(value in any::<i64>(), shift in 0u32..63) {
            let value = value >> shift;
            let mut buf = BytesMut::new();
            put(&mut buf, value);
            prop_assert_eq!(buf.len(), size(value));
            buf.put_u8(7);
            let mut bytes = &buf[..];
            prop_assert_eq!(take(&mut bytes), Some(value));
            prop_assert_eq!(bytes, [7]);
        }
    }

    #[test]
    fn what_is_no_number_is_none() {
        for no_number in [&[][..], &[0x80], &[0xff; 11]] {
            assert_eq!(take(&mut &*no_number), None, "{no_number:?}");
        }
    }
}
