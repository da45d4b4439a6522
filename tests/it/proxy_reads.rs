//! Every reader behind a bad network, one fetch at a time: what it gives is right or nothing, and it goes on by itself.
//!
//! The broker is the one in memory, or a real one whose addresses are in `LONGSHORE_TEST_KAFKA`
//! (`tests/kafka/cluster readers_behind_a_bad_network`).

use std::{
    ops::Range,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use longshore::{
    broker::{ApiKey, Broker, Options},
    kafka::{
        Deadlines, Isolation,
        data_plane::DataPlane,
        reader::{RskafkaReader, WireReaders},
        wire::Cluster,
        writer::WireWriter,
    },
    record::{Headers, Offset, Outgoing, Record, TopicId, TopicPartition},
    sink::PartitionWriter,
    source::{Batch, PartitionReader, ReadError},
};

use crate::proxy::{Fault, Gates, Nowhere, Proxy};

/// Short, because much in here is waited for in vain.
const DEADLINES: Deadlines = Deadlines { connect: Duration::from_millis(500), request: Duration::from_millis(500) };
const MAX_WAIT: Duration = Duration::from_millis(50);
/// How many fetches it may take until all is well after a fault. A machine that is late makes some of them late.
const ATTEMPTS: usize = 10;
/// How many proxies and readers share the work of a test that mostly waits.
const LANES: usize = 8;

/// The tests below, for each reader that there is.
macro_rules! each_reader {
    ($($reader:ident, waiting for $waits:expr, $make:expr;)*) => {
        $(mod $reader {
            use super::*;

            #[test]
            fn a_response_cut_at_any_byte_gives_nothing_and_the_next_one_all() {
                cut_at_any_byte($make);
            }

            #[test]
            fn a_flipped_bit_anywhere_gives_no_wrong_record() {
                any_flipped_bit($make, $waits);
            }

            #[test]
            fn a_response_that_trickles_in_is_read() {
                trickles_in($make);
            }

            #[test]
            fn a_response_that_never_comes_is_given_up_in_time() {
                never_comes($make);
            }

            #[test]
            fn a_broker_that_accepts_nothing_is_passed_by() {
                accepts_nothing($make);
            }
        })*
    };
}

/// The bits of a response to a Fetch that make its throttle time one of a second to five minutes. They give no record, and
/// are obeyed: to wait for each would take an hour.
const THROTTLE: Range<usize> = 41..62;

each_reader! {
    rskafka, waiting for 0..0, |cluster, source| RskafkaReader::new(DataPlane::new(cluster), source);
    wire, waiting for THROTTLE, |cluster, source| {
        let readers = WireReaders::new(&cluster, Isolation::default(), 1 << 20);
        readers.partition(source.into(), TopicId::default())
    };
}

/// Makes a reader of a partition.
type Make<R> = fn(Cluster, TopicPartition) -> R;

/// A topic with one batch of a few records, the way there, and how they are to be read.
struct Small {
    proxy: Proxy,
    source: TopicPartition,
    right: Vec<Record>,
    /// Unless it is a real one.
    _broker: Option<Broker>,
}

impl Small {
    async fn start<R: PartitionReader>(make: Make<R>) -> Self {
        static TOPICS: AtomicU32 = AtomicU32::new(0);
        let (broker, addresses) = match std::env::var("LONGSHORE_TEST_KAFKA") {
            Ok(real) => (None, real.split(',').map(str::to_owned).collect()),
            Err(_) => {
                let broker = Broker::start(Options::default()).expect("a broker");
                let address = broker.address();
                (Some(broker), vec![address])
            }
        };
        let number = TOPICS.fetch_add(1, Ordering::Relaxed);
        let source = TopicPartition::new(format!("proxied-{}-{number}", std::process::id()), 0);
        let patient = Deadlines::default();
        let straight = cluster_within(&addresses, patient);
        straight.create_topic(&source.topic, Some(1)).await.expect("a new topic");
        let values = ["first", "second", "third"];
        let outgoing =
            values.map(|value| Outgoing { key: None, value: Some(value.into()), headers: Headers::default() });
        let mut writer = WireWriter::new(straight.clone(), &*source.topic, 0);
        for left in (0..100).rev() {
            // A real one that has just started has things to do first.
            match writer.write(&outgoing).await {
                Ok(()) => break,
                Err(error) => assert!(left > 0, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let read = make(straight, source.clone()).fetch(Offset(0), 1 << 20, patient.request).await.expect("read");
        let found: Vec<_> = read.records.iter().map(|record| record.value.as_deref().expect("a value")).collect();
        assert_eq!(found, values.map(str::as_bytes));
        Self { proxy: Proxy::before(addresses), source, right: read.records, _broker: broker }
    }

    /// A reader behind the proxy.
    fn reader<R>(&self, make: Make<R>) -> R {
        make(cluster(&[self.proxy.address()]), self.source.clone())
    }

    fn is_right(&self, batch: &Batch) -> bool {
        batch.records == self.right && batch.next == Offset(3)
    }

    /// Fetches until it is right, a few times at most. Gives what came before that.
    async fn until_right(&self, reader: &mut impl PartitionReader, what: &str) -> Vec<Result<Batch, ReadError>> {
        let mut before = Vec::new();
        for _ in 0..ATTEMPTS {
            match fetch(reader).await {
                Ok(batch) if self.is_right(&batch) => return before,
                other => before.push(other),
            }
        }
        panic!("{what}: not right again in {ATTEMPTS} fetches: {before:?}");
    }

    /// The length of the response to a fetch, as this reader asks.
    async fn length(&self, reader: &mut impl PartitionReader) -> usize {
        self.until_right(reader, "without a fault").await;
        self.proxy.length_of(ApiKey::Fetch).expect("it was fetched")
    }
}

fn cluster(addresses: &[String]) -> Cluster {
    cluster_within(addresses, DEADLINES)
}

fn cluster_within(addresses: &[String], deadlines: Deadlines) -> Cluster {
    Cluster::new(addresses.iter().map(|address| address.parse().expect("an address")).collect(), "test", deadlines)
}

async fn fetch(reader: &mut impl PartitionReader) -> Result<Batch, ReadError> {
    reader.fetch(Offset(0), 1 << 20, MAX_WAIT).await
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

fn cut_at_any_byte<R: PartitionReader>(make: Make<R>) {
    block_on(async {
        let small = Small::start(make).await;
        let mut reader = small.reader(make);
        for cut in 0..small.length(&mut reader).await {
            small.proxy.next(ApiKey::Fetch, Fault::CutAt(cut));
            let cut_short = fetch(&mut reader).await;
            assert!(matches!(cut_short, Err(ReadError::Unavailable { .. })), "cut at {cut}: {cut_short:?}");
            assert!(!small.proxy.is_armed(), "cut at {cut}: it was not cut");
            small.until_right(&mut reader, &format!("after a cut at {cut}")).await;
        }
    });
}

/// What no checksum covers is the place of a batch: a bit of its base offset moves all its records. Kafka's own client
/// does not see that either; TCP's checksum has to. (In so short a log they then lie beyond its end.)
fn any_flipped_bit<R: PartitionReader>(make: Make<R>, waits: Range<usize>) {
    let lane = |lane: usize| {
        block_on(async {
            let small = Small::start(make).await;
            let mut reader = small.reader(make);
            let mut moved = 0;
            for bit in
                (lane..small.length(&mut reader).await * 8 - 32).step_by(LANES).filter(|bit| !waits.contains(bit))
            {
                small.proxy.next(ApiKey::Fetch, Fault::Flip(bit));
                match fetch(&mut reader).await {
                    Ok(batch) if small.is_right(&batch) => {}
                    Ok(batch) if batch.records.is_empty() && batch.next == Offset(0) => {}
                    Ok(batch) if is_moved(&batch.records, &small.right) => moved += 1,
                    Ok(batch) => panic!("bit {bit} gave {batch:?}"),
                    Err(_) => {}
                }
                assert!(!small.proxy.is_armed(), "bit {bit} was not flipped");
                small.until_right(&mut reader, &format!("after bit {bit}")).await;
            }
            moved
        })
    };
    let moved: usize = thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|nth| scope.spawn(move || lane(nth))).collect();
        lanes.into_iter().map(|lane| lane.join().expect("see above")).sum()
    });
    assert!(moved <= 64, "{moved} bits moved the records, and a base offset has 64");
}

/// The same records at other offsets, all as far from where they should be, and beyond the end of the log.
fn is_moved(records: &[Record], right: &[Record]) -> bool {
    let at = |record: &Record, offset| Record { offset, ..record.clone() };
    let by: Vec<i64> = records.iter().zip(right).map(|(record, right)| record.offset.0 - right.offset.0).collect();
    let same = records.iter().zip(right).all(|(record, right)| at(record, right.offset) == *right);
    same && records.len() == right.len() && by.iter().all(|distance| *distance == by[0] && *distance > 0)
}

fn trickles_in<R: PartitionReader>(make: Make<R>) {
    block_on(async {
        let small = Small::start(make).await;
        let mut reader = small.reader(make);
        let length = small.length(&mut reader).await;
        small.proxy.next(ApiKey::Fetch, Fault::Trickle(DEADLINES.request / 4 / length as u32));
        let before = small.until_right(&mut reader, "byte by byte").await;
        assert!(before.is_empty(), "{before:?}");
    });
}

fn never_comes<R: PartitionReader>(make: Make<R>) {
    block_on(async {
        let small = Small::start(make).await;
        let mut reader = small.reader(make);
        small.until_right(&mut reader, "without a fault").await;
        small.proxy.next(ApiKey::Fetch, Fault::Swallow);
        let begun = tokio::time::Instant::now();
        let swallowed = fetch(&mut reader).await;
        assert!(matches!(swallowed, Err(ReadError::Unavailable { .. })), "{swallowed:?}");
        assert!(begun.elapsed() < 4 * DEADLINES.request, "{:?}", begun.elapsed());
        small.until_right(&mut reader, "after it").await;
        small.proxy.forget_all();
        small.until_right(&mut reader, "half-open").await;
        small.proxy.set_gates(Gates::BlackHole);
        small.proxy.cut_all();
        for _ in 0..2 {
            let nothing = fetch(&mut reader).await;
            assert!(matches!(nothing, Err(ReadError::Unavailable { .. })), "{nothing:?}");
        }
        small.proxy.set_gates(Gates::Open);
        small.proxy.cut_all();
        small.until_right(&mut reader, "after a black hole").await;
    });
}

fn accepts_nothing<R: PartitionReader>(make: Make<R>) {
    let nowhere = Nowhere::new();
    block_on(async {
        let small = Small::start(make).await;
        let mut reader = make(cluster(&[nowhere.address(), small.proxy.address()]), small.source.clone());
        small.until_right(&mut reader, "beside a broker that accepts nothing").await;
    });
}
