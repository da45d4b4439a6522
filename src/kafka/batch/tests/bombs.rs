//! Little that claims to be, or is, very much: it is refused, and memory stays within the limit.

use std::process::Command;

use bytes::{BufMut, Bytes};
use flate2::Compression as Level;
use lz4_flex::frame::{BlockSize, FrameInfo};
use rustix::process::{Resource, Rlimit, setrlimit};

use super::{Codec, Plan, Planned, codecs, first, framed, source};
use crate::{
    kafka::batch::{DamageKind, Inflater},
    record::Offset,
};

const LIMIT: usize = 32 << 20;
/// What `Inflater::new` says that a batch may take beyond the limit, and some for the test itself.
const BEYOND: usize = 28 << 20;
const CHILD: &str = "LONGSHORE_TEST_BOMBS";

/// What becomes of `body` as the content of a batch of one record.
fn outcome(codec: Codec, body: &[u8], limit: usize) -> DamageKind {
    let plan = Plan { codec, ..Plan::new(vec![Planned::new(0, "")]) };
    let batch = first(plan.encode_with(body)).expect("a batch").expect("a good header");
    let mut out = Vec::new();
    let outcome = batch.records(&source(), Offset(0), &mut Inflater::new(limit), &mut out);
    let kind = outcome.expect_err("far too large").kind;
    // Some of what cannot be allocated is a panic.
    assert!(!kind.to_string().contains("its decoder failed"), "a decoder panicked");
    kind
}

/// A zstd frame: its flags, what they name, and its blocks.
fn zstd(header: &[u8], blocks: &[Vec<u8>]) -> Vec<u8> {
    let end = vec![1, 0, 0];
    [&b"\x28\xb5\x2f\xfd"[..], header, &blocks.concat(), &end].concat()
}

fn zstd_block(kind: u64, size: u64, content: &[u8]) -> Vec<u8> {
    let mut block = (size << 3 | kind << 1).to_le_bytes()[..3].to_vec();
    block.extend(content);
    block
}

/// Each is a few megabytes at the most, and more than [`LIMIT`] when it is inflated, or claims to be.
fn bombs() -> Vec<(&'static str, Codec, Vec<u8>)> {
    let zeros = vec![0; LIMIT + 1];
    let info = |size| FrameInfo::new().block_size(size);
    let mut bombs = vec![
        ("gzip", Codec::Gzip, codecs::gzip(&zeros, Level::best())),
        ("gzip that claims to be short", Codec::Gzip, {
            let mut bomb = codecs::gzip(&zeros, Level::best());
            let end = bomb.len() - 4;
            bomb[end..].copy_from_slice(&(LIMIT as u32 - 1).to_le_bytes());
            bomb
        }),
        ("snappy", Codec::SnappyRaw, codecs::snappy(&zeros)),
        ("snappy-java", Codec::SnappyRaw, codecs::snappy_java(zeros.chunks(1 << 20), 1)),
        ("lz4, small blocks", Codec::Lz4, codecs::lz4(&zeros, info(BlockSize::Max64KB))),
        ("lz4, large blocks", Codec::Lz4, codecs::lz4(&zeros, info(BlockSize::Max4MB))),
        ("zstd", Codec::Zstd, codecs::Codec::Zstd.compress(&zeros)),
    ];
    drop(zeros);
    let run = zstd_block(1, 128 << 10, b"x");
    // A compressed block without sequences and with a run as its literals: of six bytes a megabyte, which is not allowed.
    let literals = |count: u64| {
        let mut content = (count << 4 | 0b11 << 2 | 1).to_le_bytes()[..3].to_vec();
        content.extend(b"x\0");
        zstd_block(2, content.len() as u64, &content)
    };
    // 10 + exponent: windows of 2, 8 and 128 MiB, and one of 1 TiB.
    for (name, window) in [("2 MiB", 11 << 3), ("8 MiB", 13 << 3), ("128 MiB", 17 << 3), ("1 TiB", 30 << 3)] {
        let header = &[0, window][..];
        bombs.push((name, Codec::Zstd, zstd(header, &vec![run.clone(); (LIMIT >> 17) + 1])));
        bombs.push((name, Codec::Zstd, zstd(header, &vec![literals(128 << 10); (LIMIT >> 17) + 1])));
        bombs.push((name, Codec::Zstd, zstd(header, &vec![literals((1 << 20) - 1); 2000])));
        // So few blocks that they would be little, if they were as large as they may be.
        bombs.push((name, Codec::Zstd, zstd(header, &vec![literals((1 << 20) - 1); 35])));
    }
    let mut declared = vec![0b1110_0000];
    declared.put_u64_le(1 << 40);
    bombs.push(("1 TiB declared", Codec::Zstd, zstd(&declared, &vec![run.clone(); 2000])));
    // A small frame with a large window before so much else that the limit is full.
    let mixed = [zstd(&[0, 17 << 3], &vec![run.clone(); 40]), zstd(&[0, 11 << 3], &vec![run; 400])].concat();
    bombs.push(("a large window among others", Codec::Zstd, mixed));
    bombs
}

