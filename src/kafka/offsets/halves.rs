//! A commit that is too much for a coordinator is made in halves.
//!
//! A coordinator writes all of a commit as one batch. Where that is larger than its own topic takes, it keeps none of it
//! and says UNKNOWN_SERVER_ERROR (−1) of each partition, or INVALID_COMMIT_OFFSET_SIZE (28). `wire` cuts commits to what
//! Kafka's defaults take; a broker with other settings is found out about here.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use kafka_protocol::ResponseError;

use super::super::wire::WireError;

/// Commits with `send`, all at once if that is not too much: after an error some of it may have been kept. Gives what each
/// of the requests came to.
///
/// # Errors
/// As `send`; what is said of a single partition, if it is too much even so.
pub(in crate::kafka) async fn commit<'a, K: Ord + Clone, C: Clone, T>(
    commits: BTreeMap<K, C>,
    send: impl Fn(BTreeMap<K, C>) -> BoxFuture<'a, Result<T, WireError>>,
) -> Result<Vec<T>, WireError> {
    let (mut parts, mut done) = (vec![commits], Vec::new());
    while let Some(part) = parts.pop() {
        let several = part.len() > 1;
        match send(part.clone()).await {
            Ok(said) => done.push(said),
            Err(error) if several && is_too_much(&error) => parts.extend(halves(part)),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn halves<K: Ord + Clone, C>(mut commits: BTreeMap<K, C>) -> [BTreeMap<K, C>; 2] {
    let middle = commits.keys().nth(commits.len() / 2).cloned();
    let upper = middle.map(|middle| commits.split_off(&middle)).unwrap_or_default();
    [upper, commits]
}

fn is_too_much(error: &WireError) -> bool {
    error.code().is_some_and(|code| {
        code.is(ResponseError::UnknownServerError) || code.is(ResponseError::InvalidCommitOffsetSize)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kafka_protocol::messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    };

    use futures::FutureExt;

    use super::*;
    use crate::{
        kafka::wire::scripted::{Asked, Reply, cluster},
        offsets::Committed,
        record::{LeaderEpoch, Offset},
    };

    fn committed(asked: &Asked, code: i16) -> Reply {
        let topics = asked.body::<OffsetCommitRequest>().topics.into_iter().map(|topic| {
            let said =
                |index| OffsetCommitResponsePartition::default().with_partition_index(index).with_error_code(code);
            let partitions = topic.partitions.iter().map(|p| said(p.partition_index)).collect();
            OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        });
        asked.reply::<OffsetCommitRequest>(&OffsetCommitResponse::default().with_topics(topics.collect()))
    }

    /// Commits ten partitions to a coordinator that takes `most` at once. Gives how it went, and how many each of those
    /// requests had that it took.
    async fn commit_ten(most: usize, code: i16) -> (Result<(), WireError>, Vec<usize>) {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let takes = Arc::clone(&taken);
        let cluster = cluster(move |asked| {
            if !asked.is::<OffsetCommitRequest>() {
                return asked.quiet();
            }
            let count = asked.body::<OffsetCommitRequest>().topics[0].partitions.len();
            if count > most {
                return committed(asked, code);
            }
            takes.lock().unwrap().push(count);
            committed(asked, 0)
        })
        .await;
        let at = Committed { offset: Offset(5), leader_epoch: LeaderEpoch(0), metadata: "m".to_owned() };
        let commits = (0..10).map(|partition| (partition, at.clone())).collect();
        let send = |part| {
            let cluster = cluster.clone();
            async move { cluster.offset_commit("g", "t", &part).await }.boxed()
        };
        let outcome = commit(commits, send).await.map(|_| ());
        let taken = taken.lock().unwrap().clone();
        (outcome, taken)
    }

    #[tokio::test]
    async fn what_is_too_much_at_once_is_made_in_halves() {
        for code in [-1, 28] {
            let (outcome, taken) = commit_ten(3, code).await;
            outcome.unwrap();
            assert_eq!(taken, [2, 3, 2, 3]);
        }
        assert_eq!(commit_ten(10, -1).await.1, [10]);
    }

    #[tokio::test]
    async fn what_is_too_much_by_itself_is_told() {
        let (outcome, taken) = commit_ten(0, 28).await;
        assert_eq!(outcome.unwrap_err().code().map(|code| code.0), Some(28));
        assert!(taken.is_empty());
        // What is wrong otherwise is not tried in halves.
        assert_eq!(commit_ten(3, 30).await.0.unwrap_err().code().map(|code| code.0), Some(30));
    }
}
