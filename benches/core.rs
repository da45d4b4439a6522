//! The PURE core by itself, without Kafka, threads or a clock: what one message costs each part of it.
//!
//! ```text
//!   tracker     fetched ▶ start ▶ finish, in order, out of order, and behind one that does not finish
//!   scheduler   fetched ▶ load ▶ done ▶ (write ▶ written) ▶ freed, with all workers free at the start of each chunk
//!   fate        a task's answer becomes the record to write
//!   format      is a value well-formed
//!   batch       the records of a Fetch response, as it came and from lz4
//! ```
//!
//! The rate that is shown is messages a second on one thread. `cargo test --all-targets` starts this without `--bench`:
//! then each runs once, for its assertions. Deliberately not here: everything end to end
//! (`benches/compare`).

use std::{
    hint::black_box,
    io::Write,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes};
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use longshore::{
    Answer, Record,
    fate::{self, Done, Ending, Fate, Judge, Kind, OnFailure, Policy, Step, Verdict},
    kafka::batch::{Inflater, split},
    page::Page,
    progress::{Finished, Notes},
    record::{AssignmentId, Headers, LeaderEpoch, Offset, Outgoing, TopicId, TopicPartition},
    scheduler::{Assignment, Kept, Load, Looked, Rules, Scheduler, Taken, TopicAsk, Written},
    task::Format,
    tracker::{SPAN, Tracker},
};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// As many records as a fetch loop gives to the engine at once, at the most.
const CHUNK: usize = 512;
const PARTITIONS: u64 = 4;
const WORKERS: usize = 64;
/// How many run at once where they finish in random order.
const WINDOW: usize = 10_000;
/// A task that is long enough to travel alone.
const LONG: Duration = Duration::from_millis(1);
const MESSAGE_BYTES: usize = 256;
/// As many records as librdkafka and Kafka's own tools put into a batch of a megabyte, about.
const BATCH: usize = 3500;
const ANSWER: &[u8] = br#"{"status":"ok","topic":"scenarios","partition":3,"offset":1234567,"took_ms":5000}"#;
/// What Longshore itself adds to an answer.
const ANSWER_HEADERS: usize = 4;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    trackers(&mut criterion);
    schedulers(&mut criterion);
    fates(&mut criterion);
    formats(&mut criterion);
    batches(&mut criterion);
    criterion.final_summary();
}

fn trackers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tracker");
    in_order(&mut group);
    random_order(&mut group);
    one_stuck(&mut group);
    group.finish();
}

fn in_order(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut tracker = Tracker::new(Offset(0), SPAN);
    group.throughput(Throughput::Elements(CHUNK as u64));
    group.bench_function("in order", |bencher| {
        bencher.iter(|| {
            fetch(&mut tracker, CHUNK);
            while let Some((offset, ())) = tracker.start() {
                tracker.finish(offset);
            }
            assert_eq!(tracker.committable(), tracker.next());
        });
    });
}

/// Any of those that run may be the next to finish, and another takes its place.
fn random_order(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut tracker = Tracker::new(Offset(0), SPAN);
    fetch(&mut tracker, WINDOW);
    let mut running: Vec<Offset> = std::iter::from_fn(|| tracker.start()).map(|(offset, ())| offset).collect();
    group.throughput(Throughput::Elements(CHUNK as u64));
    group.bench_function("in random order, 10,000 at once", |bencher| {
        bencher.iter(|| {
            fetch(&mut tracker, CHUNK);
            while let Some((offset, ())) = tracker.start() {
                let finished = std::mem::replace(&mut running[rng.usize(..WINDOW)], offset);
                tracker.finish(finished);
            }
            assert_eq!(tracker.begun(), WINDOW);
            black_box(tracker.committable());
        });
    });
}

/// The lowest does not finish until the span is used up by those above it.
fn one_stuck(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.throughput(Throughput::Elements(SPAN as u64));
    group.bench_function("one stuck, the whole span above it", |bencher| {
        bencher.iter(|| {
            let mut tracker = Tracker::new(Offset(0), SPAN);
            fetch(&mut tracker, 1);
            let (stuck, ()) = tracker.start().expect("it waits");
            while tracker.next() < Offset(SPAN as i64) {
                fetch(&mut tracker, 1);
                let (offset, ()) = tracker.start().expect("within the span");
                tracker.finish(offset);
            }
            fetch(&mut tracker, 1);
            assert!(!tracker.can_start() && tracker.committable() == stuck);
            tracker.finish(stuck);
            tracker.committable()
        });
    });
}

fn fetch(tracker: &mut Tracker<()>, count: usize) {
    for _ in 0..count {
        tracker.fetched(tracker.next(), ());
    }
}

