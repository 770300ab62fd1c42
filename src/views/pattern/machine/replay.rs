//! An automaton takes a stretch of its log again, once events in it have changed.

use super::automaton::{Automaton, Scratch};
use super::log::KeyLog;
use super::run::KeptMatch;
use crate::event::Id;
use crate::flow::Place;
use crate::views::pattern::compile::plan::Group;

impl Automaton {
    /// The log has changed at these positions (sorted). Takes it again from the first start that they touch; `changed` is
    /// told the matches that are gone (false) and new (true).
    pub fn replay(
        &mut self,
        group: &Group,
        number: usize,
        log: &mut KeyLog,
        places: &[Place],
        scratch: &mut Scratch,
        mut changed: impl FnMut(&mut KeptMatch, bool),
    ) {
        let program = &group.programs[number];
        let (Some(&first), Some(&last)) = (places.first(), places.last()) else { return };
        let touched_by = |start: Place| -> Option<Place> {
            let from = match program.ahead_ms {
                0 => start,
                ahead_ms => (start.0.saturating_sub(ahead_ms).saturating_add(1), Id::default()),
            };
            let next = places.get(places.partition_point(|place| *place < from))?;
            (next.0.saturating_sub(start.0) < program.reach_ms).then_some(*next)
        };
        self.runs.retain(|run| touched_by(run.start).is_none());
        self.young.retain(|start| touched_by(*start).is_none());
        let mut kept_starts = Vec::new();
        let mut gone: Option<Place> = None;
        let mut stays = |held: &KeptMatch| match touched_by(held.start) {
            Some(place) if held.at >= place => {
                gone = Some(gone.map_or(held.at, |first| first.min(held.at)));
                false
            }
            Some(_) => {
                kept_starts.push(held.start);
                true
            }
            None => true,
        };
        self.skipped.retain(&mut stays);
        self.matches.retain_mut(|held| {
            let stays = stays(held);
            if !stays {
                changed(held, false);
            }
            stays
        });
        kept_starts.sort_unstable();
        let kept = |start: &Place| kept_starts.binary_search(start).is_ok();
        self.begun.retain(|start| touched_by(*start).is_none() || kept(start));
        let from = log.lower_bound((first.0.saturating_sub(program.reach_ms).saturating_add(1), Id::default()));
        let mut eligible = vec![false; log.len() - from];
        for at in from..log.len() {
            let place = log.entry(at).place();
            eligible[at - from] = touched_by(place).is_some() && !kept(&place);
        }
        let mut again = Automaton { begun: std::mem::take(&mut self.begun), ..Automaton::default() };
        let is_eligible = |at: usize| at >= from && eligible[at - from];
        for at in from..log.len() {
            let beyond_ms = program.reach_ms.saturating_add(program.ahead_ms);
            let over = log.entry(at).time.saturating_sub(last.0) >= beyond_ms && log.entry(at).place() > last;
            if over && !again.runs_here() {
                break;
            }
            again.step(program, group, log, at, Some(&is_eligible), scratch);
        }
        self.runs.append(&mut again.runs);
        self.young.append(&mut again.young);
        self.young.sort_unstable();
        self.begun = again.begun;
        self.open_from = None;
        self.candidates().choose(program, &mut scratch.found, gone, changed);
    }
}
