//! PURE. The strings of Confluent's Parallel Consumer (0.5): Base64 of a byte that says how, and of what follows it.
//!
//! | byte | what follows | under zstd |
//! | --- | --- | --- |
//! | `l` | bits: their number in 16 bits, then eight a byte, the lowest first | `a` |
//! | `o` | bits: their number in 32 bits | `s` |
//! | `n` | runs in 16 bits each: unfinished, finished, unfinished, … | `J` |
//! | `e` | runs in 32 bits each | `p` |
//!
//! Numbers are signed and big-endian, and count from the committed offset. There is no topic, no offset and no checksum in
//! them, so nothing tells whether such a string belongs where it is.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Buf;

use super::{
    Finished, Run, Unbelieved,
    map::{NoMap, push_bits},
};
use crate::{kafka::batch::inflate_zstd, record::Offset};

/// The most bytes that a string is inflated to.
const MOST_INFLATED_BYTES: usize = 1 << 20;

/// How offsets are written.
#[derive(Clone, Copy)]
enum Form {
    Bits,
    Runs,
}

/// What such a string says is finished.
///
/// # Errors
/// It is none, or damaged.
pub(super) fn decode(text: &str, base: Offset) -> Result<Finished, Unbelieved> {
    let bytes = STANDARD.decode(text).map_err(|_| Unbelieved::Foreign)?;
    let (&magic, body) = bytes.split_first().ok_or(Unbelieved::Foreign)?;
    let (form, width, compressed) = match magic {
        b'l' => (Form::Bits, 2, false),
        b'a' => (Form::Bits, 2, true),
        b'o' => (Form::Bits, 4, false),
        b's' => (Form::Bits, 4, true),
        b'n' => (Form::Runs, 2, false),
        b'J' => (Form::Runs, 2, true),
        b'e' => (Form::Runs, 4, false),
        b'p' => (Form::Runs, 4, true),
        _ => return Err(Unbelieved::Foreign),
    };
    let inflated;
    let body = if compressed {
        let unread = |_| Unbelieved::Damaged { why: "its zstd frame cannot be read" };
        inflated = inflate_zstd(body, MOST_INFLATED_BYTES).map_err(unread)?;
        &inflated[..]
    } else {
        body
    };
    Ok(match form {
        Form::Bits => bits(body, width, base)?,
        Form::Runs => runs(body, width, base)?,
    })
}

fn bits(mut body: &[u8], width: usize, base: Offset) -> Result<Finished, NoMap> {
    if body.len() < width {
        return Err(NoMap("it is cut off"));
    }
    let count = body.get_int(width);
    if count < 0 || base.0.checked_add(count).is_none() {
        return Err(NoMap("its number of bits cannot be"));
    }
    let mut finished = Finished::default();
    let there = usize::try_from(count).unwrap_or(usize::MAX).div_ceil(8).min(body.len());
    if base.0.checked_add(there as i64 * 8).is_none() {
        return Err(NoMap("its bits lie beyond all offsets"));
    }
    push_bits(&mut finished, base, &body[..there]);
    finished.cut_from(base + count);
    Ok(finished)
}

fn runs(mut body: &[u8], width: usize, base: Offset) -> Result<Finished, NoMap> {
    if !body.len().is_multiple_of(width) {
        return Err(NoMap("it is cut off"));
    }
    let mut finished = Finished::default();
    let (mut at, mut is_finished) = (base.0, false);
    while body.has_remaining() {
        let length = body.get_int(width);
        let end = at.checked_add(length).filter(|end| *end >= at).ok_or(NoMap("the length of a run cannot be"))?;
        if is_finished {
            finished.push(Run::new(Offset(at), Offset(end)));
        }
        (at, is_finished) = (end, !is_finished);
    }
    Ok(finished)
}