fn schedulers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scheduler, 64 workers");
    group.throughput(Throughput::Elements(CHUNK as u64));
    let cases = [
        ("short tasks, no reply", Duration::ZERO, false),
        ("short tasks, replies", Duration::ZERO, true),
        ("long tasks, no reply", LONG, false),
        ("long tasks, replies", LONG, true),
    ];
    for (name, took, reply) in cases {
        let mut topic = Topic::new();
        let mut engine = Engine::new(&topic, took, reply);
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| topic.chunk(), |chunk| engine.work_off(chunk), BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// The source: chunks of each partition in turn.
struct Topic {
    partitions: Vec<(Arc<TopicPartition>, Offset)>,
    turn: usize,
}

struct Chunk {
    id: AssignmentId,
    records: Vec<Record>,
    next: Offset,
}

impl Topic {
    fn new() -> Self {
        let name: Arc<str> = "scenarios".into();
        let partition = |number| Arc::new(TopicPartition::new(Arc::clone(&name), number as i32));
        Self { partitions: (0..PARTITIONS).map(|number| (partition(number), Offset(0))).collect(), turn: 0 }
    }

    fn taken(&self) -> Taken {
        let assignment = |(source, start): &(Arc<TopicPartition>, Offset)| Assignment {
            source: Arc::clone(source),
            start: *start,
            committed: None,
            finished: Finished::default(),
            notes: Notes::default(),
            end: None,
            latest: *start,
            epoch: LeaderEpoch(0),
        };
        let topic = Arc::clone(&self.partitions[0].0.topic);
        let assignments = self.partitions.iter().map(assignment).collect();
        Taken { topic, id: TopicId::default(), there: [].into(), assignments }
    }

    fn chunk(&mut self) -> Chunk {
        let id = AssignmentId(self.turn as u64);
        let (source, next) = &mut self.partitions[self.turn];
        self.turn = (self.turn + 1) % PARTITIONS as usize;
        let record = |offset| Record { offset, ..record(Arc::clone(source)) };
        let records = (0..CHUNK as i64).map(|count| record(*next + count)).collect();
        *next = *next + CHUNK as i64;
        Chunk { id, records, next: *next }
    }
}

fn record(source: Arc<TopicPartition>) -> Record {
    let (key, value) =
        (Some(Bytes::from_static(b"scenario-1234567")), Some(Bytes::from_static(&[b'7'; MESSAGE_BYTES])));
    Record { source, offset: Offset(0), timestamp_ms: 0, key, value, headers: Vec::new(), attempt: 1, damage: None }
}

/// What the engine does around its scheduler, without threads, sockets and a clock.
struct Engine {
    scheduler: Scheduler,
    now: Instant,
    took: Duration,
    reply: bool,
    rng: fastrand::Rng,
    running: Vec<Load>,
}

impl Engine {
    fn new(topic: &Topic, took: Duration, reply: bool) -> Self {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let rules = Rules { span: SPAN, ..Rules::of(WORKERS, second, second) };
        let mut scheduler = Scheduler::new(rules, now);
        scheduler.assign(vec![topic.taken()], now);
        while scheduler.poll_begin().is_some() {}
        Self { scheduler, now, took, reply, rng: fastrand::Rng::with_seed(1), running: Vec::with_capacity(WORKERS) }
    }

    /// Takes a chunk in and ends its loads in random order; after each event comes a round of polling, as in the engine.
    fn work_off(&mut self, chunk: Chunk) {
        let mut freed = 0;
        self.scheduler.handle_fetched(chunk.id, chunk.records, (chunk.next, LeaderEpoch(0)), chunk.next, self.now);
        loop {
            freed += self.poll();
            if self.running.is_empty() {
                break;
            }
            let load = self.running.swap_remove(self.rng.usize(..self.running.len()));
            let done = load.records.into_iter().map(|record| done(record, self.took, self.reply)).collect();
            self.scheduler.handle_done(load.assignment, done, self.now);
            self.scheduler.handle_load_ended();
        }
        assert_eq!(freed, CHUNK, "what comes in goes out");
    }

    /// Gives how many records were freed.
    fn poll(&mut self) -> usize {
        while let Some(load) = self.scheduler.poll_load(self.now) {
            self.running.push(load);
        }
        while let Some(write) = self.scheduler.poll_write() {
            black_box(write.record);
            self.scheduler.handle_written(Written::Acknowledged(write.ticket), self.now);
        }
        let freed = std::iter::from_fn(|| self.scheduler.poll_freed()).map(|(_, freed)| freed.records).sum();
        if let Some(ask) = self.scheduler.poll_ask(self.now) {
            let kept = |ask: TopicAsk| Looked {
                topic: ask.topic,
                findings: Vec::new(),
                kept: Kept::AllBut([].into()),
                said: Default::default(),
            };
            self.scheduler.handle_looked(ask.topics.into_iter().map(kept).collect(), self.now);
        }
        black_box(self.scheduler.look_due());
        black_box(self.scheduler.poll_timeout());
        assert!(self.scheduler.poll_end(self.now).is_none());
        freed
    }
}

fn done(record: Record, took: Duration, reply: bool) -> Done {
    let (offset, size) = (record.offset, record.size());
    let answer = Outgoing { key: record.key, value: Some(Bytes::from_static(ANSWER)), headers: Headers::default() };
    let step = Step { kind: Kind::Reply, record: answer, then: None, instead: None };
    let fate = if reply { Fate::Write(step) } else { Fate::Silent };
    Done { offset, size, took, ending: Ending::Succeeded, fate }
}

fn fates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fate");
    group.throughput(Throughput::Elements(CHUNK as u64));
    let policy = Policy { reply: true, dead_letter: true, on_failure: OnFailure::Stop };
    let mut page = Page::default();
    let mut topic = Topic::new();
    // The task has made its answer anew, so that the end of that allocation is in the figure.
    let mut ended = || {
        let verdict = || Verdict::Succeeded(Answer::value(ANSWER.to_vec()));
        topic.chunk().records.into_iter().map(|record| (record, verdict())).collect::<Vec<_>>()
    };
    group.bench_function("an answer with 4 headers", |bencher| {
        let decide = |ended: Vec<(Record, Verdict)>| -> Vec<Done> {
            let mut judge = Judge { policy, group: "workers", page: &mut page };
            let decide = |(record, verdict)| fate::decide(record, verdict, LONG, &mut judge);
            let done: Vec<Done> = ended.into_iter().map(decide).collect();
            let Some(Done { fate: Fate::Write(step), .. }) = done.last() else { panic!("an answer is written") };
            assert_eq!(step.record.headers.len(), ANSWER_HEADERS);
            done
        };
        bencher.iter_batched(&mut ended, decide, BatchSize::PerIteration);
    });
    group.finish();
}

