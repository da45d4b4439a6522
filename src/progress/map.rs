//! PURE. A set of finished offsets as bytes: runs, then bits, each where it is shorter.
//!
//! ```text
//!   base      unfinished, finished, unfinished, finished, …          then a bit for each offset
//!   ├───────────────┼─────────┼──────────┼───────────────┼───────────────────────────────────────┤
//!                           runs: two numbers each             bits: one a byte's eighth
//! ```
//!
//! The common shape is one slow task far below, a long run behind it, and a front at which tasks finish in any order: two
//! numbers, and bits for the front. Only runs, and only bits, are cases of it.

use bytes::{BufMut, BytesMut};

use super::finished::{Finished, Run};
use crate::{record::Offset, varint};

/// What is kept of a set.
#[derive(Debug)]
pub(super) struct Map {
    pub(super) runs: BytesMut,
    pub(super) bits: Vec<u8>,
    /// Where it had to be cut off: what lies there and above is not in it.
    pub(super) cut: Option<Offset>,
}

/// Why bytes are no map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoMap(pub(super) &'static str);

/// Where runs end and bits begin.
#[derive(Clone, Copy)]
struct Split {
    /// The number of runs.
    runs: usize,
    /// The bytes that they take.
    run_bytes: usize,
    /// The bytes for the bits behind them.
    bit_bytes: usize,
    /// How far it reaches.
    reach: Offset,
}

/// The shortest map of a set from `base` on; or, where `most_bytes` do not hold all of it, one
/// that reaches as far as they can.
pub(super) fn write(base: Offset, finished: &Finished, most_bytes: usize) -> Map {
    let split = best_split(base, finished, most_bytes);
    let mut runs = BytesMut::with_capacity(split.run_bytes);
    let mut at = base;
    for run in &finished.runs()[..split.runs] {
        varint::put(&mut runs, run.first.0 - at.0);
        varint::put(&mut runs, run.end.0 - run.first.0);
        at = run.end;
    }
    let mut bits = vec![0; split.bit_bytes];
    for run in &finished.runs()[split.runs..] {
        let place = |offset: Offset| (offset.min(split.reach).0 - at.0) as usize;
        for bit in place(run.first)..place(run.end) {
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    bits.truncate(bits.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    let cut = finished.end().is_some_and(|end| split.reach < end).then_some(split.reach);
    Map { runs, bits, cut }
}

fn best_split(base: Offset, finished: &Finished, most_bytes: usize) -> Split {
    let end = finished.end().unwrap_or(base);
    let (mut at, mut run_bytes) = (base, 0);
    let mut best = None::<Split>;
    for runs in 0..=finished.runs().len() {
        if run_bytes > most_bytes {
            break;
        }
        let wanted = usize::try_from(end.0 - at.0).unwrap_or(usize::MAX).div_ceil(8);
        let bit_bytes = wanted.min(most_bytes - run_bytes);
        let reach = if bit_bytes == wanted { end } else { at + bit_bytes as i64 * 8 };
        let split = Split { runs, run_bytes, bit_bytes, reach };
        let is_better = |best: &Split| {
            let size = |split: &Split| split.run_bytes + split.bit_bytes;
            split.reach > best.reach || split.reach == best.reach && size(&split) < size(best)
        };
        if best.as_ref().is_none_or(is_better) {
            best = Some(split);
        }
        if let Some(run) = finished.runs().get(runs) {
            run_bytes += varint::size(run.first.0 - at.0) + varint::size(run.end.0 - run.first.0);
            at = run.end;
        }
    }
    best.expect("no run takes no bytes")
}

/// Reads a map. Each run takes bytes of the input, so that the set is at most a small multiple of it.
pub(super) fn read(base: Offset, mut runs: &[u8], bits: &[u8]) -> Result<Finished, NoMap> {
    let mut finished = Finished::default();
    let mut at = base.0;
    while !runs.is_empty() {
        let (gap, count) = (length(&mut runs)?, length(&mut runs)?);
        if count == 0 || gap == 0 && at > base.0 {
            return Err(NoMap("a run has no length"));
        }
        let first = at.checked_add(gap).ok_or(NoMap("its runs lie beyond all offsets"))?;
        at = first.checked_add(count).ok_or(NoMap("its runs lie beyond all offsets"))?;
        finished.push(Run::new(Offset(first), Offset(at)));
    }
    if bits.last() == Some(&0) {
        return Err(NoMap("its bits end with none"));
    }
    if at.checked_add(bits.len() as i64 * 8).is_none() {
        return Err(NoMap("its bits lie beyond all offsets"));
    }
    push_bits(&mut finished, Offset(at), bits);
    Ok(finished)
}

fn length(runs: &mut &[u8]) -> Result<i64, NoMap> {
    varint::take(runs).ok().filter(|length| *length >= 0).ok_or(NoMap("the length of a run is none"))
}

/// Adds an offset for each bit that is set, the least significant bit of the first byte being `at`.
pub(super) fn push_bits(finished: &mut Finished, at: Offset, bits: &[u8]) {
    for (place, byte) in bits.iter().enumerate() {
        let first = at + place as i64 * 8;
        if *byte == u8::MAX {
            finished.push(Run::new(first, first + 8));
            continue;
        }
        for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
            finished.push(Run::new(first + bit, first + bit + 1));
        }
    }
}

/// A field of a string: what it is, how long it is, and itself. Nothing is written for one without content.
pub(super) fn put_field(bytes: &mut BytesMut, tag: u8, content: &[u8]) {
    if content.is_empty() {
        return;
    }
    bytes.put_u8(tag);
    varint::put(bytes, content.len() as i64);
    bytes.put_slice(content);
}

/// The bytes that a field takes beside its content, at the most.
pub(super) const FIELD_HEAD: usize = 4;

/// The next field, or `None` where only zeros are left.
pub(super) fn take_field<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, NoMap> {
    let Some((&tag, mut rest)) = bytes.split_first() else { return Ok(None) };
    if tag == 0 {
        let padded = rest.iter().all(|byte| *byte == 0);
        *bytes = &[];
        return if padded { Ok(None) } else { Err(NoMap("there is something behind its end")) };
    }
    let length = varint::take(&mut rest).ok().and_then(|length| usize::try_from(length).ok());
    let field = length.and_then(|length| rest.split_at_checked(length));
    let (content, rest) = field.ok_or(NoMap("a field is longer than it"))?;
    *bytes = rest;
    Ok(Some((tag, content)))
}
