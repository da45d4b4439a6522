//! What the books make of tasks that are taken over: begun in one hold, and finished in a later one of the same process.
//!
//! The process says what it has adopted, and the books look whether it may: the task was begun by this very process, nobody
//! is known to have finished it, it is not begun in the new hold as well, and its time is not over. The excuse that was
//! written down when its first hold ended is taken back: it is in hand again.

use super::{books::Books, world::World, *};

/// What is known of tasks whose hold has ended.
#[derive(Debug, Default)]
pub(super) struct Adoptions {
    /// In which life a task was begun, and who has adopted it.
    heirs: BTreeMap<(usize, AssignmentId, i64), AssignmentId>,
    /// Tasks that have ended, want no answer, and belong to no hold.
    ended: BTreeSet<(usize, AssignmentId, i64)>,
    /// Tasks that ended in their hold, with an answer that may be there.
    pub(super) written: BTreeSet<(usize, AssignmentId, i64)>,
    /// When their hold ended.
    since: BTreeMap<(usize, AssignmentId), Instant>,
    /// What began where somebody else had the partition already, which is in no other books.
    pub(super) uncounted: BTreeSet<(usize, At)>,
}

impl Adoptions {
    /// The life that a task belongs to by now.
    pub(super) fn life_of(&self, process: usize, mut life: AssignmentId, offset: i64) -> AssignmentId {
        while let Some(heir) = self.heirs.get(&(process, life, offset)) {
            life = *heir;
        }
        life
    }

    pub(super) fn end_silently(&mut self, process: usize, life: AssignmentId, offset: i64) {
        self.ended.insert((process, life, offset));
    }

    pub(super) fn end_hold(&mut self, process: usize, life: AssignmentId, now: Instant) {
        self.since.insert((process, life), now);
    }
}

impl World {
    /// Takes in what a process has adopted, once it is known which lives have begun.
    pub(super) fn take_over(&mut self, at: usize) -> Result<(), Violation> {
        for (parent, heir, offset) in std::mem::take(&mut self.processes[at].scheduler.adoptions) {
            let offset = offset.0;
            let Some(since) = self.books.adoptions.since.get(&(at, parent)) else {
                return Err(format!("4: {at} adopts {offset} of a life that goes on, or of none"));
            };
            promise!(self.now < *since + SESSION, "4: {at} adopts {offset}, whose time is over");
            self.books.adopt(at, (parent, heir), offset)?;
        }
        Ok(())
    }
}

impl Books {
    fn adopt(
        &mut self,
        process: usize,
        (parent, heir): (AssignmentId, AssignmentId),
        offset: i64,
    ) -> Result<(), Violation> {
        let written = self.adoptions.written.contains(&(process, parent, offset));
        promise!(!written, "4: {process} adopts {offset}, which does not run");
        let ended = self.adoptions.ended.remove(&(process, parent, offset));
        let Some((key, hold)) = self.of(process, heir) else {
            return Err(format!("4: {process} adopts {offset} in a life that is not its own"));
        };
        let known = offset < hold.start || hold.knows(offset);
        promise!(!known, "3: {process} adopts {key:?}:{offset}, which is known to be finished");
        let before = hold.begun.insert(offset, ended);
        promise!(before.is_none(), "3: {process} adopts {key:?}:{offset} twice");
        if ended {
            self.settled.insert((key, offset));
        }
        if self.adoptions.uncounted.remove(&(process, (key, offset))) {
            *self.runs.entry((key, offset)).or_default() += 1;
        } else if let Some(excuses) = self.excuses.get_mut(&(key, offset)) {
            *excuses = excuses.saturating_sub(1);
        }
        self.adoptions.heirs.insert((process, parent, offset), heir);
        Ok(())
    }
}
