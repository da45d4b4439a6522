//! PURE. What has to wait for its turn: messages of one key, or of one partition, one after the other (`--order`).
//!
//! A lane is held by the message that runs, from its start until it is finished: so answers are in order, too. Those of the
//! same key that would start meanwhile are parked, and wait in the order in which they came. They count against what may be
//! in flight, so that is what bounds them.
//!
//! A lane belongs to the partition and not to a life of it. Whatever still runs of an earlier life holds it until it ends.
//!
//! Lanes are told apart by a hash of 64 bits. Two keys with the same one would share a lane, and nothing worse.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::parts::Life;
use crate::record::{AssignmentId, Offset, Record};

/// What has to be worked off in order (`--order`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Nothing: what comes first may end last.
    #[default]
    None,
    /// The messages of a key, in each partition. Those without a key are in no order.
    Key,
    /// The messages of a partition.
    Partition,
}

/// A message, by the life in which it was started.
type Task = (AssignmentId, Offset);
/// The hash of a partition, and of a key.
type LaneKey = u64;

/// See the [module's documentation](self).
#[derive(Debug, Default)]
pub(super) struct Lanes {
    order: Order,
    lanes: HashMap<LaneKey, Lane>,
    held: BTreeMap<Task, LaneKey>,
}

#[derive(Debug)]
struct Lane {
    holder: Task,
    waiting: VecDeque<Task>,
}

impl Lanes {
    pub(super) fn new(order: Order) -> Self {
        Self { order, ..Self::default() }
    }

    fn lane_of(&self, record: &Record) -> Option<LaneKey> {
        let key = match self.order {
            Order::None => return None,
            Order::Partition => None,
            Order::Key => Some(record.key.as_ref()?),
        };
        let mut hasher = DefaultHasher::new();
        (&record.source, key).hash(&mut hasher);
        Some(hasher.finish())
    }

    /// Starts what is next of a life and may start now; what has to wait for its turn is parked. With `overtake`, nothing has
    /// to: that is a defect.
    pub(super) fn start(&mut self, life: &mut Life, id: AssignmentId, overtake: bool) -> Option<Record> {
        loop {
            let (offset, record) = life.tracker.start()?;
            if overtake || self.enter(id, &record) {
                return Some(record);
            }
            life.tracker.park(offset, record);
        }
    }

    /// The same, of what has not been started before.
    pub(super) fn start_fresh(&mut self, life: &mut Life, id: AssignmentId) -> Option<Record> {
        loop {
            let (offset, record) = life.tracker.start_fresh()?;
            if self.enter(id, &record) {
                return Some(record);
            }
            life.tracker.park(offset, record);
        }
    }

    /// Whether a message may start now. If not, it is to be parked, and comes in its turn.
    fn enter(&mut self, id: AssignmentId, record: &Record) -> bool {
        let Some(key) = self.lane_of(record) else { return true };
        let task = (id, record.offset);
        match self.lanes.get_mut(&key) {
            None => {
                self.lanes.insert(key, Lane { holder: task, waiting: VecDeque::new() });
                self.held.insert(task, key);
                true
            }
            Some(lane) if lane.holder == task => true,
            Some(lane) => {
                lane.waiting.push_back(task);
                false
            }
        }
    }

    /// Notes that a message that is under way is one of another life from now on.
    pub(super) fn hand_over(&mut self, from: Task, to: Task) {
        let Some(key) = self.held.remove(&from) else { return };
        self.held.insert(to, key);
        self.lanes.get_mut(&key).expect("it is held").holder = to;
    }

    /// Notes that a message is finished, or comes to nothing. Gives who may have its turn: the lane is theirs, and they
    /// leave it in turn if they do not want it any more.
    pub(super) fn leave(&mut self, id: AssignmentId, offset: Offset) -> Option<Task> {
        let key = self.held.remove(&(id, offset))?;
        let lane = self.lanes.get_mut(&key).expect("it is held");
        let Some(next) = lane.waiting.pop_front() else {
            self.lanes.remove(&key);
            return None;
        };
        lane.holder = next;
        self.held.insert(next, key);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::TopicPartition, testing::record};

    const LIFE: AssignmentId = AssignmentId(1);

    fn of(offset: i64, key: Option<&'static str>) -> Record {
        Record { key: key.map(|key| key.as_bytes().into()), ..record(offset, Some(b"{}")) }
    }

    #[test]
    fn messages_of_a_key_take_turns_and_all_others_go_ahead() {
        let mut lanes = Lanes::new(Order::Key);
        let mut enter = |offset, key| lanes.enter(LIFE, &of(offset, key));
        assert_eq!(
            [enter(0, Some("a")), enter(1, Some("a")), enter(2, Some("b")), enter(3, Some("a"))],
            [true, false, true, false]
        );
        assert_eq!([enter(4, None), enter(5, None)], [true, true]);
        assert!(enter(0, Some("a")), "the one whose turn it is comes back after a failure");
        assert_eq!(lanes.leave(LIFE, Offset(0)), Some((LIFE, Offset(1))));
        assert!(!lanes.enter(LIFE, &of(6, Some("a"))), "the lane is kept for the next");
        assert!(lanes.enter(LIFE, &of(1, Some("a"))));
        assert_eq!(lanes.leave(LIFE, Offset(1)), Some((LIFE, Offset(3))));
        assert_eq!(lanes.leave(LIFE, Offset(3)), Some((LIFE, Offset(6))));
        assert_eq!(
            [lanes.leave(LIFE, Offset(6)), lanes.leave(LIFE, Offset(2)), lanes.leave(LIFE, Offset(4))],
            [None; 3]
        );
        assert!(lanes.lanes.is_empty() && lanes.held.is_empty(), "nothing is left of keys that are done");
    }

    #[test]
    fn a_partition_is_one_lane_and_another_is_another() {
        let mut lanes = Lanes::new(Order::Partition);
        let other = Record { source: TopicPartition::new("in", 1).into(), ..of(1, None) };
        assert!(lanes.enter(LIFE, &of(0, None)));
        assert!(!lanes.enter(LIFE, &of(1, Some("a"))));
        assert!(lanes.enter(AssignmentId(2), &other));
    }
}
