//! PURE. Snappy, in both forms that occur: raw, as librdkafka writes it, and in the frames of snappy-java, which Kafka's Java
//! clients write.
//!
//! ```text
//!  raw:          the inflated length as a varint   tags
//!  snappy-java:  82 "SNAPPY" 00   version (4)   compatible with (4)   │ for each block: length (4)   raw
//! ```
//!
//! Not all writers fill in the two versions alike (Redpanda's are in the other byte order), so they are not looked at; no
//! more does librdkafka. A raw block cannot begin like the frames: it would have to copy before there is anything.

use bytes::Buf;
use snap::raw::{Decoder, decompress_len};

use super::Fault;

const MAGIC: &[u8] = b"\x82SNAPPY\0";
const VERSIONS_BYTES: usize = 8;

/// A tag is at least one byte per 64 that it makes: no input can make more than this many times its own length.
const MOST_RATIO: usize = 64;

pub(super) fn inflate(input: &[u8], limit: usize) -> Result<Vec<u8>, Fault> {
    let Some(frames) = input.strip_prefix(MAGIC) else {
        let mut out = vec![0; length(input, limit)?];
        block(input, &mut out)?;
        return Ok(out);
    };
    let frames = frames.get(VERSIONS_BYTES..).ok_or_else(cut)?;
    let mut total = 0;
    for frame in Frames(frames) {
        total += length(frame?, limit - total)?;
    }
    let mut out = vec![0; total];
    let mut rest = &mut out[..];
    for frame in Frames(frames) {
        let frame = frame?;
        let (this, behind) = rest.split_at_mut(length(frame, limit)?);
        block(frame, this)?;
        rest = behind;
    }
    Ok(out)
}

fn cut() -> Fault {
    Fault::malformed("it ends early")
}

/// How long a raw block is when it is inflated, if it can be that.
fn length(block: &[u8], limit: usize) -> Result<usize, Fault> {
    if block.is_empty() {
        return Err(cut());
    }
    let length = decompress_len(block).map_err(Fault::malformed)?;
    if length > block.len().saturating_mul(MOST_RATIO) {
        return Err(Fault::malformed(format!("{length} bytes cannot come of {}", block.len())));
    }
    if length > limit { Err(Fault::Full) } else { Ok(length) }
}

fn block(input: &[u8], out: &mut [u8]) -> Result<(), Fault> {
    Decoder::new().decompress(input, out).map(drop).map_err(Fault::malformed)
}

/// The blocks of snappy-java.
struct Frames<'a>(&'a [u8]);

impl<'a> Iterator for Frames<'a> {
    type Item = Result<&'a [u8], Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let rest = std::mem::take(&mut self.0);
        let Some((mut length, rest)) = rest.split_at_checked(4) else {
            return Some(Err(cut()));
        };
        let Some((frame, rest)) = rest.split_at_checked(length.get_u32() as usize) else {
            return Some(Err(cut()));
        };
        self.0 = rest;
        Some(Ok(frame))
    }
}
