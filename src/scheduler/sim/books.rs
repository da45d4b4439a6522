//! The books that the world keeps, and what it holds the scheduler to.

use super::*;

impl World {
    /// What must be acknowledged of a message before it may count as finished.
    fn wanted(&self, at: At, went_well: bool) -> BTreeSet<Kind> {
        let Policy { reply, .. } = self.policy;
        match &self.plans[&at].verdict {
            Verdict::Succeeded(_) if !went_well => self.wanted_of_failure(),
            Verdict::Succeeded(Answer::Reply { .. }) if reply => [Kind::Reply].into(),
            Verdict::Succeeded(_) => [].into(),
            _ => self.wanted_of_failure(),
        }
    }

    fn wanted_of_failure(&self) -> BTreeSet<Kind> {
        let Policy { reply, dead_letter, .. } = self.policy;
        let kinds = [(dead_letter, Kind::DeadLetter), (reply, Kind::FailureReply)];
        kinds.into_iter().filter(|(wanted, _)| *wanted).map(|(_, kind)| kind).collect()
    }

    pub(super) fn is_settled(&self, at: At) -> bool {
        let written = self.written.get(&at);
        self.elsewhere.contains(&at)
            || self.ended.get(&at).into_iter().flatten().any(|went_well| {
                self.wanted(at, *went_well).iter().all(|kind| written.is_some_and(|w| w.contains(kind)))
            })
    }

    /// It has its fate, or was left out by wish.
    pub(super) fn is_accounted(&self, at: At) -> bool {
        self.is_settled(at) || self.excused.contains(&at)
    }

    /// Something was told: what it says is gone counts as told of, and what it says is left out is.
    pub(super) fn told(&mut self, life: &mut Life, event: &Event) {
        let Event::DataLoss(loss) = event else { return };
        let key = key(&loss.source);
        let (from, to) = (loss.from.0, loss.to.map_or(loss.from.0 - 1, |to| to.0));
        self.gone.retain(|at, (offset, _)| at.0 != key || !(from..=to).contains(offset));
        if loss.why != Why::Deleted {
            life.may_go_back.insert(key);
            // What was finished of it needs no telling.
            self.gone.retain(|at, (offset, _)| at.0 != key || *offset >= from);
            // Nor does what nobody has seen of a log that is gone altogether.
            if loss.why == Why::Recreated {
                self.gone.retain(|at, _| at.0 != key);
                let now: BTreeSet<At> = self.topics[key.0].all().collect();
                life.dead.extend(life.begun.iter().map(|(_, at)| *at).filter(|at| at.0 == key && !now.contains(at)));
            }
        }
        if let (OnDataLoss::Latest, Some(resumed)) = (self.rules.on_data_loss, loss.resumed_at) {
            self.gone.retain(|at, (offset, _)| at.0 != key || *offset >= resumed.0);
            let from = if loss.why == Why::Recreated { 0 } else { from };
            let left_out = |entry: &&log::Entry| (from..resumed.0).contains(&entry.offset);
            let entries = self.topics[key.0].logs.get(&key.1).into_iter().flat_map(|log| &log.entries).filter(left_out);
            self.excused.extend(entries.map(|entry| (key, entry.ident)));
        }
    }

    pub(super) fn start(&mut self, life: &mut Life, load: Load) -> Result<(), Violation> {
        promise!(life.draining.is_none(), "10: a task started while draining");
        life.busy += 1;
        promise!(life.busy <= self.rules.workers, "9: {} loads on {} workers", life.busy, self.rules.workers);
        promise!((1..=MAX_LOAD).contains(&load.records.len()), "9: a load of {}", load.records.len());
        let mut elapsed = Duration::ZERO;
        let (mut done, mut todo, mut late) = (Vec::new(), Vec::new(), None);
        let id = load.assignment;
        for record in load.records {
            let at = at(&record);
            let ours = life.ours.contains_key(&at.0) && !life.parted.contains(&id);
            promise!(ours, "4: {at:?} started, and is not ours");
            promise!(!life.leaving.contains_key(&at.0), "10: {at:?} started, and is to go");
            life.started.insert((id, record.offset.0), at);
            let committed = self.committed.get(&at.0).copied().unwrap_or(0);
            promise!(
                record.offset.0 >= committed
                    || life.is_odd(at.0.0)
                    || life.finished.contains(&at)
                    || !life.may_go_back.is_empty(),
                "3: {at:?} started below the commit {committed}"
            );
            promise!(
                !life.knows(at.0, record.offset) || life.is_odd(at.0.0),
                "3: {at:?} started, and the commit said that it is finished"
            );
            let plan = &self.plans[&at];
            if late.is_some() {
                life.loaded.insert((id, at));
                todo.push(record);
                continue;
            }
            self.starts(life, id, at)?;
            life.running.insert((id, at));
            elapsed += plan.time;
            if plan.hangs_once && !life.fault_free && self.hung.insert(at) {
                late = Some((record, None));
            } else if elapsed > Duration::from_millis(1) {
                late = Some((record, Some(elapsed)));
            } else {
                done.push(record);
            }
        }
        let overdue = Duration::from_millis(1);
        match late {
            None => life.plan(elapsed, Happening::News { id, done, todo, ended: true }),
            Some((record, ends)) => {
                if !done.is_empty() || !todo.is_empty() {
                    life.plan(overdue, Happening::News { id, done, todo, ended: false });
                }
                if let Some(elapsed) = ends {
                    life.plan(elapsed, Happening::News { id, done: vec![record], todo: Vec::new(), ended: true });
                }
            }
        }
        Ok(())
    }

