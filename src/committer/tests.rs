//! A log as a test would have it, and what the committer does about it.

use std::sync::Mutex;

use super::*;
use crate::{
    lineage::{Read, Told, Verified},
    offsets::Committed,
    progress::{LEAST_UNITS, Place, Run, Writer, decode},
    record::AssignmentId,
};

const ID: TopicId = TopicId(uuid::Uuid::from_u128(7));

/// What each look shows, and where epochs ended.
#[derive(Default)]
struct Shown {
    looks: Vec<Option<Look>>,
    ends: BTreeMap<i32, EpochEnd>,
    bounds: BTreeMap<i32, (Offset, Offset)>,
}

impl Log for Shown {
    async fn look(&mut self) -> Result<Option<Look>, String> {
        Ok(self.looks.remove(0))
    }

    async fn epoch_ends(&mut self, epochs: &BTreeMap<i32, LeaderEpoch>) -> Result<BTreeMap<i32, EpochEnd>, String> {
        let asked = |(partition, _): &(&i32, &EpochEnd)| epochs.contains_key(partition);
        Ok(self.ends.iter().filter(asked).map(|(partition, end)| (*partition, *end)).collect())
    }

    async fn bounds(&mut self, partitions: &[i32]) -> Result<BTreeMap<i32, (Offset, Offset)>, String> {
        Ok(partitions.iter().map(|partition| (*partition, self.bounds[partition])).collect())
    }
}

/// What was committed: partition, offset, leader epoch; and which topics it was told of.
type Kept = (Vec<(i32, i64, i32)>, Vec<TopicId>);

#[derive(Clone, Default)]
struct Store {
    kept: Arc<Mutex<Kept>>,
    /// The metadata of each partition, which may have so many units.
    metadata: Arc<Mutex<BTreeMap<i32, String>>>,
    most_units: Option<usize>,
}

impl OffsetStore for Store {
    async fn load(&mut self, _: &[i32]) -> Result<BTreeMap<i32, Committed>, StoreError> {
        Ok(BTreeMap::new())
    }

    fn renew(&mut self, id: TopicId) {
        self.kept.lock().unwrap().1.push(id);
    }

    async fn commit(&mut self, commits: &BTreeMap<i32, Committed>) -> Result<(), StoreError> {
        let units = |committed: &Committed| committed.metadata.encode_utf16().count();
        if self.most_units.is_some_and(|most| commits.values().any(|committed| units(committed) > most)) {
            return Err(StoreError::MetadataTooLarge { reason: "too long".to_owned() });
        }
        self.metadata.lock().unwrap().extend(commits.iter().map(|(partition, c)| (*partition, c.metadata.clone())));
        let kept = commits.iter().map(|(partition, c)| (*partition, c.offset.0, c.leader_epoch.0));
        self.kept.lock().unwrap().0.extend(kept);
        Ok(())
    }
}

fn look(epochs: &[(i32, i32)]) -> Option<Look> {
    Some(Look { id: ID, epochs: epochs.iter().map(|(p, epoch)| (*p, LeaderEpoch(*epoch))).collect() })
}

/// Partitions 0 and 1 were read up to 100 by a reader that tells no epochs, in epoch 3, of which a look saw 80; 50 of each
/// is to be committed.
fn ask() -> Ask {
    let read = Read {
        life: AssignmentId(1),
        next: Offset(100),
        verified: Verified { next: Offset(80), epoch: LeaderEpoch(3) },
        told: Told { all: false, ..Told::nothing(Offset(80)) },
        unsure: false,
    };
    let committed = Committed { offset: Offset(50), leader_epoch: LeaderEpoch::UNKNOWN, metadata: String::new() };
    Ask {
        id: ID,
        reads: [(0, read), (1, read)].into(),
        known: Some([0, 1].into()),
        commits: [(0, committed.clone()), (1, committed)].into(),
        finished: [(1, (30..2_000).map(|number| Run::new(Offset(2 * number), Offset(2 * number + 1))).collect())]
            .into(),
    }
}

fn committer(log: Shown, store: Store) -> Committer<Shown, Store> {
    let (_, requests) = mpsc::channel(1);
    let (outcomes, _) = mpsc::channel(1);
    Committer { topic: "t".into(), id: ID, log, store, metadata: Metadata::default(), requests, outcomes }
}

/// Carries out one ask, and gives what is found out beside what holds, how the commit went, and what was committed.
async fn carry_out(log: Shown, ask: Ask) -> (Vec<Finding>, crate::scheduler::Kept, Kept) {
    let store = Store::default();
    let mut committer = committer(log, store.clone());
    let Ok((mut findings, (kept, _))) = committer.carry_out(ask).await else { panic!("it fails") };
    findings.retain(|finding| !matches!(finding, Finding::Holds { .. }));
    let committed = store.kept.lock().unwrap().clone();
    (findings, kept, committed)
}

#[tokio::test]
async fn between_two_equal_looks_a_commit_carries_their_leader_epochs() {
    let log = Shown { looks: vec![look(&[(0, 3), (1, 3)])], ..Shown::default() };
    let (findings, kept, (committed, _)) = carry_out(log, ask()).await;
    assert_eq!((findings, kept), (vec![], crate::scheduler::Kept::AllBut([].into())));
    assert_eq!(committed, [(0, 50, 3), (1, 50, 3)]);
}

