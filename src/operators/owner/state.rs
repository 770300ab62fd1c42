//! The view of one worker, and what it owes.

use std::sync::Arc;

use timely::scheduling::Activator;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::EPOCHS_PER_REPORT;
use crate::flow::{Beyond, EVERY_SHARD, Epoch, EpochFacts, Facts, LAST, Owed, OwedBy, Place, Touched};
use crate::metrics::Metrics;
use crate::operators::backlog::{Backlog, Stretch};
use crate::operators::view::{Asks, Mark, Out, Turn, View};
use crate::operators::{Dumper, Images, name_of_part};

/// The view of one worker, and what it owes.
pub(super) struct Owner<V: View> {
    pub view: V,
    /// What its parts are filed under.
    parts: Vec<String>,
    name: String,
    backlog: Backlog,
    /// Transactions that were sent around in the last epoch, and are read in the next one.
    sent: Vec<Touched>,
    read_ms: i64,
    owed: OwedBy,
    dumper: Dumper,
    images: Images,
    metrics: Arc<Metrics>,
    epochs_since_report: u32,
}

impl<V: View> Owner<V> {
    /// A view with what there is to be loaded of it.
    pub fn load(
        mut view: V,
        (name, fingerprint): (String, u64),
        read_ms: i64,
        owed: Owed,
        images: Images,
        (activator, metrics): (Activator, Arc<Metrics>),
    ) -> Result<Self, String> {
        let mut backlog = Backlog::default();
        let parts: Vec<String> = view.parts().iter().map(|part| name_of_part(&name, &part.name)).collect();
        for (number, part) in view.parts().iter().enumerate() {
            images.declare(&parts[number], xxh3_64_with_seed(&part.fingerprint.to_le_bytes(), fingerprint));
            images.load(&parts[number], |image| view.load(number, image))?;
        }
        replay_asked(&mut view, &name, &images)?;
        images.load(&backlog_of(&name), |stretches| {
            backlog.load(stretches);
            Ok(())
        })?;
        let owed = owed.part();
        owed.set(backlog.len() as u64);
        let (sent, dumped_as) = (Vec::new(), name.clone());
        Ok(Owner {
            view,
            parts,
            name,
            backlog,
            sent,
            read_ms,
            owed,
            dumper: Dumper::new(images.clone(), &dumped_as, activator),
            images,
            metrics,
            epochs_since_report: 0,
        })
    }

    /// Whether another epoch must come for rows to be read again.
    pub fn owes(&self) -> bool {
        !(self.backlog.is_empty() && self.sent.is_empty())
    }

    /// What is to be done once the view is done with an epoch. Returns what is to be read again, and what is too old for it.
    pub fn settle(&mut self, now: &Facts, marks: Vec<Mark>) -> (Vec<Touched>, Vec<Beyond>) {
        let mut beyond = Vec::new();
        for mark in marks {
            self.mark(now, mark, &mut beyond);
        }
        let touched = self.repair(now);
        self.view.expire(now);
        self.epochs_since_report += 1;
        if self.epochs_since_report >= EPOCHS_PER_REPORT {
            self.epochs_since_report = 0;
            self.view.report(&self.metrics, false);
        }
        self.sent.clone_from(&touched);
        let keys = self.backlog.len().max(usize::from(!touched.is_empty())) as u64;
        if self.owed.set(keys) != keys {
            self.metrics.backlog_of.set_own(&self.name, keys);
            self.metrics.backlog.set_own(self.owed.of_all());
        }
        (touched, beyond)
    }

    /// Notes touched rows, as far as they are still revised; of those that are not, one record.
    fn mark(&mut self, now: &Facts, mark: Mark, beyond: &mut Vec<Beyond>) {
        let Mark { plan, key, stretch: Stretch { mut after, until_ms, cause }, id, time_ms } = mark;
        let (revise_ms, what) = self.view.revised(plan);
        let revised_from = now.before_ms.saturating_sub(revise_ms);
        if after.0 < revised_from {
            let old_ms = until_ms.min(revised_from - 1);
            let first = self.view.scored_after(plan, key, after).map(|(from_ms, _)| from_ms).next();
            beyond.extend(first.filter(|from_ms| *from_ms <= old_ms).map(|from_ms| Beyond {
                id,
                what,
                cause,
                time_ms,
                from_ms,
                until_ms: old_ms,
            }));
            after = (revised_from - 1, LAST);
        }
        if after.0 <= until_ms {
            self.backlog.mark(plan, key, Stretch { after, until_ms, cause });
        }
    }

