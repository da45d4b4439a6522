//! What travels with the commits of the simulated world: written, kept, meddled with, and believed.
//!
//! The world looks into each string by itself: what it says must be finished by the world's own books, and what was finished
//! must be in it, unless it has no room.

use super::*;
use crate::progress::{Encoded, Finished, MOST_UNITS, Notes, Place, Run, decode, encode, encode_with, notes};

/// What went with a commit.
#[derive(Debug, Clone)]
pub(super) struct Told {
    text: String,
    /// What it says is finished.
    says: Finished,
    /// How far it reaches, if not over everything.
    reach: Option<Offset>,
    said: Said,
    topic: TopicIndex,
}

/// Metadata that somebody put beside a commit for which it was not written, and what it says.
#[derive(Debug, Clone)]
pub(super) struct Forged(Finished);

impl World {
    /// What goes with the commits of an ask. In some worlds there is room for a few runs only.
    pub(super) fn tell(&self, life: &Life, topic: usize, ask: &TopicAsk) -> Result<BTreeMap<Key, Told>, Violation> {
        let mut all = BTreeMap::new();
        for (partition, commit) in &ask.commits {
            let mut says = ask.finished.get(partition).cloned().unwrap_or_default();
            let reach = self.most_runs.and_then(|most| says.runs().get(most)).map(|run| run.first);
            let dropped = reach.map_or(0, |reach| says.count_from(reach));
            if let Some(reach) = reach {
                says.cut_from(reach);
            }
            let place = Place { topic: ask.id, partition: *partition, offset: commit.offset };
            let noted = ask.notes.get(partition).cloned().unwrap_or_default();
            let Encoded { text, .. } = encode_with(&place, &says, &noted, MOST_UNITS);
            let said = reach.map_or(Said::All, |reach| Said::Below { reach, dropped });
            let told = Told { text, says, reach, said, topic: ask.topic };
            let key = (topic, *partition);
            self.check_told(life, key, commit.offset, &told)?;
            all.insert(key, told);
        }
        Ok(all)
    }

    /// Somebody else has committed, and says that these are finished, too.
    pub(super) fn tell_elsewhere(&mut self, key: Key, offset: Offset, mut says: Finished) {
        says.cut_below(offset);
        let place = Place { topic: self.topics[key.0].id(), partition: key.1, offset };
        let text = encode(&place, &says, MOST_UNITS).text;
        self.forged.remove(&key);
        let topic = TopicIndex(0);
        self.told.insert(key, Told { text, says, reach: None, said: Said::All, topic });
    }

    fn check_told(&self, life: &Life, key: Key, base: Offset, told: &Told) -> Result<(), Violation> {
        let partition = format!("t{}-{}", key.0, key.1);
        for entry in &self.log(key).entries {
            let (at, offset) = ((key, entry.ident), Offset(entry.offset));
            let known = life.knows(key, offset) || self.excused.contains(&at);
            let finished = life.finished.contains(&at);
            let says = told.says.contains(offset);
            promise!(!says || finished || known, "1: the commit of {partition}:{base} says that {offset} is finished");
            let beyond = offset < base || told.reach.is_some_and(|reach| offset >= reach);
            // Of a fault the world may know before the scheduler does; and what was answered in an earlier life, or by somebody
            // else, counts as finished before it is answered again.
            let once = self.ran.get(&at) == Some(&1) && !self.elsewhere.contains(&at);
            let plain = once && life.fault_free && !life.is_odd(key.0) && !life.torn.contains(&key);
            promise!(
                says || beyond || !finished || !plain,
                "3: the commit of {partition}:{base} does not say that {offset} is finished"
            );
        }
        Ok(())
    }

    /// Notes what was kept. Gives how much was said of each partition.
    pub(super) fn keep(
        &mut self,
        told: BTreeMap<Key, Told>,
        is_kept: impl Fn(&Key) -> bool,
    ) -> Vec<(TopicIndex, i32, Said)> {
        let said = told.iter().map(|(key, told)| (told.topic, key.1, told.said)).collect();
        for (key, told) in told.into_iter().filter(|(key, _)| is_kept(key)) {
            self.forged.remove(&key);
            self.told.insert(key, told);
        }
        said
    }

    /// What a start believes of it. The leader epoch of the commit ended at `parted`, if it did.
    pub(super) fn believe(&self, key: Key, committed: i64) -> Finished {
        let Some(told) = self.told.get(&key) else { return Finished::default() };
        if self.gullible
            && let Some(Forged(finished)) = self.forged.get(&key)
        {
            return finished.clone();
        }
        let (log, end) = (self.log(key), self.end_for(key).0);
        let place = Place { topic: self.topics[key.0].id(), partition: key.1, offset: Offset(committed) };
        let mut finished = match decode(&told.text, &place, Offset(end), true) {
            Ok((finished, _)) if committed <= end => finished,
            _ => Finished::default(),
        };
        finished.cut_below(Offset(log.start));
        finished
    }

    /// How far the log goes that the last commit was made in.
    pub(super) fn end_for(&self, key: Key) -> Offset {
        let log = self.log(key);
        let parted = self.epochs.get(&key).and_then(|epoch| log.end_of_epoch(*epoch));
        Offset(parted.unwrap_or(log.end).min(log.end))
    }

    /// What else a start believes.
    pub(super) fn believe_notes(&self, key: Key, committed: i64) -> Notes {
        let Some(told) = self.told.get(&key) else { return Notes::default() };
        let place = Place { topic: self.topics[key.0].id(), partition: key.1, offset: Offset(committed) };
        notes(&told.text, &place)
    }

    /// Somebody copies metadata to where it does not belong: it says that all the rest is finished.
    pub(super) fn meddle(&mut self) {
        for (key, told) in &mut self.told {
            let Some(committed) = self.committed.get(key).filter(|_| self.rng.u8(0..8) == 0) else { continue };
            let (topic, offset) = (self.topics[key.0].id(), Offset(*committed));
            let place = Place { topic, partition: key.1, offset };
            let place = match self.rng.u8(0..3) {
                0 => Place { topic: TopicId(uuid::Uuid::from_u128(99)), ..place },
                1 => Place { partition: key.1 + 1, ..place },
                _ => Place { offset: offset + -self.rng.i64(1..5), ..place },
            };
            let end = Offset(self.topics[key.0].logs.get(&key.1).map_or(0, |log| log.end));
            let finished: Finished = [Run::new(offset, end)].into_iter().collect();
            told.text = encode(&place, &finished, MOST_UNITS).text;
            (told.says, told.reach) = (Finished::default(), None);
            self.forged.insert(*key, Forged(finished));
        }
    }

    /// Whether what was finished will run again.
    pub(super) fn repeats(&self, key: Key, offset: i64) -> bool {
        let told = self.told.get(&key);
        let says = |told: &Told| told.says.contains(Offset(offset)) || told.reach.is_some_and(|at| offset >= at.0);
        offset >= self.committed[&key] && !told.is_some_and(says)
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
