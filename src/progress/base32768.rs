//! PURE. Bytes as text in which each UTF-16 unit carries 15 bits.
//!
//! Kafka counts the metadata of a commit in UTF-16 units, so a unit should carry as much as it can. Of the units that stand
//! for a character by themselves, 32,768 are taken which every UTF-8 encoder, every Java string and Unicode's composition
//! (NFC, NFKC) leave as they are: ideographs and Hangul syllables. There is no surrogate, no control character, nothing for
//! private use. Each takes three bytes in UTF-8.
//!
//! ```text
//!   bytes   aaaaaaaa bbbbbbbb cccccccc dddddddd 00…     most significant bit first, zeros at the end
//!   units   aaaaaaaabbbbbbb   bccccccccdddddd   dd00…
//! ```
//!
//! As many whole bytes come out as the units have room for: the last of them may be one that was not put in, a zero.

/// The bits that a unit carries.
const BITS: usize = 15;
/// What the characters are taken from, in the order of their values: CJK extension A, CJK, and the first Hangul.
const RANGES: [(u16, u16); 3] = [(0x3400, 0x4dc0), (0x4e00, 0xa000), (0xac00, 0xc040)];

/// How many bytes come out of so many units.
pub(super) fn bytes_of(units: usize) -> usize {
    units * BITS / 8
}

/// How many units so many bytes take.
pub(super) fn units_of(bytes: usize) -> usize {
    (bytes * 8).div_ceil(BITS)
}

/// Puts bytes behind `text`, as [`units_of`] them units.
pub(super) fn put(text: &mut String, bytes: &[u8]) {
    text.reserve(3 * units_of(bytes.len()));
    let (mut pending, mut bits) = (0_u32, 0);
    for byte in bytes {
        pending = pending << 8 | u32::from(*byte);
        bits += 8;
        if bits >= BITS {
            bits -= BITS;
            text.push(character((pending >> bits) as u16 & 0x7fff));
        }
    }
    if bits > 0 {
        text.push(character((pending << (BITS - bits)) as u16 & 0x7fff));
    }
}

/// The bytes that a text carries; `None` if anything else is in it. The memory it takes is less than that of the text.
pub(super) fn read(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(bytes_of(text.len() / 3));
    let (mut pending, mut bits) = (0_u32, 0);
    for character in text.chars() {
        pending = pending << BITS | u32::from(value(character)?);
        bits += BITS;
        while bits >= 8 {
            bits -= 8;
            bytes.push((pending >> bits) as u8);
        }
        pending &= (1 << bits) - 1;
    }
    (pending == 0).then_some(bytes)
}

fn character(value: u16) -> char {
    let mut rest = value;
    for (first, end) in RANGES {
        if rest < end - first {
            return char::from_u32(u32::from(first + rest)).expect("no surrogates are in the ranges");
        }
        rest -= end - first;
    }
    unreachable!("{value} has more than 15 bits")
}

fn value(character: char) -> Option<u16> {
    let unit = u16::try_from(u32::from(character)).ok()?;
    let mut before = 0;
    for (first, end) in RANGES {
        if (first..end).contains(&unit) {
            return Some(before + (unit - first));
        }
        before += end - first;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_character_for_each_value_and_back() {
        assert_eq!(RANGES.iter().map(|(first, end)| u32::from(end - first)).sum::<u32>(), 1 << BITS);
        for number in 0..1 << BITS {
            let character = character(number);
            assert_eq!(value(character), Some(number));
            assert_eq!((character.len_utf16(), character.len_utf8()), (1, 3));
            assert!(!character.is_control());
        }
        for other in ['\0', 'a', 'é', '\u{d7ff}', '\u{e000}', '\u{feff}', '\u{ffff}', '\u{10000}'] {
            assert_eq!(value(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_was_put_in_comes_out_with_a_zero_more_at_the_most() {
        for length in 0..200_usize {
            let bytes: Vec<u8> = (0..length).map(|at| (at * 37 + 11) as u8).collect();
            let mut text = String::new();
            put(&mut text, &bytes);
            assert_eq!(text.encode_utf16().count(), units_of(length));
            let back = read(&text).expect("it is all ours");
            assert_eq!(back.len(), bytes_of(units_of(length)));
            assert_eq!(&back[..length], bytes);
            assert!(back.len() - length <= 1 && back[length..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn anything_else_is_not_read() {
        assert_eq!(read(""), Some(Vec::new()));
        assert_eq!(read("x"), None);
        assert_eq!(read("㐀😀"), None);
        // Bits that belong to no byte.
        assert_eq!(read("㐁"), None);
    }
}
