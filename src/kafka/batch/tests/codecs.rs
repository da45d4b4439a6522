//! Compresses as the clients do that write into Kafka.

use std::io::Write;

use bytes::BufMut;
use flate2::{Compression, write::GzEncoder};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka) enum Codec {
    None,
    Gzip,
    /// As librdkafka.
    SnappyRaw,
    /// As snappy-java, with blocks of this many bytes.
    SnappyFramed(usize),
    /// As Kafka's Java clients and librdkafka: independent blocks.
    Lz4,
    /// As kafka-python, with all that the format allows.
    Lz4Linked,
    Zstd,
}

impl Codec {
    pub(in crate::kafka) const ALL: [Self; 7] =
        [Self::None, Self::Gzip, Self::SnappyRaw, Self::SnappyFramed(100), Self::Lz4, Self::Lz4Linked, Self::Zstd];

    pub(super) fn any() -> impl Strategy<Value = Self> {
        prop::sample::select(&Self::ALL[..])
    }

    pub(super) fn id(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::SnappyRaw | Self::SnappyFramed(_) => 2,
            Self::Lz4 | Self::Lz4Linked => 3,
            Self::Zstd => 4,
        }
    }

    pub(super) fn compress(self, content: &[u8]) -> Vec<u8> {
        match self {
            Self::None => content.to_vec(),
            Self::Gzip => gzip(content, Compression::default()),
            Self::SnappyRaw => snappy(content),
            Self::SnappyFramed(block) => snappy_java(content.chunks(block), 1),
            Self::Lz4 => lz4(content, FrameInfo::new().block_size(BlockSize::Max64KB)),
            Self::Lz4Linked => {
                let info = FrameInfo::new()
                    .block_size(BlockSize::Max64KB)
                    .block_mode(BlockMode::Linked)
                    .block_checksums(true)
                    .content_checksum(true)
                    .content_size(Some(content.len() as u64));
                lz4(content, info)
            }
            Self::Zstd => compress_to_vec(content, CompressionLevel::Fastest),
        }
    }
}

pub(super) fn gzip(content: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), level);
    encoder.write_all(content).expect("a vector takes all");
    encoder.finish().expect("a vector takes all")
}

pub(super) fn snappy(content: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(content).expect("not too long")
}

/// `version` stands for both versions in the frames' header.
pub(super) fn snappy_java<'a>(blocks: impl Iterator<Item = &'a [u8]>, version: u32) -> Vec<u8> {
    let mut out = b"\x82SNAPPY\0".to_vec();
    out.put_u32(version);
    out.put_u32(version);
    for block in blocks {
        let block = snappy(block);
        out.put_u32(block.len() as u32);
        out.extend(block);
    }
    out
}

pub(super) fn lz4(content: &[u8], info: FrameInfo) -> Vec<u8> {
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(content).expect("a vector takes all");
    encoder.finish().expect("a whole frame")
}
