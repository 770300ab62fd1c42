//! What came, as it is written down: the transactions of a shard, and the labels that wait for theirs.

use serde::{Deserialize, Serialize};

use super::arrivals::{Arrivals, WaitingLabel};
use super::records::{Records, Transaction};
use super::verdict::LabelRecord;
use crate::event::{Event, MapKey, Op};
use crate::flow::{Epoch, EpochFacts};
use crate::operators::{Dumper, Images};

const NAME: &str = "transactions";

/// The transactions of a shard.
#[derive(Serialize, Deserialize)]
struct ShardOfTransactions {
    transactions: Vec<TransactionImage>,
    waiting: Vec<(MapKey, Vec<WaitingLabel>)>,
}

/// What came of one transaction.
#[derive(Serialize, Deserialize)]
struct TransactionImage {
    key: MapKey,
    event: Event,
    op: Op,
    labels: Vec<LabelRecord>,
    /// The event time by which it expires: of what was withdrawn before it came, later than its own.
    due_ms: i64,
    rows: u32,
}

/// Loads what there is of this worker's shards.
pub(super) fn load<S>(images: &Images, rules: &mut Arrivals, records: &mut Records<S>) -> Result<(), String> {
    images.load(NAME, |shard: ShardOfTransactions| {
        for TransactionImage { key, event, op, labels, due_ms, rows } in shard.transactions {
            rules.expiring.put(key, due_ms);
            let mut transaction = Transaction::new(key, event, op, 0);
            (transaction.labels, transaction.due_ms, transaction.rows) = (labels, due_ms, rows);
            records.insert(transaction);
        }
        for (key, waiting) in shard.waiting {
            waiting.iter().for_each(|label| rules.waiting_until.put(key, label.arrival.event.time));
            rules.waiting.insert(key, waiting);
        }
        Ok(())
    })
}

/// Dumps what is to be dumped at the end of epochs before this one.
pub(super) fn dump_before<S>(
    until: Epoch,
    dumper: &mut Dumper,
    facts: &EpochFacts,
    rules: &Arrivals,
    records: &Records<S>,
) {
    while let Some(epoch) = dumper.due(until, facts) {
        dumper.dump(epoch, facts, |images, shard| {
            let image = dumped(shard, rules, records);
            if !(image.transactions.is_empty() && image.waiting.is_empty()) {
                images.put(NAME, shard, epoch, &image);
            }
        });
    }
}

fn dumped<S>(shard: u32, rules: &Arrivals, records: &Records<S>) -> ShardOfTransactions {
    let image = |one: &Transaction<S>| TransactionImage {
        key: one.key,
        event: (*one.event).clone(),
        op: one.op,
        labels: one.labels.clone(),
        due_ms: one.due_ms,
        rows: one.rows,
    };
    let mut transactions: Vec<TransactionImage> = records.of_shard(shard).map(image).collect();
    transactions.sort_unstable_by_key(|one| one.key);
    let waiting = rules.waiting.of_shard(shard).map(|(key, labels)| (*key, labels.clone()));
    let mut waiting: Vec<(MapKey, Vec<WaitingLabel>)> = waiting.collect();
    waiting.sort_unstable_by_key(|(key, _)| *key);
    ShardOfTransactions { transactions, waiting }
}
