//! PURE. Gzip (RFC 1952), on flate2.
//!
//! ```text
//!  1f 8b   08   flags   time (4)   extra   system │ fields that the flags name │ deflated │ crc32   length mod 2³²
//! ```
//!
//! The length at the end is the size of the allocation. A stream of several members, which the RFC allows and nobody is known
//! to write into Kafka, is longer than its last member says; it is inflated once more, from the beginning, with all the room
//! that there is.

use bytes::Buf;
use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::Fault;

const MAGIC_AND_METHOD: [u8; 3] = [0x1f, 0x8b, 8];
const FIXED_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;
/// Deflate makes at most 258 bytes of 2 bits.
const MOST_RATIO: usize = 1032;

mod flag {
    pub(super) const HEADER_CRC: u8 = 1 << 1;
    pub(super) const EXTRA: u8 = 1 << 2;
    pub(super) const NAME: u8 = 1 << 3;
    pub(super) const COMMENT: u8 = 1 << 4;
    pub(super) const RESERVED: u8 = 0b1110_0000;
}

/// Its tables and its window.
pub(super) struct Gzip(Decompress);

impl Default for Gzip {
    fn default() -> Self {
        Self(Decompress::new(false))
    }
}

impl Gzip {
    pub(super) fn inflate(&mut self, input: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
        let mut length = input.get(input.len().saturating_sub(4)..).filter(|end| end.len() == 4).ok_or_else(cut)?;
        let likely = (length.get_u32_le() as usize).min(input.len().saturating_mul(MOST_RATIO));
        if likely < limit {
            // At least one, so that a member without content shows its end.
            let attempt = self.members(input, likely.max(1));
            if attempt != Err(Fault::Full) {
                return attempt;
            }
        }
        self.members(input, limit.min(input.len().saturating_mul(MOST_RATIO)))
    }

    /// Inflates all members into `room` bytes.
    fn members(&mut self, mut input: &[u8], room: usize) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::with_capacity(room);
        while !input.is_empty() {
            input = self.member(input, &mut out, room)?;
        }
        Ok(out)
    }

    /// Inflates one member and returns what follows it. `out` may hold `room` bytes.
    fn member<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>, room: usize) -> Result<&'a [u8], Fault> {
        let deflated = after_header(input)?;
        let before = out.len();
        self.0.reset(false);
        let status = self.0.decompress_vec(deflated, out, FlushDecompress::Finish).map_err(Fault::malformed)?;
        if out.len() > room {
            return Err(Fault::Full);
        }
        match status {
            Status::StreamEnd => {}
            _ if out.len() >= room => return Err(Fault::Full),
            _ => return Err(cut()),
        }
        let rest = usize::try_from(self.0.total_in()).ok().and_then(|read| deflated.get(read..)).ok_or_else(cut)?;
        let (mut trailer, rest) = rest.split_at_checked(TRAILER_BYTES).ok_or_else(cut)?;
        let mut crc = Crc::new();
        crc.update(&out[before..]);
        if trailer.get_u32_le() != crc.sum() || trailer.get_u32_le() != crc.amount() {
            return Err(Fault::malformed("it inflates to something else than what was deflated"));
        }
        Ok(rest)
    }
}

fn cut() -> Fault {
    Fault::malformed("it ends early")
}

/// What follows a member's header.
fn after_header(input: &[u8]) -> Result<&[u8], Fault> {
    let (header, mut rest) = input.split_at_checked(FIXED_BYTES).ok_or_else(cut)?;
    let flags = header[3];
    if header[..3] != MAGIC_AND_METHOD || flags & flag::RESERVED != 0 {
        return Err(Fault::malformed("it does not begin as gzip does"));
    }
    if flags & flag::EXTRA != 0 {
        let (mut length, behind) = rest.split_at_checked(2).ok_or_else(cut)?;
        rest = behind.get(usize::from(length.get_u16_le())..).ok_or_else(cut)?;
    }
    for text in [flag::NAME, flag::COMMENT] {
        if flags & text != 0 {
            let end = memchr::memchr(0, rest).ok_or_else(cut)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & flag::HEADER_CRC != 0 {
        rest = rest.get(2..).ok_or_else(cut)?;
    }
    Ok(rest)
}
