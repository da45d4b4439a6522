//! What travels with the commits of the simulated world: written, kept, meddled with, and believed.
//!
//! The world looks into each string by itself: what it says must be finished by the world's own books, and what was finished
//! must be in it, unless it has no room.

use super::{log::Log, *};
use crate::progress::{Encoded, Finished, MOST_UNITS, Place, Run, decode, encode};

/// What went with a commit.
#[derive(Debug, Clone)]
pub(super) struct Told {
    text: String,
    /// What it says is finished.
    says: Finished,
    /// How far it reaches, if not over everything.
    reach: Option<Offset>,
    said: Said,
}

/// Metadata that somebody put beside a commit for which it was not written, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Forged(Finished);

impl World {
    /// What goes with the commits of an ask. In some worlds there is room for a few runs only.
    pub(super) fn tell(&self, life: &Life, ask: &Ask) -> Result<BTreeMap<i32, Told>, Violation> {
        let mut all = BTreeMap::new();
        for (partition, commit) in &ask.commits {
            let mut says = ask.finished.get(partition).cloned().unwrap_or_default();
            let reach = self.most_runs.and_then(|most| says.runs().get(most)).map(|run| run.first);
            let dropped = reach.map_or(0, |reach| says.count_from(reach));
            if let Some(reach) = reach {
                says.cut_from(reach);
            }
            let place = Place { topic: ask.id, partition: *partition, offset: commit.offset };
            let Encoded { text, .. } = encode(&place, &says, MOST_UNITS);
            let said = reach.map_or(Said::All, |reach| Said::Below { reach, dropped });
            let told = Told { text, says, reach, said };
            self.check_told(life, *partition, commit.offset, &told)?;
            all.insert(*partition, told);
        }
        Ok(all)
    }

    fn check_told(&self, life: &Life, partition: i32, base: Offset, told: &Told) -> Result<(), Violation> {
        for entry in &self.topic.logs[&partition].entries {
            let (at, offset) = ((partition, entry.ident), Offset(entry.offset));
            let known = life.knows(partition, offset) || self.excused.contains(&at);
            let finished = life.finished.contains(&at);
            let says = told.says.contains(offset);
            promise!(!says || finished || known, "1: the commit of {partition}:{base} says that {offset} is finished");
            let beyond = offset < base || told.reach.is_some_and(|reach| offset >= reach);
            // Of a fault the world may know before the scheduler does; and what was answered in an earlier life counts as
            // finished before it is answered again.
            let once = self.ran.get(&at) == Some(&1);
            let plain = once && life.fault_free && !life.disturbed && life.moved == 0;
            promise!(
                says || beyond || !finished || !plain,
                "3: the commit of {partition}:{base} does not say that {offset} is finished"
            );
        }
        Ok(())
    }

    /// Notes what was kept. Gives how much was said.
    pub(super) fn keep(&mut self, told: BTreeMap<i32, Told>, kept: bool) -> BTreeMap<i32, Said> {
        let said = told.iter().map(|(partition, told)| (*partition, told.said)).collect();
        if kept {
            for partition in told.keys() {
                self.forged.remove(partition);
            }
            self.told.extend(told);
        }
        said
    }

    /// What a start believes of it. The leader epoch of the commit ended at `parted`, if it did.
    pub(super) fn believe(&self, partition: i32, committed: i64, log: &Log, parted: Option<i64>) -> Finished {
        let Some(told) = self.told.get(&partition) else { return Finished::default() };
        if self.gullible
            && let Some(Forged(finished)) = self.forged.get(&partition)
        {
            return finished.clone();
        }
        let end = parted.unwrap_or(log.end).min(log.end);
        let place = Place { topic: self.topic.id(), partition, offset: Offset(committed) };
        let mut finished = match decode(&told.text, &place, Offset(end), true) {
            Ok((finished, _)) if committed <= end => finished,
            _ => Finished::default(),
        };
        finished.cut_below(Offset(log.start));
        finished
    }

    /// Somebody copies metadata to where it does not belong: it says that all the rest is finished.
    pub(super) fn meddle(&mut self) {
        for (partition, told) in &mut self.told {
            let Some(committed) = self.committed.get(partition).filter(|_| self.rng.u8(0..8) == 0) else { continue };
            let (topic, offset) = (self.topic.id(), Offset(*committed));
            let place = Place { topic, partition: *partition, offset };
            let place = match self.rng.u8(0..3) {
                0 => Place { topic: TopicId(uuid::Uuid::from_u128(99)), ..place },
                1 => Place { partition: partition + 1, ..place },
                _ => Place { offset: offset + -self.rng.i64(1..5), ..place },
            };
            let end = Offset(self.topic.logs.get(partition).map_or(0, |log| log.end));
            let finished: Finished = [Run::new(offset, end)].into_iter().collect();
            told.text = encode(&place, &finished, MOST_UNITS).text;
            (told.says, told.reach) = (Finished::default(), None);
            self.forged.insert(*partition, Forged(finished));
        }
    }

    /// Whether what was finished will run again.
    pub(super) fn repeats(&self, partition: i32, offset: i64) -> bool {
        let told = self.told.get(&partition);
        let says = |told: &Told| told.says.contains(Offset(offset)) || told.reach.is_some_and(|at| offset >= at.0);
        offset >= self.committed[&partition] && !told.is_some_and(says)
    }

    /// Whether the last commit of some partition had no room for all that is finished.
    pub(super) fn dropped(&self) -> u64 {
        let dropped = |told: &Told| match told.said {
            Said::Below { dropped, .. } | Said::Nothing { dropped } => dropped,
            Said::All => 0,
        };
        self.told.values().map(dropped).sum()
    }
}
