//! What was made of the transactions of a shard, as it is written down.

use serde::{Deserialize, Serialize};

use super::judge::Said;
use crate::event::MapKey;
use crate::flow::{Epoch, EpochFacts, shard_of};
use crate::operators::{Dumper, Images};
use crate::retain::{Records, Transaction};

const NAME: &str = "said";

/// What was made of one transaction.
#[derive(Serialize, Deserialize)]
struct SaidImage {
    key: MapKey,
    kept: Vec<u8>,
    said: Option<Said>,
}

/// Loads what there is of this worker's shards, whose transactions are loaded already.
pub(super) fn load(images: &Images, records: &mut Records<Said>) -> Result<(), String> {
    images.load(NAME, |all: Vec<SaidImage>| {
        for SaidImage { key, kept, said } in all {
            let Some(number) = records.find(&key) else { continue };
            records.keep(number, |nothing| *nothing = kept);
            if let Some(transaction) = records.get_mut(number) {
                transaction.said = said;
            }
        }
        Ok(())
    })
}

/// Dumps what is to be dumped at the end of epochs before this one.
pub(super) fn dump_before(until: Epoch, dumper: &mut Dumper, facts: &EpochFacts, records: &mut Records<Said>) {
    while let Some(epoch) = dumper.due(until, facts) {
        // What later epochs have let go of meanwhile was there at the end of this one.
        records.free(epoch);
        dumper.dump(epoch, facts, |images, shard| {
            let left = records.leaving().filter(|one| shard_of(one.key.route()) == shard);
            let mut all: Vec<SaidImage> = records.of_shard(shard).chain(left).filter_map(said).collect();
            all.sort_unstable_by_key(|one| one.key);
            if !all.is_empty() {
                images.put(NAME, shard, epoch, &all);
            }
        });
    }
}

fn said(transaction: &Transaction<Said>) -> Option<SaidImage> {
    let Transaction { key, kept, said, .. } = transaction;
    let any = said.is_some() || !kept.is_empty();
    any.then(|| SaidImage { key: *key, kept: kept.clone(), said: said.clone() })
}
