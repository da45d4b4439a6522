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

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoNumber {
    /// The bytes end before it does.
    Truncated,
    /// It takes more than 64 bits.
    TooLong,
}

/// The number at the beginning of `bytes`, which moves on behind it. Most are one byte long.
#[inline]
pub(crate) fn take(bytes: &mut &[u8]) -> Result<i64, NoNumber> {
    match bytes.split_first() {
        Some((byte, rest)) if *byte < 0x80 => {
            *bytes = rest;
            Ok(unzigzag(u64::from(*byte)))
        }
        _ => take_long(bytes),
    }
}

fn take_long(bytes: &mut &[u8]) -> Result<i64, NoNumber> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(NoNumber::Truncated)?;
        *bytes = rest;
        // Of the tenth byte one bit fits.
        if shift == 63 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Ok(unzigzag(value));
        }
    }
    Err(NoNumber::TooLong)
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
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
            prop_assert_eq!(take(&mut bytes), Ok(value));
            prop_assert_eq!(bytes, [7]);
        }
    }

    #[test]
    fn what_is_no_number_is_told_so() {
        let long = [&[0xff; 9][..], &[2]].concat();
        let told = [
            (&[][..], NoNumber::Truncated),
            (&[0x80], NoNumber::Truncated),
            (&[0xff; 11], NoNumber::TooLong),
            (&long, NoNumber::TooLong),
        ];
        for (no_number, why) in told {
            assert_eq!(take(&mut &*no_number), Err(why), "{no_number:?}");
        }
    }
}
