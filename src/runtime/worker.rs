//! The worker loop: read, decode, offer, bind, step. It never blocks.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cpu_time::ProcessTime;
use timely::worker::Worker;

use super::control::ControlEnd;
use super::coordinate::Coordinator;
use super::cut::CutterEnd;
use super::intake::{Feed, Intake};
use crate::epoch::Authority;
use crate::epoch::journal::BindingLog;
use crate::flow::{Binding, Epoch, Word};
use crate::pipeline::Engine;
use crate::source::SourceError;
use crate::source::clock::now_ns;

/// The longest an idle worker sleeps; readers and other workers wake it earlier.
const PARK_MAX: Duration = Duration::from_millis(1);

/// The authority's part: who decides, and where it is written down.
pub struct Mint {
    /// Decides on epochs.
    pub authority: Authority,
    /// Writes them down, if there is a state directory.
    pub log: Option<BindingLog>,
    /// Bindings before this one were recorded by an earlier run: they are in the journal already.
    pub recorded: Epoch,
    /// One that the log had no room for yet.
    pub held: Option<Binding>,
    /// How often a cut is taken, nanoseconds; `None` for never.
    pub cut_every_ns: Option<u64>,
    /// When the last one was asked for.
    pub cut_ns: u64,
    /// CPU time that the process had used by then.
    pub cut_cpu: ProcessTime,
    /// Knows what the last one cost.
    pub cutter: Option<CutterEnd>,
    /// Says what comes next on the control stream.
    pub control: Option<ControlEnd>,
}

/// The next cut is taken once the process has used so many times the CPU time that the last one cost, at the earliest.
const CUT_RESTS: u64 = 12;
/// What is dumped in one go: less than a millisecond's work; and at most, where a worker comes round seldom.
pub(super) const TURN_BYTES: i64 = 128 << 10;
pub(super) const TURN_BYTES_MAX: i64 = 16 << 20;
/// While a dump is under way a worker dumps at most so many bytes per millisecond: a quarter of its time, also where it has nothing else
/// to do, as the thread that writes them takes as much.
pub(super) const DUMP_BYTES_PER_MS: i64 = 64 << 10;

/// How long the images of the last epoch are waited for once everything has left.
const LAST_IMAGES: Duration = Duration::from_secs(30);

/// Runs a built graph to its end. On worker 0 with `mint`.
pub fn run(
    worker: &mut Worker,
    mut engine: Engine,
    mut coordinator: Coordinator,
    mut mint: Option<Mint>,
    feed: Feed,
) -> Result<(), SourceError> {
    let mut intake = Intake::new(feed, worker.index() as u32, worker.peers(), engine.images.start());
    let (mut failed, mut recorded) = (None, None);
    loop {
        let read = match intake.read() {
            Ok(read) => read,
            Err(error) => {
                // Complete what was read; the error is the outcome. The others must not go on as if nothing were missing.
                failed = failed.or(Some(error));
                intake.feed.stop.store(true, Ordering::Relaxed);
                intake.close();
                true
            }
        };
        intake.give_images(&engine.images);
        intake.close_epochs(first_open(&engine));
        if let Some(report) = intake.report(&engine) {
            coordinator.report(report);
        }
        if let Some(mint) = &mut mint {
            coordinator.reports().into_iter().for_each(|report| mint.authority.report(report));
            let advanced = mint.advance(now_ns(), first_open(&engine), |word| coordinator.publish(&word));
            if let Err(error) = advanced {
                // The others must not wait for bindings that never come.
                failed = failed.or(Some(error));
                coordinator.publish(&mint.authority.end());
            }
            intake.feed.metrics.vitals.set_repeating(mint.authority.recovering(first_open(&engine)));
        }
        let mut last = false;
        let words = coordinator.words();
        let told = !words.is_empty();
        for word in words {
            match word {
                Word::Reach(epoch, reach) if epoch == intake.next => intake.stash.reach(reach),
                Word::Reach(..) => {}
                Word::Whole(epoch) => intake.publish(epoch),
                Word::Prepare(group) => intake.prepare(group),
                Word::GiveUp(number) => intake.give_up(number),
                Word::End => last = true,
                Word::Bind(binding) => {
                    if binding.last && failed.is_some() {
                        // The journal may lack this end: what is said to have been written must not reach beyond it.
                        recorded = Some(intake.next);
                    }
                    intake.bind(&binding, &mut engine);
                    last |= binding.last;
                }
            }
        }
        if last {
            break;
        }
        let busy = read || told;
        let dumping = intake.grant(&engine.images);
        worker.step_or_park(Some(if busy || dumping { Duration::ZERO } else { PARK_MAX }));
    }
    let images = engine.images.clone();
    let probe = engine.finish();
    let (ended_ns, patience_ns) = (now_ns(), LAST_IMAGES.as_nanos() as u64);
    while !probe.done() || !intake.give_images(&images) && now_ns() - ended_ns < patience_ns {
        worker.step_or_park(Some(PARK_MAX));
    }
    while !intake.close_epochs(recorded.unwrap_or(intake.next)) {
        std::thread::sleep(PARK_MAX);
    }
    if let Some(mint) = &mint {
        intake.feed.metrics.vitals.set_repeating(mint.authority.repeating());
    }
    failed.map_or(Ok(()), Err)
}

