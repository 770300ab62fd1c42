//! What was made of the transactions of a shard, as it is written down.

use serde::{Deserialize, Serialize};

use super::judge::Said;
use crate::event::MapKey;
use crate::flow::{Epoch, EpochFacts, shard_of};
use crate::operators::{Dumper, Images, Renewal};
use crate::retain::{Records, Transaction, kept};

/// What it is filed under.
pub(super) const NAME: &str = "said";

/// What was made of one transaction.
#[derive(Serialize, Deserialize)]
pub(super) struct SaidImage {
    key: MapKey,
    kept: Vec<u8>,
    said: Option<Said>,
}

impl SaidImage {
    fn is_any(&self) -> bool {
        self.said.is_some() || !self.kept.is_empty()
    }

    /// Finds columns and look-ups again by their names.
    fn renew(&mut self, Renewal { earlier, plan }: &Renewal) {
        let place = |column: u16| {
            let name = earlier.columns.get(usize::from(column));
            name.and_then(|name| plan.columns.iter().position(|now| now == name)).map_or(column, |now| now as u16)
        };
        for reason in self.said.iter_mut().flat_map(|said| &mut said.assessment.reasons) {
            reason.column = place(reason.column);
        }
        let (mut renewed, before) = (Vec::new(), |number: u16| earlier.looked_up.get(&number));
        kept::recall(
            &self.kept,
            |number| before(number).map_or(0, Vec::len),
            |number, values| {
                // A look-up with other columns knows nothing of what the earlier one saw.
                let values: Vec<u64> = values.map(f64::to_bits).collect();
                let now = plan.looked_up.iter().find(|(_, columns)| Some(*columns) == before(number));
                if let Some((now, _)) = now {
                    kept::note(&mut renewed, *now, &values);
                }
            },
        );
        self.kept = renewed;
    }
}

/// Loads what there is of this worker's shards, whose transactions are loaded already.
pub(super) fn load(images: &Images, records: &mut Records<Said>) -> Result<(), String> {
    images.load_from(NAME, |all: Vec<SaidImage>, renewal| {
        for mut image in all {
            if let Some(renewal) = renewal {
                image.renew(renewal);
            }
            take(image, records);
        }
        Ok(())
    })?;
    images.replay_asked(NAME, |of_workers: Vec<Vec<SaidImage>>, fresh| {
        let later = of_workers.into_iter().flatten().filter(|one| fresh(0, shard_of(one.key.route())));
        later.for_each(|image| take(image, records));
        Ok(())
    })
}

fn take(SaidImage { key, kept, said }: SaidImage, records: &mut Records<Said>) {
    let Some(number) = records.find(&key) else { return };
    records.keep(number, |before| *before = kept);
    if let Some(transaction) = records.get_mut(number) {
        transaction.said = said;
    }
}

/// Dumps what is to be dumped at the end of epochs before this one.
pub(super) fn dump_before(until: Epoch, dumper: &mut Dumper, facts: &EpochFacts, records: &mut Records<Said>) {
    while let Some((epoch, dump)) = dumper.due(until, facts) {
        // What later epochs have let go of meanwhile was there at the end of this one.
        records.free(epoch);
        dumper.pass((epoch, dump), 1, |images, _, shard| put(images, shard, epoch, records));
    }
}

/// Dumps a piece as of the end of this epoch, if it is time for that.
pub(super) fn dump_piece(now: Epoch, dumper: &mut Dumper, records: &mut Records<Said>) {
    records.free(now);
    dumper.turn(now, |images, _, shard| put(images, shard, now, records));
}

fn put(images: &Images, shard: u32, epoch: Epoch, records: &Records<Said>) {
    let left = records.leaving().filter(|one| shard_of(one.key.route()) == shard);
    let mut all: Vec<SaidImage> = records.of_shard(shard).chain(left).map(of).filter(SaidImage::is_any).collect();
    all.sort_unstable_by_key(|one| one.key);
    if !all.is_empty() {
        images.put(NAME, shard, epoch, &all);
    }
}

/// What was made of a transaction by now.
pub(super) fn of(Transaction { key, kept, said, .. }: &Transaction<Said>) -> SaidImage {
    SaidImage { key: *key, kept: kept.clone(), said: said.clone() }
}
