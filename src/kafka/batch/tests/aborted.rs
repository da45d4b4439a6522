//! Which records count is the same as when one knows how each transaction ended.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{CONTROL, Plan, Planned, TRANSACTIONAL, first};
use crate::{
    kafka::batch::{Aborted, AbortedTransactions, RawBatch},
    record::Offset,
};

/// What happens in a log, one thing after the other.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// A producer writes a batch of so many records in its transaction.
    Write(i64, i32),
    /// A producer ends its transaction, if it is in one.
    End(i64, bool),
    /// Somebody writes without a transaction: a producer with an id, or nobody.
    Plain(Option<i64>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let producer = || 0..4_i64;
    let step = prop_oneof![
        4 => (producer(), 1..4).prop_map(|(producer, records)| Step::Write(producer, records)),
        2 => (producer(), any::<bool>()).prop_map(|(producer, commit)| Step::End(producer, commit)),
        1 => prop::option::of(10..12_i64).prop_map(Step::Plain),
    ];
    prop::collection::vec(step, 0..60)
}

/// A log, and of each batch which transaction it belongs to.
#[derive(Default)]
struct Log {
    batches: Vec<(RawBatch, Option<usize>)>,
    transactions: Vec<Transaction>,
}

struct Transaction {
    producer_id: i64,
    first: i64,
    /// Where its marker is, and whether it was committed.
    end: Option<(i64, bool)>,
}

impl Log {
    fn new(steps: &[Step]) -> Self {
        let (mut log, mut next, mut open) = (Self::default(), 0, HashMap::new());
        for step in steps {
            let (plan, transaction) = match *step {
                Step::Write(producer_id, records) => {
                    let transaction = *open.entry(producer_id).or_insert_with(|| {
                        log.transactions.push(Transaction { producer_id, first: next, end: None });
                        log.transactions.len() - 1
                    });
                    let records = (0..records).map(|at| Planned::new(at, "")).collect();
                    (Plan { attributes: TRANSACTIONAL, producer_id, ..Plan::new(records) }, Some(transaction))
                }
                Step::End(producer_id, commit) => {
                    let Some(transaction) = open.remove(&producer_id) else { continue };
                    log.transactions[transaction].end = Some((next, commit));
                    let key = Some(vec![0, 0, 0, u8::from(commit)]);
                    let records = vec![Planned { key, ..Planned::new(0, "") }];
                    (Plan { attributes: TRANSACTIONAL | CONTROL, producer_id, ..Plan::new(records) }, None)
                }
                Step::Plain(producer) => {
                    (Plan { producer_id: producer.unwrap_or(-1), ..Plan::new(vec![Planned::new(0, "")]) }, None)
                }
            };
            let batch = first(Plan { base_offset: next, ..plan }.encode()).expect("a batch").expect("good");
            next = batch.last_offset().0 + 1;
            log.batches.push((batch, transaction));
        }
        log
    }

    /// A broker gives nothing from the first open transaction on to those who read committed records.
    fn stable(&self) -> i64 {
        let open = self.transactions.iter().filter(|transaction| transaction.end.is_none());
        open.map(|transaction| transaction.first).min().unwrap_or(i64::MAX)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_batch_counts_unless_its_transaction_was_aborted(
        steps in steps(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        turn in any::<bool>(),
    ) {
        let log = Log::new(&steps);
        let stable: Vec<_> = log.batches.iter().filter(|(batch, _)| batch.last_offset().0 < log.stable()).collect();
        prop_assume!(!stable.is_empty());
        let from = from.index(stable.len());
        let fetched = &stable[from..=from + to.index(stable.len() - from)];
        let (begin, end) = (fetched[0].0.base_offset().0, fetched[fetched.len() - 1].0.last_offset().0);
        // What touches the range that was fetched, as brokers name it: those that ended before it do not.
        let mut list: Vec<_> = log
            .transactions
            .iter()
            .filter(|one| matches!(one.end, Some((marker, false)) if marker >= begin && one.first <= end))
            .map(|one| Aborted { producer_id: one.producer_id, first_offset: Offset(one.first) })
            .collect();
        if turn {
            list.reverse();
        }
        let mut aborted = AbortedTransactions::new(list);
        for (batch, transaction) in fetched {
            let expected = transaction.is_some_and(|at| matches!(log.transactions[at].end, Some((_, false))));
            prop_assert_eq!(aborted.is_aborted(batch).expect("good"), expected, "at {}", batch.base_offset());
        }
    }
}

#[test]
fn a_marker_that_cannot_be_read_is_damage() {
    let plan = Plan { attributes: TRANSACTIONAL | CONTROL, producer_id: 1, ..Plan::new(vec![Planned::new(0, "")]) };
    let batch = first(plan.encode()).expect("a batch").expect("good");
    AbortedTransactions::default().is_aborted(&batch).expect_err("no key");
}