    /// What a commit may reach to.
    pub(super) fn check_commit(&self, life: &mut Life, offsets: &BTreeMap<Key, i64>) -> Result<(), Violation> {
        for (key, offset) in offsets {
            let partition = format!("t{}-{}", key.0, key.1);
            promise!(life.ours.contains_key(key), "4: commit of {partition}, which is not ours");
            let log = self.log(*key);
            let before = self.committed.get(key).copied().unwrap_or(0);
            let below = log.entries.iter().filter(|entry| entry.offset < *offset);
            let unfinished = below.filter(|entry| {
                let at = (*key, entry.ident);
                // Settled in an earlier life of the process, and not in this one.
                let known = life.finished.contains(&at) || life.knows(*key, Offset(entry.offset));
                let again = entry.offset >= before && !known;
                !self.excused.contains(&at) && (!self.is_settled(at) || again)
            });
            if let Some(lowest) = unfinished.min_by_key(|entry| entry.offset) {
                let past = if life.is_odd(key.0) { "4: from a past life, " } else { "" };
                return Err(format!("1: {past}commit of {partition}:{offset}, lowest unfinished is {}", lowest.offset));
            }
            let untold = self.gone.iter().find(|(at, (gone, before_any))| {
                // What waits is given up at the end, or when the partition is to go, and left to whoever is next to tell of.
                let before_any = *before_any && life.draining.is_none() && !life.leaving.contains_key(key);
                at.0 == *key && (before_any || gone < offset) && !self.is_accounted(**at)
            });
            promise!(untold.is_none(), "6: commit of {partition}:{offset} before it is told that {untold:?} is gone");
            let back = life.may_go_back.contains(key);
            promise!(back || *offset >= before, "5: commit of {partition} goes back from {before} to {offset}");
        }
        if let (Some(since), Some(draining)) = (life.dirty_since.take(), life.draining.filter(|_| life.fault_free)) {
            let waited = life.now.duration_since(since.max(draining));
            let quick = waited <= Duration::from_millis(100) || !life.disturbed.is_empty() || !life.moved.is_empty();
            promise!(quick, "10: an outcome waited {waited:?} for its commit");
        }
        Ok(())
    }

    pub(super) fn news(
        &mut self,
        life: &mut Life,
        id: AssignmentId,
        done: Vec<Record>,
        todo: Vec<Record>,
        ended: bool,
    ) -> Result<(), Violation> {
        let mut outcomes = Vec::new();
        let mut failures = Vec::new();
        let mut page = Page::default();
        let mut judge = Judge { policy: self.policy, group: "g", page: &mut page };
        for record in done {
            let at = at(&record);
            let ran = life.running.remove(&(life.heir(id, at), at));
            promise!(ran, "3: {at:?} ended but did not run");
            let (verdict, time) = (self.verdict(life, at), self.plans[&at].time);
            if matches!(verdict, Verdict::Failed(_)) {
                failures.push((life.heir(id, at), at));
            } else {
                self.ended.entry(at).or_default().insert(true);
                *self.ran.entry(at).or_default() += 1;
                self.settle(life, at);
            }
            outcomes.push(fate::decide(record, verdict, time, &mut judge));
        }
        if ended {
            life.busy -= 1;
        }
        life.returned(id, &todo);
        for (id, at) in failures {
            self.fails(life, id, at)?;
        }
        life.scheduler.handle_done(id, outcomes, life.now);
        self.given_up(life)?;
        life.scheduler.handle_returned(id, todo.into_iter());
        if ended {
            life.scheduler.handle_load_ended();
        }
        Ok(())
    }

    pub(super) fn settle(&mut self, life: &mut Life, at: At) {
        // By the last life that began it: in others, it may be a ghost.
        let is_ours = |(id, that): &&(AssignmentId, At)| *that == at && !life.parted.contains(id);
        let last = life.begun.iter().filter(is_ours).max();
        let has_ended = |last| !life.running.contains(last) && !life.may_retry.contains_key(last);
        if self.is_settled(at) && last.is_some_and(has_ended) {
            life.finished.insert(at);
            life.dirty_since.get_or_insert(life.now);
        }
    }

