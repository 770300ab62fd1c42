//! Going on from a cut of another engine: one whose features, schema or horizons were others.
//!
//! ```text
//!  DIR/cuts/E (of the earlier engine) ─ parts that both have, what was said, transactions ─┐
//!                                                                                          ├─► what this run goes on from
//!  DIR/journal up to E ─► this engine without outputs ─ what it keeps at the end of E ─────┘
//! ```
//!
//! Parts of views are compared by their fingerprints ([`crate::operators::EnginePlan`]). Those that are new, or were changed, are built by
//! repeating the journal from its beginning, epoch by epoch as it was; all others, and what was said of each transaction, are
//! taken from the cut. So old columns go on as they were, and new ones are what they would be had they been there from the
//! start, as far as the journal reaches; how far that is, is said. Transactions are read anew as well where the schema has
//! changed, so that they have the fields that were added; those that the journal does not reach are migrated.

use std::sync::{Arc, Mutex, PoisonError};

use super::job::{Job, JobError};
use super::state::{State, StateError};
use crate::epoch::journal::{JournalPast, JournalSource};
use crate::event::Schema;
use crate::flow::{Epoch, Facts, Repair};
use crate::operators::{Image, ShardImage};

/// What a run dumps at the end of its last epoch.
#[derive(Clone, Debug)]
pub struct Dumps {
    /// The epoch.
    pub epoch: Epoch,
    images: Arc<Mutex<Vec<ShardImage>>>,
}

impl Dumps {
    /// Takes the image of a shard.
    pub fn take(&self, image: ShardImage) {
        self.images.lock().unwrap_or_else(PoisonError::into_inner).push(image);
    }
}

/// What is to be built anew before a run can go on.
pub struct Renewing {
    /// The journal up to the cut, as a state that dumps at its end.
    pub state: State,
    /// The same journal as a source.
    pub source: JournalSource,
    dumps: Dumps,
    facts: Facts,
}

impl State {
    /// What the run that only dumps gives its images to.
    pub fn dumps(&self) -> Option<&Dumps> {
        self.dumps.as_ref()
    }

    /// Whether the cut that the run goes on from can become one of this engine, and what must be built anew for that, if anything.
    ///
    /// # Errors
    /// If it cannot: a field was narrowed, rows wait to be read again, or the journal keeps no records.
    pub fn renewing(&self, schema: &Schema) -> Result<Option<Renewing>, StateError> {
        let (Some(renewal), Some(facts)) = (&self.renewal, self.cut) else { return Ok(None) };
        let refused = |reason: &str| {
            let shown = self.directory.display();
            StateError::Lock(format!("--state {shown}: it was written with other features or another schema: {reason}"))
        };
        renewal.earlier.schema.migration(schema).map_err(|reason| refused(&reason))?;
        let waits = self.image().is_some_and(|image| image.has_any(" backlog") || image.has_any("touched"));
        if waits {
            return Err(refused(
                "rows wait to be read again in its last cut; run it as it was, in one process, until it is stopped, then with what is new",
            ));
        }
        if self.image().is_some_and(|image| image.is_gradual()) {
            return Err(refused(
                "its last cut was taken while it went on; run it as it was, in one process, until it is stopped, then with what is new",
            ));
        }
        if renewal.plan.new_parts(&renewal.earlier).is_empty() {
            return Ok(None);
        }
        let past = JournalPast::of(&self.disk, &self.directory)?;
        let uppers = self.ends.iter().filter(|(lane, _)| lane.is_events());
        let uppers = uppers.map(|(lane, end)| (lane.partition, end.upper)).collect();
        let source = JournalSource::open(&self.directory)?.up_to(uppers);
        self.say(&past, facts);
        let nothing = Facts {
            epoch: past.from().saturating_sub(1),
            expired_ms: i64::MIN,
            before_ms: i64::MIN,
            watermark_ms: i64::MIN,
            repair: Repair::default(),
            dump: None,
            deployment: 0,
        };
        let dumps = Dumps { epoch: facts.epoch, images: Arc::default() };
        let from = (past.from() > 0).then_some(nothing);
        Ok(Some(Renewing { state: self.repeating(past, from, dumps.clone()), source, dumps, facts }))
    }

    /// Says what is built anew, and from when on it is whole.
    fn say(&self, past: &JournalPast, facts: Facts) {
        let Some(renewal) = &self.renewal else { return };
        let parts = renewal.plan.new_parts(&renewal.earlier).into_iter().collect::<Vec<_>>().join(", ");
        let begins_ms = past.segments().iter().find_map(|segment| segment.begins_ms());
        match begins_ms.filter(|_| past.from() > 0) {
            None => tracing::info!(parts, "new or changed: built from the journal, which is whole"),
            Some(begins_ms) => {
                let hours = facts.watermark_ms.saturating_sub(begins_ms).max(0) / 3_600_000;
                let from =
                    jiff::Timestamp::from_millisecond(begins_ms).map(|from| from.to_string()).unwrap_or_default();
                tracing::warn!(
                    parts,
                    from,
                    "new or changed: built from the journal, which goes back to then alone; windows longer than {hours} hours are not \
                     whole yet, and sums over all time lack what came before"
                );
            }
        }
    }

    /// Makes what the run goes on from one of this engine; `anew` is what was built, if anything had to be.
    pub fn renew(&mut self, anew: Option<Image>) {
        let mut image = self.image.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(renewal) = self.renewal.take() else { return };
        let earlier = image.take().map(|image| Arc::try_unwrap(image).unwrap_or_else(|shared| (*shared).clone()));
        *image = earlier.map(|earlier| Arc::new(earlier.renewed(renewal, anew)));
    }
}

impl Renewing {
    /// Runs a job of this engine over the journal, and returns what it keeps in the end. The job has this state and this source.
    ///
    /// # Errors
    /// If it fails, or does not come to the end of the journal.
    pub fn build(job: Job, (dumps, facts): (Dumps, Facts), workers: usize) -> Result<Image, JobError> {
        job.run(timely::Config::process(workers))?;
        let images = std::mem::take(&mut *dumps.images.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Image::of(facts, images))
    }

    /// What is to be run, and what takes its images.
    pub fn into_parts(self) -> (State, JournalSource, (Dumps, Facts)) {
        (self.state, self.source, (self.dumps, self.facts))
    }
}
