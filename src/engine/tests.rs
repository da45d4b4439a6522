//! Partitions that go and come back under an engine whose fetch loops read from a broker.

use std::ops::ControlFlow;

use super::*;
use crate::{
    Failure, Longshore, Record,
    broker::{Broker, Options},
    config::Offsets,
    record::{LeaderEpoch, Offset, TopicId, TopicPartition},
    scheduler::{Assignment, Taken},
    task::Answer,
};

/// How long anything may take that has to happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// What all partitions together may hold, and each of two.
const ALL: usize = 64;
const EACH: usize = 32;

/// An engine whose workers take nothing, so that what is read waits.
async fn engine(broker: &Broker) -> Engine {
    let task = |_: &Record| Ok::<_, Failure>(Answer::None);
    let run = Longshore::builder().brokers(&broker.address()).group("g").topics("a,b").workers(1).max_in_flight(ALL);
    let run = run.offsets(Offsets::Memory).build(task).expect("it is right");
    match run.prepare().await.expect("it begins") {
        ControlFlow::Continue(engine) => engine,
        ControlFlow::Break(summary) => panic!("{summary:?}"),
    }
}

impl Engine {
    /// Takes in what is read until a condition holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut working = FuturesUnordered::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            self.begin_fetching();
            self.give_room();
            if holds(self) {
                return;
            }
            let event = tokio::time::timeout_at(deadline, self.fetched.recv()).await;
            let event = event.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for: {what}"));
            self.handle(Event::Source(event.expect("the loops live")), &mut working);
        }
    }

    fn held(&self, source: &TopicPartition) -> usize {
        let of = |(id, _): &(&AssignmentId, &Fetching)| self.scheduler.source(**id) == Some(source);
        self.fetching.iter().filter(of).map(|(_, fetching)| fetching.room.used()).sum()
    }
}

#[tokio::test]
async fn the_fetch_loop_of_a_partition_that_goes_ends_and_its_room_comes_back() {
    let broker = Broker::start(Options::default()).unwrap();
    for topic in ["a", "b"] {
        broker.create_topic(topic, 1).unwrap();
        broker.append_values(topic, 0, (0..1000).map(|n| format!("{n}"))).unwrap();
    }
    let mut engine = engine(&broker).await;
    let (a, b) = (TopicPartition::new("a", 0), TopicPartition::new("b", 0));
    engine.until("both are full", |engine| engine.held(&a) == EACH && engine.held(&b) == EACH).await;
    assert_eq!(engine.limits.records.used(), ALL);

    let _ = engine.scheduler.revoke(std::slice::from_ref(&a), Instant::now(), Instant::now());
    engine
        .until("the loop of a ends", |engine| {
            let ended = engine.fetching.values().filter(|fetching| Arc::strong_count(&fetching.room) == 1).count();
            ended == 1 && engine.limits.records.used() == EACH
        })
        .await;
    assert_eq!((engine.held(&a), engine.held(&b)), (0, EACH));
    engine.scheduler.release(std::slice::from_ref(&a), Instant::now());

    // Once it comes back, it has as much room as before.
    let source = Arc::new(a.clone());
    let (start, latest, epoch) = (Offset(0), Offset(1000), LeaderEpoch::UNKNOWN);
    let assignment = Assignment {
        source,
        start,
        committed: None,
        finished: Default::default(),
        notes: Default::default(),
        end: None,
        latest,
        epoch,
    };
    let id: TopicId = broker.topic_id("a").unwrap();
    let taken = Taken { topic: "a".into(), id, there: [0].into(), assignments: vec![assignment] };
    engine.scheduler.assign(vec![taken], Instant::now());
    engine.until("both are full again", |engine| engine.held(&a) == EACH && engine.held(&b) == EACH).await;
    assert_eq!((engine.limits.records.used(), engine.fetching.len()), (ALL, 2));
}