    pub(super) fn ended(&self, life: &Life, summary: &Summary) -> Result<Death, Violation> {
        let offsets = |offsets: &PartitionOffsets| offsets.iter().map(|(of, offset)| (key(of), offset.0)).collect();
        let uncommitted: Vec<(Key, i64)> = offsets(&summary.uncommitted);
        let left = uncommitted.iter().find(|(key, _)| !life.disturbed.contains(&key.0));
        promise!(summary.forced || left.is_none(), "10: {left:?} is not committed, though its log is as it was");
        if summary.error.is_some() {
            // What befell one topic is no reason to leave another without its last commit.
            let only = life.disturbed.len() == self.topics.len();
            promise!(
                only || left.is_none() || life.draining.is_some_and(|since| life.now > since),
                "10: {left:?} was left"
            );
            return Ok(Death::Stopped);
        }
        let drained = life.draining.map_or(Duration::ZERO, |since| life.now.duration_since(since));
        let bound = self.rules.grace + LAST_COMMIT + Duration::from_millis(COMMIT_LATENCY_MS);
        promise!(drained <= bound, "10: the drain took {drained:?}, with a grace of {:?}", self.rules.grace);
        if !summary.forced
            && life.disturbed.is_empty()
            && life.ours.len() == self.topics.iter().map(|topic| topic.logs.len()).sum::<usize>()
        {
            let dropped = self.dropped();
            promise!(summary.progress_dropped == dropped, "3: {dropped} dropped, {} counted", summary.progress_dropped);
        }
        if !summary.forced {
            let mut running = life.running.iter().filter(|(id, at)| !life.is_odd(at.0.0) && !life.parted.contains(id));
            promise!(running.next().is_none(), "10: a clean end with {:?} running", life.running);
            let committed: Vec<(Key, i64)> = offsets(&summary.committed);
            for (key, offset) in committed.into_iter().filter(|(key, _)| life.ours.contains_key(key)) {
                let kept = self.committed.get(&key) == Some(&offset) || life.disturbed.contains(&key.0);
                promise!(kept, "10: a clean end without its last commit");
            }
        }
        Ok(if summary.forced { Death::Forced } else { Death::Clean })
    }

    /// What ran again, and whether it might.
    pub(super) fn look_back(
        &self,
        life: &Life,
        death: &Death,
        ran_before: &BTreeMap<At, u32>,
        committed_before: &BTreeMap<Key, i64>,
    ) -> Result<(), Violation> {
        for (at, times) in self.ran.iter().filter(|(at, _)| !life.disturbed.contains(&at.0.0)) {
            let before = ran_before.get(at).copied().unwrap_or(0);
            // What a commit has no room for is not known to whoever comes next, when what failed was left.
            let dropped = self.most_runs.is_some() && life.has_parted_with(at.0);
            let again = life.moved.contains(&at.0.0) || life.torn.contains(&at.0) || dropped;
            promise!(times - before <= 1 || again, "3: {at:?} ran {} times in one life", times - before);
            let committed = committed_before.get(&at.0).copied().unwrap_or(0);
            let offset = self.log(at.0).entries.iter().find(|entry| entry.ident == at.1).map(|entry| entry.offset);
            let above = offset.is_some_and(|offset| offset >= committed);
            promise!(
                *times == before || above || life.began_below.contains(&at.0),
                "3: {at:?} ran again below {committed}"
            );
        }
        // An end that is forced waits for its last commit, for so long; of what had been answered before, nobody knows whether
        // it was answered again.
        let waited = life.draining.map_or(Duration::ZERO, |since| life.now.duration_since(since));
        let forced = *death == Death::Forced && waited < self.rules.grace + LAST_COMMIT;
        if *death != Death::Clean && !forced {
            return Ok(());
        }
        // What was read while the leader changed may be read again.
        for key in life.ours.keys().filter(|key| !life.disturbed.contains(&key.0)) {
            let all = &life.committed;
            promise!(forced || all.contains(key), "5: only {all:?} were committed, others may expire");
            if !life.moved.contains(&key.0) && self.committed.contains_key(key) {
                self.check_nothing_is_repeated(life, *key, |at| {
                    let before = ran_before.contains_key(at) || self.elsewhere.contains(at);
                    forced && (before || life.torn.contains(key))
                })?;
            }
        }
        Ok(())
    }

    /// Whoever goes on where a partition is committed runs nothing that is finished.
    pub(super) fn check_nothing_is_repeated(
        &self,
        life: &Life,
        key: Key,
        unknown: impl Fn(&At) -> bool,
    ) -> Result<(), Violation> {
        let is_repeated = |entry: &&log::Entry| {
            let at = (key, entry.ident);
            life.finished.contains(&at) && !unknown(&at) && self.repeats(key, entry.offset)
        };
        let repeated = self.log(key).entries.iter().find(is_repeated);
        promise!(repeated.is_none(), "3: a stop will repeat {repeated:?}");
        Ok(())
    }
}