    /// The next touched rows, about as many as the epoch repairs, and all that could not be read any more in the next epoch.
    fn repair(&mut self, now: &Facts) -> Vec<Touched> {
        let (view, mut touched) = (&self.view, Vec::new());
        self.backlog.hasten(now.watermark_ms.saturating_sub(self.read_ms), |plan, key, stretch| {
            walk(view.scored_after(plan, key, stretch.after), stretch, usize::MAX, &mut touched);
        });
        self.backlog.repair(now.epoch, now.repair, |plan, key, stretch, limit| {
            let before = touched.len();
            let stopped = walk(view.scored_after(plan, key, stretch.after), stretch, limit, &mut touched);
            (touched.len() - before, stopped)
        });
        touched
    }

    /// Dumps what is to be dumped at the end of epochs before this one. `pass_by` lets event time come to the end of an epoch.
    pub fn dump_before(&mut self, until: Epoch, facts: &EpochFacts, mut pass_by: impl FnMut(&mut V, Epoch)) {
        while let Some((epoch, dump)) = self.dumper.due(until, facts) {
            pass_by(&mut self.view, epoch + 1);
            let Owner { view, parts, backlog, sent, name, images, .. } = self;
            let ended = self.dumper.pass((epoch, dump), parts.len(), |images, part, shard| {
                put(view, &parts[part], part, shard, epoch, images);
            });
            if !ended {
                continue;
            }
            for (shard, stretches) in backlog.dump(|key| view.shard_of(key)) {
                images.put(&backlog_of(name), shard, epoch, &stretches);
            }
            // What the epoch itself has sent around is read in the next one, wherever it is kept then.
            if !sent.is_empty() {
                images.put(TOUCHED_IMAGE, EVERY_SHARD, epoch, &std::mem::take(sent));
            }
        }
    }

    /// Dumps a piece as of the end of this epoch, if it is time for that.
    pub fn dump_piece(&mut self, now: Epoch) {
        let Owner { view, parts, dumper, .. } = self;
        dumper.turn(now, |images, part, shard| put(view, &parts[part], part, shard, now, images));
    }

    /// Writes down what an epoch asks, as long as a dump is under way.
    pub fn log(&self, now: &Facts, asks: &Asks) {
        if self.dumper.logs() {
            self.dumper.log(now.epoch, &(now, asks));
        }
    }
}

/// Puts the image of a part's shard, if anything is kept of it.
fn put<V: View>(view: &mut V, name: &str, part: usize, shard: u32, epoch: Epoch, images: &Images) {
    if let Some(copied) = view.copy(part, shard) {
        images.put_copy(name, shard, epoch, copied);
    } else if let Some(image) = view.dump(part, shard) {
        images.put(name, shard, epoch, &image);
    }
}

/// Brings shards that were dumped at the ends of several epochs to the end of the last one: applies what was asked since, whose
/// answers are known, and whose marks are in the backlog.
fn replay_asked<V: View>(view: &mut V, name: &str, images: &Images) -> Result<(), String> {
    images.replay_asked(name, |of_workers: Vec<(Facts, Asks)>, fresh| {
        let Some(facts) = of_workers.first().map(|(facts, _)| *facts) else { return Ok(()) };
        let mut asks = Asks::default();
        for (_, mut of_worker) in of_workers {
            view.retain_asks(&mut of_worker, fresh);
            asks.blocks.append(&mut of_worker.blocks);
            asks.records.append(&mut of_worker.records);
        }
        asks.blocks.sort_by_key(|block| (block.plan, block.from));
        // There may be fewer workers now, and none of them waits for an answer.
        asks.blocks.iter_mut().for_each(|block| block.from = 0);
        let mut out = Out::default();
        let mut turn = view.apply(&facts, asks, &mut out);
        while turn == Turn::More {
            turn = view.go_on(&facts, &mut out);
        }
        view.pass(facts.watermark_ms, &mut Vec::new());
        view.expire(&facts);
        Ok(())
    })?;
    if let Some(facts) = images.facts().filter(|_| images.is_gradual()) {
        view.pass(facts.watermark_ms, &mut Vec::new());
        view.expire(&facts);
    }
    Ok(())
}

impl<V: View> Drop for Owner<V> {
    fn drop(&mut self) {
        // The last figures are the ones that the summary shows.
        self.view.report(&self.metrics, true);
    }
}

/// What images of transactions on their way to be read again are filed under: every worker takes its own out of them.
pub const TOUCHED_IMAGE: &str = "touched";

fn backlog_of(name: &str) -> String {
    format!("{name} backlog")
}

/// Touches the rows of a stretch, at most so many. Returns the last of them if there are more.
fn walk(
    rows: impl Iterator<Item = Place>,
    Stretch { after, until_ms, cause }: Stretch,
    limit: usize,
    touched: &mut Vec<Touched>,
) -> Option<Place> {
    let (before, mut last) = (touched.len(), after);
    for place in rows.take_while(|place| place.0 <= until_ms) {
        if touched.len() - before == limit {
            return Some(last);
        }
        touched.push(Touched { id: place.1, cause });
        last = place;
    }
    None
}
