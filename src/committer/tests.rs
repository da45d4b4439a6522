//! A log as a test would have it, and what the committer does about it.

use std::sync::Mutex;

use super::*;
use crate::{
    lineage::{Read, Told, Verified},
    offsets::Committed,
    progress::{LEAST_UNITS, Place, Run, Writer, decode},
    record::{AssignmentId, TopicIndex},
    scheduler::Newcomers,
};

const ID: TopicId = TopicId(uuid::Uuid::from_u128(7));

/// What each look shows of each topic, and where epochs ended.
#[derive(Default)]
struct Shown {
    looks: Mutex<Vec<Vec<Option<Look>>>>,
    ends: BTreeMap<i32, EpochEnd>,
    bounds: BTreeMap<i32, (Offset, Offset)>,
    /// Of this topic nothing is answered.
    hangs: Option<&'static str>,
}

impl Shown {
    async fn answer(&self, topic: &str) {
        if self.hangs == Some(topic) {
            std::future::pending::<()>().await;
        }
    }
}

impl Log for Shown {
    async fn look(&self, topics: &[Arc<str>]) -> Result<Vec<Seen>, String> {
        let look = self.looks.lock().unwrap().remove(0);
        assert_eq!(look.len(), topics.len());
        Ok(look.into_iter().map(Ok).collect())
    }

    async fn epoch_ends(
        &self,
        topic: &str,
        epochs: &BTreeMap<i32, LeaderEpoch>,
    ) -> Result<BTreeMap<i32, EpochEnd>, String> {
        self.answer(topic).await;
        let asked = |(partition, _): &(&i32, &EpochEnd)| epochs.contains_key(partition);
        Ok(self.ends.iter().filter(asked).map(|(partition, end)| (*partition, *end)).collect())
    }

    async fn bounds(&self, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, (Offset, Offset)>, String> {
        self.answer(topic).await;
        Ok(partitions.iter().map(|partition| (*partition, self.bounds[partition])).collect())
    }
}

/// What was committed: partition, offset, leader epoch; and which topics it was told of.
type Stored = (Vec<(String, i64, i32)>, Vec<TopicId>);

#[derive(Clone, Default)]
struct Store {
    kept: Arc<Mutex<Stored>>,
    /// The metadata of each partition, which may have so many units.
    metadata: Arc<Mutex<BTreeMap<i32, String>>>,
    most_units: Option<usize>,
}

impl OffsetStore for Store {
    async fn load(&mut self, _: &BTreeMap<Arc<str>, Vec<i32>>) -> Result<Commits, StoreError> {
        Ok(Commits::new())
    }

    fn renew(&mut self, _: &str, id: TopicId) {
        self.kept.lock().unwrap().1.push(id);
    }

