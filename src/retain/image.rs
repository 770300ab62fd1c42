//! What came, as it is written down: the transactions of a shard, and the labels that wait for theirs.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::arrivals::{Arrivals, WaitingLabel};
use super::records::{Records, Transaction};
use super::verdict::LabelRecord;
use crate::event::{Event, MapKey, Op, Schema};
use crate::flow::{Epoch, EpochFacts, Horizons};
use crate::operators::{Dumper, Images, TRANSACTIONS_IMAGE};

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
    rows: u32,
}

/// Loads what there is of this worker's shards.
pub(super) fn load<S>(
    images: &Images,
    schema: &Schema,
    horizons: Horizons,
    rules: &mut Arrivals,
    records: &mut Records<S>,
) -> Result<(), String> {
    images.declare(TRANSACTIONS_IMAGE, xxh3_64(format!("{horizons:?}").as_bytes()));
    images.load_from(TRANSACTIONS_IMAGE, |shard: ShardOfTransactions, renewal| {
        let migration = renewal.map(|renewal| renewal.earlier.schema.migration(schema)).transpose()?;
        let migrated = |event: Event| match &migration {
            Some(migration) => migration.event(&event),
            None => Ok(event),
        };
        for TransactionImage { key, event, op, labels, rows } in shard.transactions {
            // Those that were built anew from the journal came before.
            if migration.is_some() && records.find(&key).is_some() {
                continue;
            }
            let event = migrated(event)?;
            rules.expiring.put(key, event.time);
            let mut transaction = Transaction::new(key, event, op, 0);
            (transaction.labels, transaction.rows) = (labels, rows);
            records.insert(transaction);
        }
        for (key, mut waiting) in shard.waiting {
            if migration.is_some() && rules.waiting.get(&key).is_some() {
                continue;
            }
            for label in &mut waiting {
                label.arrival.event = migrated(std::mem::take(&mut label.arrival.event))?;
            }
            waiting.iter().for_each(|label| rules.expiring.put(key, label.arrival.event.time));
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
                images.put(TRANSACTIONS_IMAGE, shard, epoch, &image);
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
        rows: one.rows,
    };
    let mut transactions: Vec<TransactionImage> = records.of_shard(shard).map(image).collect();
    transactions.sort_unstable_by_key(|one| one.key);
    let waiting = rules.waiting.of_shard(shard).map(|(key, labels)| (*key, labels.clone()));
    let mut waiting: Vec<(MapKey, Vec<WaitingLabel>)> = waiting.collect();
    waiting.sort_unstable_by_key(|(key, _)| *key);
    ShardOfTransactions { transactions, waiting }
}
