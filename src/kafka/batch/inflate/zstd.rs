//! PURE. Zstandard (RFC 8878), on ruzstd.
//!
//! ```text
//!  28 b5 2f fd   flags   window   dictionary   content length │ blocks: last, kind, size (21 bits)   … │ checksum
//! ```
//!
//! Kafka's Java clients stream, so that the content's length is not known before, and the window is 2 MiB, whatever comes
//! (up to 128 MiB for levels above 19); librdkafka writes the length, and that is the window.
//!
//! ruzstd is asked for a block at a time, and what it makes is taken out of its window as soon as that is possible. It
//! allocates for its window what it has seen, not what the header promises. Yet it cannot say how much it holds within a
//! window, and a block may make more than the format allows before it looks; so where the window is larger than
//! [`PLAIN_WINDOW_BYTES`], what the blocks can make at the most has to be small against the limit.

use bytes::Buf;
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::Fault;

const MAGIC: u32 = 0xfd2f_b528;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;
const MOST_BLOCK_BYTES: usize = 128 << 10;
/// The window of level 19, the highest that is not called ultra; the RFC wants every decoder to know it.
const PLAIN_WINDOW_BYTES: u64 = 8 << 20;
/// What zstd's own decoder takes unless it is told to take more.
const MOST_WINDOW_BYTES: u64 = 128 << 20;
/// ruzstd's window is doubled as it grows, and a hostile block can make twice what it may: 2 × 2, and 2 while it is copied.
const LARGE_WINDOW_COPIES: usize = 6;

pub(super) fn inflate(mut input: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::with_capacity(most(input, limit)?.min(limit));
    while !input.is_empty() {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MOST_WINDOW_BYTES);
        match decoder.init(&mut input) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                input = input.get(length as usize..).ok_or_else(cut)?;
                continue;
            }
            Err(error) => return Err(Fault::malformed(error)),
        }
        while !decoder.is_finished() {
            decoder.decode_blocks(&mut input, BlockDecodingStrategy::UptoBlocks(1)).map_err(Fault::malformed)?;
            if decoder.can_collect() > limit - out.len() {
                return Err(Fault::Full);
            }
            // More than the blocks may make is damage, and must not make `out` grow.
            if decoder.can_collect() > out.capacity() - out.len() {
                return Err(Fault::malformed("a block makes more than it may"));
            }
            decoder.collect_to_writer(&mut out).map_err(Fault::malformed)?;
        }
    }
    if out.len() < out.capacity() / 2 {
        out.shrink_to_fit();
    }
    Ok(out)
}

fn cut() -> Fault {
    Fault::malformed("it ends early")
}

/// How much can come of all the frames at the most. Fails where that would take too much memory on the way.
fn most(mut input: &[u8], limit: usize) -> Result<usize, Fault> {
    let (mut total, mut large) = (0_usize, 0);
    while !input.is_empty() {
        let magic = take(&mut input, 4)?.get_u32_le();
        if SKIPPABLE.contains(&magic) {
            let length = take(&mut input, 4)?.get_u32_le();
            take(&mut input, length as usize)?;
            continue;
        }
        if magic != MAGIC {
            return Err(Fault::malformed("it does not begin as a zstd frame does"));
        }
        let (frame, window) = frame(&mut input)?;
        total = total.saturating_add(frame);
        if window > PLAIN_WINDOW_BYTES {
            large = large.max(frame);
        }
    }
    if large > limit.saturating_sub(total) / LARGE_WINDOW_COPIES { Err(Fault::Full) } else { Ok(total) }
}

/// How much can come of a frame at the most, and its window.
fn frame(input: &mut &[u8]) -> Result<(usize, u64), Fault> {
    let flags = take(input, 1)?.get_u8();
    let single = flags & (1 << 5) != 0;
    let window = if single { 0 } else { take(input, 1)?.get_u8() };
    take(input, [0, 1, 2, 4][usize::from(flags & 0b11)])?;
    let mut length = match flags >> 6 {
        0 => take(input, usize::from(single))?,
        size => take(input, 1 << size)?,
    };
    let window = if single {
        let (bytes, base) = (length.len(), if length.len() == 2 { 256 } else { 0 });
        if bytes == 0 { 0 } else { length.get_uint_le(bytes) + base }
    } else {
        let base = 1_u64 << (10 + (window >> 3));
        base + base / 8 * u64::from(window & 0b111)
    };
    let mut total = 0_usize;
    loop {
        let header = take(input, 3)?.get_uint_le(3) as usize;
        let size = header >> 3;
        let made = match (header >> 1) & 0b11 {
            0 => take(input, size)?.len(),
            1 => take(input, 1).map(|_| size)?,
            2 => literals(take(input, size)?)?.max(MOST_BLOCK_BYTES),
            _ => return Err(Fault::malformed("a block of a reserved kind")),
        };
        if size > MOST_BLOCK_BYTES {
            return Err(Fault::malformed(format!("a block of {size} bytes")));
        }
        total = total.saturating_add(made);
        if header & 1 != 0 {
            break;
        }
    }
    take(input, if flags & (1 << 2) != 0 { 4 } else { 0 })?;
    Ok((total, window))
}

/// How many literals a compressed block says that it has. ruzstd makes them before it looks at their number.
fn literals(block: &[u8]) -> Result<usize, Fault> {
    let mut first = block.get(..3.min(block.len())).filter(|first| !first.is_empty()).ok_or_else(cut)?;
    let header = first.get_uint_le(first.len()) as usize;
    // Only the longest form of each kind can say too much.
    let count = match (header & 0b11, (header >> 2) & 0b11) {
        (0 | 1, 3) => header >> 4,
        (2 | 3, 3) => (header >> 4) & 0x3_ffff,
        _ => 0,
    };
    if count > MOST_BLOCK_BYTES { Err(Fault::malformed(format!("a block with {count} literals"))) } else { Ok(count) }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    let (taken, rest) = input.split_at_checked(count).ok_or_else(cut)?;
    *input = rest;
    Ok(taken)
}