/// The first epoch that has not left the engine.
fn first_open(engine: &Engine) -> Epoch {
    engine.probe.with_frontier(|frontier| frontier.first().copied().unwrap_or(Epoch::MAX))
}

impl Mint {
    /// Whether the engine has used enough CPU time since the last cut for another one.
    fn is_rested(&self) -> bool {
        let cost_ns = self.cutter.as_ref().map_or(0, CutterEnd::cost_ns);
        cost_ns == 0 || self.cut_cpu.elapsed().as_nanos() as u64 >= cost_ns.saturating_mul(CUT_RESTS)
    }

    /// Takes note of what comes next on the control stream, once all is repeated that was recorded.
    fn control(&mut self, publish: &mut impl FnMut(Word)) {
        let Some(control) = &self.control else { return };
        if self.authority.repeating() == 0 {
            control.begin();
        }
        while let Some(next) = control.next() {
            self.authority.control(next);
        }
        if let Some((number, reason)) = self.authority.refused() {
            control.refused(number, reason);
            publish(Word::GiveUp(number));
        }
    }

    /// Decides what is next, `left` being the first epoch that has not left the engine, and publishes what is durable.
    ///
    /// # Errors
    /// If the journal cannot be written, or the source is not what it was.
    pub fn advance(&mut self, now_ns: u64, left: Epoch, mut publish: impl FnMut(Word)) -> Result<(), SourceError> {
        self.authority.check(now_ns).map_err(SourceError::External)?;
        self.control(&mut publish);
        if let Some(epoch) = self.authority.whole() {
            publish(Word::Whole(epoch));
        }
        if self.cut_every_ns.is_some_and(|every_ns| now_ns.saturating_sub(self.cut_ns) >= every_ns) && self.is_rested()
        {
            (self.cut_ns, self.cut_cpu) = (now_ns, ProcessTime::now());
            self.authority.cut();
        }
        if let (Some(log), Some(held)) = (&self.log, self.held.take()) {
            self.held = log.append(held).err();
        }
        let word = if self.held.is_some() { None } else { self.authority.mint(now_ns, left) };
        match (word, &self.log) {
            (None, _) => {}
            // What was recorded is on disk already, and other words bind nothing.
            (Some(Word::Bind(binding)), Some(_)) if binding.epoch < self.recorded => {
                publish(Word::Bind(binding));
            }
            (Some(Word::Bind(binding)), Some(log)) => self.held = log.append(binding).err(),
            (Some(word), _) => publish(word),
        }
        while let Some(durable) = self.log.as_ref().and_then(BindingLog::durable) {
            publish(Word::Bind(durable.map_err(SourceError::External)?));
        }
        Ok(())
    }
}