    async fn commit(&mut self, commits: &Commits) -> Result<(), StoreError> {
        let units = |committed: &Committed| committed.metadata.encode_utf16().count();
        let all = || commits.values().flatten();
        if self.most_units.is_some_and(|most| all().any(|(_, committed)| units(committed) > most)) {
            return Err(StoreError::MetadataTooLarge { reason: "too long".to_owned() });
        }
        self.metadata.lock().unwrap().extend(all().map(|(partition, c)| (*partition, c.metadata.clone())));
        for (topic, commits) in commits {
            let kept = commits.iter().map(|(p, c)| (format!("{topic}-{p}"), c.offset.0, c.leader_epoch.0));
            self.kept.lock().unwrap().0.extend(kept);
        }
        Ok(())
    }
}

fn look(epochs: &[(i32, i32)]) -> Option<Look> {
    Some(Look { id: ID, epochs: epochs.iter().map(|(p, epoch)| (*p, LeaderEpoch(*epoch))).collect() })
}

fn ask() -> Ask {
    ask_of(1)
}

/// Partitions 0 and 1 were read up to 100 by a reader that tells no epochs, in epoch 3, of which a look saw 80; 50 of each
/// is to be committed. So it is of each topic.
fn ask_of(topics: u32) -> Ask {
    let read = Read {
        life: AssignmentId(1),
        next: Offset(100),
        verified: Verified { next: Offset(80), epoch: LeaderEpoch(3) },
        told: Told { all: false, ..Told::nothing(Offset(80)) },
        unsure: false,
    };
    let committed = Committed { offset: Offset(50), leader_epoch: LeaderEpoch::UNKNOWN, metadata: String::new() };
    let topic_ask = |topic| TopicAsk {
        topic: TopicIndex(topic),
        name: NAMES[topic as usize].into(),
        id: ID,
        missing: false,
        reads: [(0, read), (1, read)].into(),
        newcomers: Newcomers::AllBut([0, 1].into()),
        commits: [(0, committed.clone()), (1, committed.clone())].into(),
        finished: [(1, (30..2_000).map(|number| Run::new(Offset(2 * number), Offset(2 * number + 1))).collect())]
            .into(),
        notes: BTreeMap::new(),
    };
    Ask { topics: (0..topics).map(topic_ask).collect(), era: 0 }
}

/// How long is waited for what does not come.
const SHORT: Duration = Duration::from_millis(50);
const NAMES: [&str; 2] = ["t", "u"];

fn committer(log: Shown, store: Store) -> Committer<Shown, Store> {
    let (_, requests) = mpsc::channel(1);
    let (outcomes, _) = mpsc::channel(1);
    let (ids, metadata) = (NAMES.map(|name| (name.into(), ID)).into(), Metadata::default());
    Committer { ids, log, store, patience: SHORT, metadata, requests, outcomes }
}

/// Carries out one ask, and gives what was looked at, what is found out beside what holds, and what was committed.
async fn carry_out_all(log: Shown, ask: Ask) -> (Vec<(Vec<Finding>, Kept)>, Stored) {
    let store = Store::default();
    let Ok((looked, _)) = committer(log, store.clone()).carry_out(ask).await else { panic!("it fails") };
    let odd = |looked: Looked| {
        let mut findings = looked.findings;
        findings.retain(|finding| !matches!(finding, Finding::Holds { .. }));
        (findings, looked.kept)
    };
    let committed = store.kept.lock().unwrap().clone();
    (looked.into_iter().map(odd).collect(), committed)
}

/// The same, of one topic.
async fn carry_out(log: Shown, ask: Ask) -> (Vec<Finding>, Kept, Stored) {
    let (looked, stored) = carry_out_all(log, ask).await;
    let [(findings, kept)] = <[_; 1]>::try_from(looked).expect("one topic");
    (findings, kept, stored)
}

/// What a look shows of one topic.
fn looks(looks: impl IntoIterator<Item = Option<Look>>) -> Mutex<Vec<Vec<Option<Look>>>> {
    Mutex::new(looks.into_iter().map(|look| vec![look]).collect())
}

#[tokio::test]
async fn between_two_equal_looks_a_commit_carries_their_leader_epochs() {
    let log = Shown { looks: looks([look(&[(0, 3), (1, 3)])]), ..Shown::default() };
    let (findings, kept, (committed, _)) = carry_out(log, ask()).await;
    assert_eq!((findings, kept), (vec![], Kept::AllBut([].into())));
    assert_eq!(committed, [("t-0".to_owned(), 50, 3), ("t-1".to_owned(), 50, 3)]);
}

#[tokio::test]
async fn a_partition_without_a_leader_is_left_out_and_holds_up_no_other() {
    let log = Shown { looks: looks([look(&[(0, 3)])]), ..Shown::default() };
    let (findings, kept, (committed, _)) = carry_out(log, ask()).await;
    assert_eq!((findings, kept), (vec![], Kept::AllBut([1].into())));
    assert_eq!(committed, [("t-0".to_owned(), 50, 3)]);
}

#[tokio::test]
async fn where_a_leader_has_changed_nothing_is_committed_before_that_is_settled() {
    let ends = |end| [(1, EpochEnd { current: LeaderEpoch(4), end })].into();
    let bounds: BTreeMap<_, _> = [(1, (Offset(0), Offset(200)))].into();
    let changed =
        |end| Shown { looks: looks([look(&[(0, 3), (1, 4)])]), ends: ends(end), bounds: bounds.clone(), hangs: None };
    for (end, at) in [(Some(Offset(70)), Some(Offset(70))), (None, None)] {
        let (findings, kept, (committed, _)) = carry_out(changed(end), ask()).await;
        assert!(
            matches!(findings[..], [Finding::Truncated { partition: 1, at: found, .. }] if found == at),
            "{findings:?}"
        );
        assert_eq!((kept, committed), (Kept::Held, vec![]));
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
    let log = Shown { looks: looks([Some(shown(other))]), bounds, ..Shown::default() };
    let (findings, _, (committed, renewed)) = carry_out(log, ask()).await;
    assert!(matches!(findings[..], [Finding::Recreated { was: ID, now, .. }] if now == other), "{findings:?}");
    assert_eq!((committed, renewed), (vec![], vec![]));
    // What the engine asks next is of the new one.
    let mut ask = ask();
    ask.topics[0].id = other;
    let anew = Look { id: other, ..look(&[(0, 3), (1, 3)]).expect("a look") };
    let log = Shown { looks: looks([Some(anew)]), ..Shown::default() };
    let (_, _, (committed, renewed)) = carry_out(log, ask).await;
    assert_eq!((committed.len(), renewed), (2, vec![other]));
}

#[tokio::test]
async fn a_topic_is_missing_only_if_two_looks_say_so() {
    let log = Shown { looks: looks([None, look(&[(0, 3), (1, 3)])]), ..Shown::default() };
    assert_eq!(carry_out(log, ask()).await.2.0.len(), 2);
    let log = Shown { looks: looks([None, None]), ..Shown::default() };
    let (findings, _, (committed, _)) = carry_out(log, ask()).await;
    assert_eq!((findings, committed), (vec![Finding::Missing], vec![]));
    // What is known to be missing is not looked for twice.
    let mut ask = ask();
    ask.topics[0].missing = true;
    let log = Shown { looks: looks([None]), ..Shown::default() };
    assert_eq!(carry_out(log, ask).await.0, [Finding::Missing]);
}

#[tokio::test]
async fn a_partition_that_is_added_holds_up_no_commit() {
    let bounds: BTreeMap<_, _> = [(2, (Offset(0), Offset(9)))].into();
    let log = Shown { looks: looks([look(&[(0, 3), (1, 3), (2, 0)])]), bounds, ..Shown::default() };
    let (findings, _, (committed, _)) = carry_out(log, ask()).await;
    assert!(matches!(findings[..], [Finding::Added { partition: 2, .. }]), "{findings:?}");
    assert_eq!(committed.len(), 2);
}

/// How often something of each topic was committed.
fn of_each((committed, _): &Stored) -> [usize; 2] {
    NAMES.map(|name| committed.iter().filter(|(partition, ..)| partition.starts_with(name)).count())
}

#[tokio::test]
async fn what_is_odd_with_one_topic_holds_back_its_commits_and_those_of_no_other() {
    let well = || look(&[(0, 3), (1, 3)]);
    let shown = |t| Shown { looks: Mutex::new(vec![vec![t, well()]]), ..Shown::default() };
    // Another topic, no topic, a log that was cut off, one of which nothing can be found out.
    let other = Look { id: TopicId(uuid::Uuid::from_u128(8)), epochs: BTreeMap::new() };
    let (looked, stored) = carry_out_all(shown(Some(other)), ask_of(2)).await;
    assert!(matches!(looked[0], (ref found, Kept::Held) if matches!(found[..], [Finding::Recreated { .. }])));
    assert_eq!((&looked[1], of_each(&stored)), (&(vec![], Kept::AllBut([].into())), [0, 2]));

    let missing = Shown { looks: Mutex::new(vec![vec![None, well()]; 2]), ..Shown::default() };
    let (looked, stored) = carry_out_all(missing, ask_of(2)).await;
    assert_eq!((&looked[0].0[..], of_each(&stored)), (&[Finding::Missing][..], [0, 2]));

    let (ends, bounds) = (EpochEnd { current: LeaderEpoch(4), end: Some(Offset(70)) }, (Offset(0), Offset(200)));
    let moved = shown(look(&[(0, 3), (1, 4)]));
    let cut = Shown { ends: [(1, ends)].into(), bounds: [(1, bounds)].into(), ..moved };
    let (looked, stored) = carry_out_all(cut, ask_of(2)).await;
    assert!(matches!(looked[0].0[..], [Finding::Truncated { partition: 1, .. }]), "{looked:?}");
    assert_eq!(of_each(&stored), [0, 2]);

    let hangs = Shown { hangs: Some("t"), ..shown(look(&[(0, 3), (1, 4)])) };
    let (looked, stored) = carry_out_all(hangs, ask_of(2)).await;
    assert_eq!((&looked[0], of_each(&stored)), (&(vec![], Kept::Unknown), [0, 2]));
}

#[tokio::test]
async fn what_is_finished_above_a_commit_goes_with_it_as_far_as_the_broker_has_room() {
    for (most_units, reaches) in [(None, true), (Some(200), true), (Some(LEAST_UNITS - 1), false)] {
        let log = Shown { looks: looks([look(&[(0, 3), (1, 3)])]), ..Shown::default() };
        let store = Store { most_units, ..Store::default() };
        let Ok((looked, _)) = committer(log, store.clone()).carry_out(ask()).await else { panic!("it fails") };
        let said = &looked[0].said;
        let metadata = store.metadata.lock().unwrap().clone();
        assert_eq!((metadata[&0].as_str(), said[&0]), ("", Said::All));
        let place = Place { topic: ID, partition: 1, offset: Offset(50) };
        let (kept, writer) = decode(&metadata[&1], &place, Offset(4_000), false).expect("ours");
        let mut finished = ask().topics[0].finished.remove(&1).expect("there");
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