#[tokio::test]
async fn a_partition_without_a_leader_is_left_out_and_holds_up_no_other() {
    let log = Shown { looks: vec![look(&[(0, 3)])], ..Shown::default() };
    let (findings, kept, (committed, _)) = carry_out(log, ask()).await;
    assert_eq!((findings, kept), (vec![], crate::scheduler::Kept::AllBut([1].into())));
    assert_eq!(committed, [(0, 50, 3)]);
}

#[tokio::test]
async fn where_a_leader_has_changed_nothing_is_committed_before_that_is_settled() {
    let ends = |end| [(1, EpochEnd { current: LeaderEpoch(4), end })].into();
    let bounds: BTreeMap<_, _> = [(1, (Offset(0), Offset(200)))].into();
    let changed = |end| Shown { looks: vec![look(&[(0, 3), (1, 4)])], ends: ends(end), bounds: bounds.clone() };
    for (end, at) in [(Some(Offset(70)), Some(Offset(70))), (None, None)] {
        let (findings, kept, (committed, _)) = carry_out(changed(end), ask()).await;
        assert!(
            matches!(findings[..], [Finding::Truncated { partition: 1, at: found, .. }] if found == at),
            "{findings:?}"
        );
        assert_eq!((kept, committed), (crate::scheduler::Kept::Held, vec![]));
    }
    for (end, next) in [(90, 90), (100, 100)] {
        let (findings, _, (committed, _)) = carry_out(changed(Some(Offset(end))), ask()).await;
        assert!(
            matches!(findings[..], [Finding::Reread { verified, .. }] if verified.next == Offset(next)),
            "{findings:?}"
        );
        assert_eq!(committed, []);
    }
}

#[tokio::test]
async fn another_topic_is_never_committed_for_and_its_store_begins_anew() {
    let other = TopicId(uuid::Uuid::from_u128(8));
    let shown = |id| Look { id, ..look(&[(0, 3)]).expect("a look") };
    let bounds: BTreeMap<_, _> = [(0, (Offset(0), Offset(9)))].into();
    let log = Shown { looks: vec![Some(shown(other))], bounds, ..Shown::default() };
    let (findings, _, (committed, renewed)) = carry_out(log, ask()).await;
    assert!(matches!(findings[..], [Finding::Recreated { was: ID, now, .. }] if now == other), "{findings:?}");
    assert_eq!((committed, renewed), (vec![], vec![]));
    // What the engine asks next is of the new one.
    let ask = Ask { id: other, ..ask() };
    let log =
        Shown { looks: vec![Some(Look { id: other, ..look(&[(0, 3), (1, 3)]).expect("a look") })], ..Shown::default() };
    let (_, _, (committed, renewed)) = carry_out(log, ask).await;
    assert_eq!((committed.len(), renewed), (2, vec![other]));
}

#[tokio::test]
async fn a_topic_is_missing_only_if_two_looks_say_so() {
    let log = Shown { looks: vec![None, look(&[(0, 3), (1, 3)])], ..Shown::default() };
    assert_eq!(carry_out(log, ask()).await.2.0.len(), 2);
    let log = Shown { looks: vec![None, None], ..Shown::default() };
    let (findings, _, (committed, _)) = carry_out(log, ask()).await;
    assert_eq!((findings, committed), (vec![Finding::Missing], vec![]));
}

#[tokio::test]
async fn a_partition_that_is_added_holds_up_no_commit() {
    let bounds: BTreeMap<_, _> = [(2, (Offset(0), Offset(9)))].into();
    let log = Shown { looks: vec![look(&[(0, 3), (1, 3), (2, 0)])], bounds, ..Shown::default() };
    let (findings, _, (committed, _)) = carry_out(log, ask()).await;
    assert!(matches!(findings[..], [Finding::Added { partition: 2, .. }]), "{findings:?}");
    assert_eq!(committed.len(), 2);
}

#[tokio::test]
async fn what_is_finished_above_a_commit_goes_with_it_as_far_as_the_broker_has_room() {
    for (most_units, reaches) in [(None, true), (Some(200), true), (Some(LEAST_UNITS - 1), false)] {
        let log = Shown { looks: vec![look(&[(0, 3), (1, 3)])], ..Shown::default() };
        let store = Store { most_units, ..Store::default() };
        let Ok((_, (_, said))) = committer(log, store.clone()).carry_out(ask()).await else { panic!("it fails") };
        let metadata = store.metadata.lock().unwrap().clone();
        assert_eq!((metadata[&0].as_str(), said[&0]), ("", Said::All));
        let place = Place { topic: ID, partition: 1, offset: Offset(50) };
        let (kept, writer) = decode(&metadata[&1], &place, Offset(4_000), false).expect("ours");
        let mut finished = ask().finished.remove(&1).expect("there");
        match said[&1] {
            Said::All => assert_eq!(most_units, None),
            Said::Below { reach, dropped } => {
                assert_eq!((most_units, dropped), (Some(200), finished.count_from(reach)));
                finished.cut_from(reach);
            }
            Said::Nothing { dropped } => {
                assert_eq!((most_units, dropped), (Some(LEAST_UNITS - 1), finished.count()));
                finished.cut_from(Offset(0));
            }
        }
        assert_eq!((kept, writer == Writer::Longshore), (finished, reaches));
    }
}
