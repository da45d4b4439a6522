//! PURE. The LZ4 frame, around the blocks of lz4_flex.
//!
//! ```text
//!  04 22 4d 18   flags   block size   content length (8)   dictionary (4)   header checksum │
//!                                     └── as the flags say ──┘
//!  for each block: length (4), top bit set where it is stored   block   checksum (4)     │ 00 00 00 00   checksum (4)
//!                                                                       └ flags ┘                      └ flags ┘
//! ```
//!
//! Blocks may refer to the 64 KiB before them (kafka-python's do) or not (those of Kafka's Java clients and of librdkafka do
//! not). They are inflated behind each other into one buffer, which lz4_flex's own frame decoder does not do; nor does it
//! see that a frame is cut off between two blocks. The checksums in a frame are not looked at: the batch's own covers all of
//! it. So the wrong header checksum that Kafka's clients wrote before 0.10 does no harm, either.

use bytes::Buf;
use lz4_flex::block::{DecompressError, decompress_into, decompress_into_with_dict};

use super::Fault;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// How far back a block may refer.
const WINDOW_BYTES: usize = 64 << 10;
const STORED: u32 = 1 << 31;
/// A length in a block grows by 255 for each byte.
const MOST_RATIO: usize = 255;

mod flag {
    pub(super) const DICTIONARY: u8 = 1;
    pub(super) const CHECKSUM: u8 = 1 << 2;
    pub(super) const LENGTH: u8 = 1 << 3;
    pub(super) const BLOCK_CHECKSUMS: u8 = 1 << 4;
    pub(super) const INDEPENDENT: u8 = 1 << 5;
    pub(super) const VERSION: u8 = 0b1100_0000;
    pub(super) const VERSION_1: u8 = 0b0100_0000;
}

pub(super) fn inflate(input: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let (frame, blocks) = Frame::parse(input)?;
    let (mut total, mut rest) = (0_usize, blocks);
    while let Some((block, behind)) = frame.block(rest)? {
        total = total.saturating_add(frame.most(block));
        rest = behind;
    }
    // One over the limit: what fills that is too large.
    let mut out = vec![0; total.min(limit.saturating_add(1))];
    let (mut at, mut rest) = (0, blocks);
    while let Some((block, behind)) = frame.block(rest)? {
        at += frame.inflate(block, &mut out, at)?;
        rest = behind;
    }
    if at > limit {
        return Err(Fault::Full);
    }
    out.truncate(at);
    if out.len() < out.capacity() / 2 {
        out.shrink_to_fit();
    }
    Ok(out)
}

fn cut() -> Fault {
    Fault::malformed("it ends early")
}

/// What a frame says of itself.
struct Frame {
    flags: u8,
    block_bytes: usize,
}

#[derive(Clone, Copy)]
enum Block<'a> {
    Stored(&'a [u8]),
    Compressed(&'a [u8]),
}

impl Frame {
    /// A frame and what follows its header.
    fn parse(input: &[u8]) -> Result<(Self, &[u8]), Fault> {
        let input =
            input.strip_prefix(&MAGIC).ok_or_else(|| Fault::malformed("it does not begin as an LZ4 frame does"))?;
        let (&[flags, size], rest) = input.split_first_chunk().ok_or_else(cut)?;
        if flags & flag::VERSION != flag::VERSION_1 {
            return Err(Fault::malformed("it is of another version than 1"));
        }
        if flags & flag::DICTIONARY != 0 {
            return Err(Fault::malformed("it needs a dictionary"));
        }
        let block_bytes = match (size >> 4) & 0b111 {
            exponent @ 4..=7 => 1 << (2 * exponent + 8),
            other => return Err(Fault::malformed(format!("there is no block size {other}"))),
        };
        let length = if flags & flag::LENGTH != 0 { 8 } else { 0 };
        let rest = rest.get(length + 1..).ok_or_else(cut)?;
        Ok((Self { flags, block_bytes }, rest))
    }

    /// The next block and what follows it, or nothing at the end.
    fn block<'a>(&self, rest: &'a [u8]) -> Result<Option<(Block<'a>, &'a [u8])>, Fault> {
        let (mut field, rest) = rest.split_at_checked(4).ok_or_else(cut)?;
        let field = field.get_u32_le();
        if field == 0 {
            let end = if self.flags & flag::CHECKSUM != 0 { 4 } else { 0 };
            return match rest.len().checked_sub(end) {
                Some(0) => Ok(None),
                Some(more) => Err(Fault::malformed(format!("{more} bytes follow its end"))),
                None => Err(cut()),
            };
        }
        let length = (field & !STORED) as usize;
        if length > self.block_bytes {
            return Err(Fault::malformed(format!(
                "a block of {length} bytes, where {} are the most",
                self.block_bytes
            )));
        }
        let (block, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        let checksum = if self.flags & flag::BLOCK_CHECKSUMS != 0 { 4 } else { 0 };
        let rest = rest.get(checksum..).ok_or_else(cut)?;
        Ok(Some((if field & STORED != 0 { Block::Stored(block) } else { Block::Compressed(block) }, rest)))
    }

    /// How much can come of a block at the most.
    fn most(&self, block: Block<'_>) -> usize {
        match block {
            Block::Stored(block) => block.len(),
            Block::Compressed(block) => block.len().saturating_mul(MOST_RATIO).min(self.block_bytes),
        }
    }

    /// Inflates a block into `out` at `at`, and says how long it is.
    fn inflate(&self, block: Block<'_>, out: &mut [u8], at: usize) -> Result<usize, Fault> {
        let end = out.len().min(at + self.most(block));
        let (before, behind) = out.split_at_mut(at);
        let behind = &mut behind[..end - at];
        let full = behind.len() < self.most(block);
        let inflated = match block {
            Block::Stored(block) if block.len() > behind.len() => return Err(Fault::Full),
            Block::Stored(block) => {
                behind[..block.len()].copy_from_slice(block);
                return Ok(block.len());
            }
            Block::Compressed(block) if self.flags & flag::INDEPENDENT != 0 || before.is_empty() => {
                decompress_into(block, behind)
            }
            Block::Compressed(block) => {
                decompress_into_with_dict(block, behind, &before[at.saturating_sub(WINDOW_BYTES)..])
            }
        };
        inflated.map_err(|error| match error {
            DecompressError::OutputTooSmall { .. } if full => Fault::Full,
            error => Fault::malformed(error),
        })
    }
}
