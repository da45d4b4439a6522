use std::sync::Arc;
use bytes::Bytes;
use crate::{page::Page, record::{Offset, Record, TopicPartition}, varint};
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(&'static str);
impl Damage { pub(super) fn is_too_large(&self) -> bool { false } }
#[derive(Debug)]
pub(super) struct Aborted;
impl Aborted { pub(super) fn new(_: Vec<(i64, Offset)>) -> Self { Self } pub(super) fn is_aborted(&mut self, _: &RawBatch) -> Result<bool, Damage> { Ok(false) } }
pub(super) struct Inflater(Page);
impl Inflater { pub(super) fn new(_: usize) -> Self { Self(Page::default()) } }
pub(super) struct RawBatch { pub(super) last: Offset, pub(super) control: bool, base: i64, ts: i64, count: i32, bytes: Bytes }
pub(super) struct Split(Bytes);
pub(super) fn split(b: Bytes) -> Split { Split(b) }
impl Split { pub(super) fn rest(&self) -> Bytes { self.0.clone() } }
impl Iterator for Split { type Item = Result<RawBatch, Damage>;
 fn next(&mut self) -> Option<Self::Item> {
   let b = &self.0; if b.len() < 61 { return None }
   let i32_at = |at: usize| i32::from_be_bytes(b[at..at+4].try_into().unwrap());
   let i64_at = |at: usize| i64::from_be_bytes(b[at..at+8].try_into().unwrap());
   let len = i32_at(8) as usize + 12; if b.len() < len { return None }
   let base = i64_at(0);
   let batch = RawBatch { base, last: Offset(base + i64::from(i32_at(23))), control: b[22] & 0x20 != 0, ts: i64_at(27), count: i32_at(57), bytes: b.slice(..len) };
   self.0 = b.slice(len..); Some(Ok(batch)) } }
impl RawBatch {
 pub(super) fn is_compressed(&self) -> bool { false }
 pub(super) fn check_crc(&self) -> Result<(), Damage> { let crc = u32::from_be_bytes(self.bytes[17..21].try_into().unwrap()); if crc32c::crc32c(&self.bytes[21..]) == crc { Ok(()) } else { Err(Damage("crc")) } }
 pub(super) fn records(&self, source: &Arc<TopicPartition>, from: Offset, inflater: &mut Inflater, out: &mut Vec<Record>) -> Result<(), Damage> {
  let mut b = &self.bytes[61..];
  out.reserve(self.count as usize);
  let page = &mut inflater.0;
  for _ in 0..self.count {
    let len = varint::take(&mut b).ok_or(Damage("a"))? as usize;
    let (mut r, rest) = b.split_at(len); b = rest;
    r = &r[1..];
    let ts = varint::take(&mut r).ok_or(Damage("a"))?;
    let off = varint::take(&mut r).ok_or(Damage("a"))?;
    let mut piece = |r: &mut &[u8]| { let l = varint::take(r).unwrap(); if l < 0 { None } else { let (p, rest) = r.split_at(l as usize); *r = rest; Some(page.copy(p)) } };
    let key = piece(&mut r); let value = piece(&mut r);
    let offset = Offset(self.base + off);
    if offset < from { continue }
    out.push(Record { source: Arc::clone(source), offset, timestamp_ms: self.ts + ts, key, value, headers: Vec::new(), damage: None });
  }
  Ok(()) } }
