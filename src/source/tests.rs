//! What a fetch loop tells, over a reader as a test would have it.

use super::*;

/// Gives these, one for each fetch, and then nothing more.
struct Script(std::vec::IntoIter<Result<Batch, ReadError>>);

impl PartitionReader for Script {
    async fn fetch(&mut self, _: Offset, _: usize, _: Duration) -> Result<Batch, ReadError> {
        match self.0.next() {
            Some(outcome) => outcome,
            None => std::future::pending().await,
        }
    }
}

fn batch(offset: i64) -> Result<Batch, ReadError> {
    let (next, leader_epoch) = (Offset(offset + 1), LeaderEpoch::UNKNOWN);
    let records = vec![crate::testing::record(offset, None)];
    Ok(Batch { records, next, high_watermark: next, leader_epoch, held: None })
}

/// Runs a loop over these fetches, and gives what it tells until it has ended or has nothing more, and its limits.
async fn told(fetches: Vec<Result<Batch, ReadError>>) -> (Vec<String>, Arc<Limits>) {
    let limits = Arc::new(Limits::new(10, 10_000));
    let (events, mut told) = mpsc::channel(16);
    let fetch_loop = FetchLoop {
        reader: Script(fetches.into_iter()),
        assignment: AssignmentId(7),
        source: Arc::new(TopicPartition::new("in", 0)),
        limits: Arc::clone(&limits),
        room: Arc::new(limits.partition_room(1)),
        events,
        over: Arc::new(AtomicBool::new(false)),
        end: Some(Offset(2)),
    };
    fetch_loop.run(Offset(0)).await;
    let mut names = Vec::new();
    while let Some(event) = told.recv().await {
        names.push(match event {
            SourceEvent::Fetched { next, .. } => format!("fetched up to {next}"),
            SourceEvent::Away(_) => "away".to_owned(),
            SourceEvent::Unsure(AssignmentId(7)) => "unsure".to_owned(),
            other => format!("{other:?}"),
        });
    }
    (names, limits)
}

#[tokio::test]
async fn what_comes_after_a_failure_is_not_handed_over_before_a_look() {
    let failed = || Err(ReadError::Unavailable { reason: "not the leader any more".to_owned() });
    let (told, limits) = told(vec![batch(0), failed(), failed(), batch(1)]).await;
    assert_eq!(told, ["fetched up to 1", "away", "unsure"]);
    // Only the record that was handed over holds room.
    limits.bytes.give(crate::testing::record(0, None).size());
    let room = tokio::time::timeout(Duration::from_secs(5), limits.bytes.take(10_000)).await;
    assert!(room.is_ok(), "the record that was not handed over holds room");
}

#[tokio::test]
async fn a_place_that_is_not_in_the_log_is_left_to_a_look() {
    let gone = ReadError::OutOfRange { requested: Offset(1), earliest: Offset(5), latest: Offset(9) };
    let (told, _) = told(vec![batch(0), Err(gone)]).await;
    assert_eq!(told, ["fetched up to 1", "unsure"]);
}

#[tokio::test]
async fn all_that_is_there_is_handed_over_and_then_it_ends() {
    let (told, _) = told(vec![batch(0), batch(1)]).await;
    assert_eq!(told, ["fetched up to 1", "fetched up to 2"]);
}