/// Lies that need not be inflated to be known: hardly any bytes, and as much memory as they please.
fn lies() -> Vec<(&'static str, Codec, Vec<u8>)> {
    let empty_blocks = |count: usize| {
        let blocks = [&1_u32.to_le_bytes()[..], &[0]].concat().repeat(count);
        [&b"\x04\x22\x4d\x18\x60\x70\0"[..], &blocks, &[0; 4]].concat()
    };
    vec![
        ("snappy", Codec::SnappyRaw, b"\xff\xff\xff\xff\x0f".to_vec()),
        ("snappy-java", Codec::SnappyRaw, b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\xff\xff\xff\xf0".to_vec()),
        ("gzip", Codec::Gzip, [&codecs::gzip(b"", Level::fast())[..14], &[0xff; 4]].concat()),
        ("gzip, much of it", Codec::Gzip, {
            let mut long = codecs::gzip(&vec![b'x'; 1 << 20], Level::none());
            let end = long.len() - 4;
            long[end..].copy_from_slice(&u32::MAX.to_le_bytes());
            long
        }),
        ("lz4 in empty blocks", Codec::Lz4, empty_blocks(1 << 20)),
        (
            "zstd, a small window and blocks that make too much",
            Codec::Zstd,
            zstd(&[0, 0], &vec![zstd_block(1, 1 << 17, b"x"); 99]),
        ),
    ]
}

#[test]
fn bombs_are_too_large() {
    for (name, codec, bomb) in bombs() {
        assert!(bomb.len() < LIMIT / 8, "{name}: {} bytes are no bomb", bomb.len());
        let kind = outcome(codec, &bomb, LIMIT);
        let unlike = matches!(&kind, DamageKind::Inflate { reason, .. } if reason.contains("literals") || reason.contains("window") || reason.contains("something else"));
        assert!(kind == DamageKind::TooLarge { limit: LIMIT } || unlike, "{name}: {kind}");
    }
}

#[test]
fn lies_are_seen_through() {
    for (name, codec, lie) in lies() {
        let kind = outcome(codec, &lie, LIMIT);
        assert!(!matches!(kind, DamageKind::TooLarge { .. }), "{name}: {kind}");
    }
}

#[test]
fn just_the_limit_is_not_too_large() {
    for codec in Codec::ALL {
        let plan = Plan { codec, ..Plan::new(vec![Planned::new(0, &"x".repeat(300_000))]) };
        let length = plan.content().len();
        let batch = first(plan.encode()).expect("a batch").expect("good");
        let records = size_of::<crate::Record>();
        let read = |limit| batch.records(&source(), Offset(0), &mut Inflater::new(limit), &mut Vec::new());
        let inflated = if codec == Codec::None { 0 } else { length };
        assert_eq!(read(inflated + records), Ok(()), "{codec:?}");
        for limit in [inflated + records - 1, inflated.saturating_sub(1), 1, 0] {
            let kind = read(limit).expect_err("too large").kind;
            assert_eq!(kind, DamageKind::TooLarge { limit }, "{codec:?}");
        }
    }
}

#[test]
fn records_that_are_hardly_there_count_too() {
    let tiny = framed(&[0, 0, 0, 1, 1, 0]);
    let count = 100_000;
    let mut body = Vec::new();
    for at in 0..count {
        body.extend(framed(&Planned { value: None, timestamp: 0, ..Planned::new(at, "") }.encode(0)));
    }
    assert_eq!(body[..7], tiny);
    let plan = Plan { base_timestamp: 0, ..Plan::new((0..count).map(|at| Planned::new(at, "")).collect()) };
    let batch = first(plan.encode_with(&body)).expect("a batch").expect("good");
    let limit = size_of::<crate::Record>() * count as usize;
    let read = |limit| batch.records(&source(), Offset(0), &mut Inflater::new(limit), &mut Vec::new());
    assert_eq!(read(limit), Ok(()));
    assert_eq!(read(limit - 1).expect_err("too large").kind, DamageKind::TooLarge { limit: limit - 1 });
}

#[test]
fn headers_that_are_hardly_there_count_too() {
    let headers = vec![(Vec::new(), None); 100_000];
    let plan = Plan::new(vec![Planned { headers, ..Planned::new(0, "") }]);
    let batch = first(Bytes::from(plan.encode())).expect("a batch").expect("good");
    let limit = size_of::<crate::Record>() + 100_000 * size_of::<crate::record::Header>();
    let read = |limit| batch.records(&source(), Offset(0), &mut Inflater::new(limit), &mut Vec::new());
    assert_eq!(read(limit), Ok(()));
    assert_eq!(read(limit - 1).expect_err("too large").kind, DamageKind::TooLarge { limit: limit - 1 });
}

/// In a process of its own, whose address space is as it is when it begins, and so much more as is allowed. What allocates
/// more than that is aborted.
#[test]
fn bombs_do_not_take_more_memory_than_is_allowed() {
    if std::env::var_os(CHILD).is_some() {
        return explode();
    }
    let name = "kafka::batch::tests::bombs::bombs_do_not_take_more_memory_than_is_allowed";
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    let child = child.args([name, "--exact", "--test-threads=1"]).env(CHILD, "1");
    // What is freed is given back at once, and so is not there to be used again, unseen.
    let settings = ["MALLOC_ARENA_MAX", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "RUST_BACKTRACE"];
    let child = child.envs(settings.into_iter().zip(["1", "65536", "65536", "0"]));
    let output = child.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

fn explode() {
    let mut bombs: Vec<_> = bombs().into_iter().chain(lies()).collect();
    // What making them took must not be there to be used again.
    bombs.iter_mut().for_each(|(_, _, bomb)| bomb.shrink_to_fit());
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').next().and_then(|pages| pages.parse().ok()).expect("a number");
    let most = pages * 4096 + (LIMIT + BEYOND) as u64;
    setrlimit(Resource::As, Rlimit { current: Some(most), maximum: None }).expect("a limit of one's own");
    for (_, codec, bomb) in bombs {
        outcome(codec, &bomb, LIMIT);
    }
}
