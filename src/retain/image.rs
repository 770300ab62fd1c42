//! What came, as it is written down: the transactions of a shard, and the labels that wait for theirs.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::arrivals::{Arrivals, Effects, WaitingLabel};
use super::records::{Records, Transaction};
use super::verdict::LabelRecord;
use crate::event::{Event, MapKey, Op, Schema};
use crate::flow::{Epoch, EpochFacts, Horizons, shard_of};
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
    /// The event time by which it expires: of what was withdrawn before it came, later than its own.
    due_ms: i64,
    rows: u32,
}

/// What an epoch has made of the transaction, or of the labels that wait for it, of one key: nothing if it is not kept.
#[derive(Serialize, Deserialize)]
pub(super) struct KeyImage {
    key: MapKey,
    transaction: Option<TransactionImage>,
    waiting: Option<Vec<WaitingLabel>>,
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
    // Keys that epochs have changed after their shard was dumped.
    let mut later: BTreeMap<MapKey, KeyImage> = BTreeMap::new();
    images.replay_asked(TRANSACTIONS_IMAGE, |of_workers: Vec<Vec<KeyImage>>, fresh| {
        let keys = of_workers.into_iter().flatten();
        later.extend(keys.filter(|one| fresh(0, shard_of(one.key.route()))).map(|one| (one.key, one)));
        Ok(())
    })?;
    images.load_from(TRANSACTIONS_IMAGE, |shard: ShardOfTransactions, renewal| {
        let migration = renewal.map(|renewal| renewal.earlier.schema.migration(schema)).transpose()?;
        let migrated = |event: Event| match &migration {
            Some(migration) => migration.event(&event),
            None => Ok(event),
        };
        for mut one in shard.transactions {
            // Those that were built anew from the journal came before.
            let known = migration.is_some() && records.find(&one.key).is_some();
            if !known && !later.contains_key(&one.key) {
                one.event = migrated(one.event)?;
                take(one, rules, records);
            }
        }
        for (key, mut waiting) in shard.waiting {
            let known = migration.is_some() && rules.waiting.get(&key).is_some();
            if known || later.contains_key(&key) {
                continue;
            }
            for label in &mut waiting {
                label.arrival.event = migrated(std::mem::take(&mut label.arrival.event))?;
            }
            wait(key, waiting, rules);
        }
        Ok(())
    })?;
    for (key, KeyImage { transaction, waiting, .. }) in later {
        transaction.into_iter().for_each(|one| take(one, rules, records));
        waiting.into_iter().for_each(|waiting| wait(key, waiting, rules));
    }
    if let Some(facts) = images.facts().filter(|_| images.is_gradual()) {
        // What expired after its shard was dumped; that was said then.
        rules.expire(records, &facts, usize::MAX, &mut Effects::default());
        records.free(facts.epoch);
    }
    Ok(())
}

fn take<S>(image: TransactionImage, rules: &mut Arrivals, records: &mut Records<S>) {
    let TransactionImage { key, event, op, labels, due_ms, rows } = image;
    rules.expiring.put(key, due_ms);
    let mut transaction = Transaction::new(key, event, op, 0);
    (transaction.labels, transaction.due_ms, transaction.rows) = (labels, due_ms, rows);
    records.insert(transaction);
}

fn wait(key: MapKey, waiting: Vec<WaitingLabel>, rules: &mut Arrivals) {
    waiting.iter().for_each(|label| rules.waiting_until.put(key, label.arrival.event.time));
    rules.waiting.insert(key, waiting);
}

/// Dumps what is to be dumped at the end of epochs before this one.
pub(super) fn dump_before<S>(
    until: Epoch,
    dumper: &mut Dumper,
    facts: &EpochFacts,
    rules: &Arrivals,
    records: &Records<S>,
) {
    while let Some((epoch, dump)) = dumper.due(until, facts) {
        dumper.pass((epoch, dump), 1, |images, _, shard| put(images, shard, epoch, rules, records));
    }
}

/// Dumps a piece as of the end of this epoch, if it is time for that.
pub(super) fn dump_piece<S>(now: Epoch, dumper: &mut Dumper, rules: &Arrivals, records: &Records<S>) {
    dumper.turn(now, |images, _, shard| put(images, shard, now, rules, records));
}

fn put<S>(images: &Images, shard: u32, epoch: Epoch, rules: &Arrivals, records: &Records<S>) {
    let image = dumped(shard, rules, records);
    if !(image.transactions.is_empty() && image.waiting.is_empty()) {
        images.put(TRANSACTIONS_IMAGE, shard, epoch, &image);
    }
}

/// What is kept of some keys now.
pub(super) fn of_keys<S>(keys: &BTreeSet<MapKey>, rules: &Arrivals, records: &Records<S>) -> Vec<KeyImage> {
    let of_key = |key: &MapKey| {
        let transaction = records.find(key).and_then(|number| records.get(number)).map(image_of);
        KeyImage { key: *key, transaction, waiting: rules.waiting.get(key).cloned() }
    };
    keys.iter().map(of_key).collect()
}

fn image_of<S>(one: &Transaction<S>) -> TransactionImage {
    TransactionImage {
        key: one.key,
        event: (*one.event).clone(),
        op: one.op,
        labels: one.labels.clone(),
        due_ms: one.due_ms,
        rows: one.rows,
    }
}

fn dumped<S>(shard: u32, rules: &Arrivals, records: &Records<S>) -> ShardOfTransactions {
    let mut transactions: Vec<TransactionImage> = records.of_shard(shard).map(image_of).collect();
    transactions.sort_unstable_by_key(|one| one.key);
    let waiting = rules.waiting.of_shard(shard).map(|(key, labels)| (*key, labels.clone()));
    let mut waiting: Vec<(MapKey, Vec<WaitingLabel>)> = waiting.collect();
    waiting.sort_unstable_by_key(|(key, _)| *key);
    ShardOfTransactions { transactions, waiting }
}