fn formats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("format");
    group.throughput(Throughput::Elements(1));
    let mut value = br#"{"id":1234567,"name":"flood","area":[52.52,13.405,53.55,9.993],"dry":false,"text":""#.to_vec();
    value.resize(MESSAGE_BYTES - 2, b'x');
    value.extend(br#""}"#);
    let record = Record { value: Some(value.into()), ..record(Arc::new(TopicPartition::new("scenarios", 0))) };
    assert_eq!(record.value.as_ref().map(Bytes::len), Some(MESSAGE_BYTES));
    assert_eq!(Format::Json.check(&record), Ok(()));
    group.bench_function("json, 256 bytes", |bencher| bencher.iter(|| Format::Json.check(black_box(&record))));
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    let source = Arc::new(TopicPartition::new("scenarios", 0));
    let plain = batch_content();
    let lz4 = {
        // As Kafka's clients do it: independent blocks of 64 KiB.
        let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain).and_then(|()| Ok(encoder.finish()?)).expect("a vector takes all")
    };
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, codec, content) in [("uncompressed, 256 bytes", 0, plain), ("lz4, 256 bytes", 3, lz4)] {
        let batch = batch(codec, &content);
        let (mut inflater, mut records) = (Inflater::new(64 << 20), Vec::new());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                records.clear();
                for batch in split(batch.clone()) {
                    let batch = batch.expect("a batch");
                    batch.check_crc().expect("good");
                    batch.records(&source, Offset(0), &mut inflater, &mut records).expect("good");
                }
                assert_eq!(records.len(), BATCH);
            });
        });
    }
    group.finish();
}

/// The records of a batch without its header: a key of 16 bytes, a value of [`MESSAGE_BYTES`] that compresses about as JSON
/// does.
fn batch_content() -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut content = Vec::new();
    for at in 0..BATCH as u16 {
        let mut record = vec![0, 0];
        varint(&mut record, at);
        varint(&mut record, 16);
        record.extend(format!("scenario-{:07}", rng.u32(..10_000_000)).bytes());
        varint(&mut record, MESSAGE_BYTES as u16);
        record.extend(
            (0..MESSAGE_BYTES / 8).flat_map(|_| if rng.bool() { *b"\"name\":\"" } else { rng.u64(..).to_le_bytes() }),
        );
        record.push(0);
        varint(&mut content, record.len() as u16);
        content.extend(record);
    }
    content
}

fn batch(codec: i16, content: &[u8]) -> Bytes {
    let mut batch = Vec::new();
    batch.put_i64(0);
    batch.put_i32(49 + content.len() as i32);
    batch.put_i32(0);
    batch.put_i8(2);
    batch.put_u32(0);
    batch.put_i16(codec);
    batch.put_i32(BATCH as i32 - 1);
    batch.put_bytes(0, 8 + 8);
    batch.put_i64(-1);
    batch.put_i16(-1);
    batch.put_i32(-1);
    batch.put_i32(BATCH as i32);
    batch.extend_from_slice(content);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// A number that is not negative, in zigzag.
fn varint(out: &mut Vec<u8>, number: u16) {
    let mut rest = u32::from(number) * 2;
    while rest > 127 {
        out.push(rest as u8 | 128);
        rest >>= 7;
    }
    out.push(rest as u8);
}
