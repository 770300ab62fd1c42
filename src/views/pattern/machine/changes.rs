//! Changes of one key's log, and what its automata make of them.

use super::super::compile::plan::{Group, Program};
use super::automaton::Scratch;
use super::history::settle;
use super::log::LoggedEvent;
use super::run::KeptMatch;
use super::state::KeyState;
use crate::flow::{Ask, Place, Request};

/// Matches that come and go, by program.
pub type Diffs = Vec<(usize, KeptMatch, isize)>;

fn entry_of(group: &Group, request: &Request<'_>) -> LoggedEvent {
    LoggedEvent::new((request.time, request.id), request.mask, request.mask & !group.historic, request.scored)
}

/// Takes an event that comes after all others of its key.
pub fn push(group: &Group, state: &mut KeyState, request: &Request<'_>, scratch: &mut Scratch, diffs: &mut Diffs) {
    state.log.insert(entry_of(group, request), request.columns);
    if request.mask & group.starts == 0 && state.automata().is_empty() {
        return;
    }
    for (number, program) in group.programs.iter().enumerate() {
        // Where nothing has begun, only an event with which something can begin matters, or one to be counted whose
        // conditions over the key's history are to be looked at now.
        let begins = request.mask & program.starts(group.historic) != 0;
        if !begins && state.automaton(number).is_none() {
            continue;
        }
        state.with_automaton(number, |automaton, log| {
            automaton.push(group, number, log, scratch, noted(program, number, diffs));
        });
    }
}

/// Applies changes in any place of the log and takes again what they reach.
pub fn replay<'a>(
    group: &Group,
    state: &mut KeyState,
    changes: impl Iterator<Item = &'a Request<'a>>,
    scratch: &mut Scratch,
    diffs: &mut Diffs,
) {
    let mut changed: Vec<(Place, u64)> = Vec::new();
    for request in changes {
        let place = (request.time, request.id);
        let held = state.log.find(place).map_or(0, |at| state.log.entry(at).raw);
        match request.ask {
            Ask::Insert | Ask::Relabel => {
                state.log.insert(entry_of(group, request), request.columns);
                changed.push((place, held | request.mask));
            }
            Ask::Remove => {
                state.log.remove(place);
                changed.push((place, held));
            }
            Ask::Read | Ask::Label => {}
        }
    }
    let (Some(&(first, _)), Some(&(last, _))) = (changed.first(), changed.last()) else { return };
    if group.historic != 0 {
        for at in state.log.lower_bound(first)..state.log.len() {
            let entry = state.log.entry(at);
            if entry.time.saturating_sub(last.0) >= group.history_ms && entry.place() > last {
                break;
            }
            let (held, known) = (entry.mask, state.log.known(at));
            if known != 0 {
                let place = entry.place();
                state.log.set_known(at, 0);
                settle(group, &mut state.log, at, known);
                let mask = state.log.entry(at).mask;
                if held != mask {
                    changed.push((place, held ^ mask));
                }
            }
        }
        changed.sort_unstable();
    }
    let end_ms = state.log.last().map(|last| last.0);
    for (number, program) in group.programs.iter().enumerate() {
        let concerns = changed.iter().filter(|(_, mask)| mask & program.uses != 0);
        let mut places: Vec<Place> = concerns.map(|(place, _)| *place).collect();
        places.dedup();
        state.with_automaton(number, |automaton, log| {
            automaton.replay(group, number, log, &places, scratch, noted(program, number, diffs));
            if let (Some(end_ms), true) = (end_ms, program.absent.is_some()) {
                automaton.pass(program, end_ms, noted(program, number, diffs));
            }
        });
    }
}

/// Notes the matches of a program that go (false) and come (true); those of an absence are announced by the watermark.
fn noted(program: &Program, number: usize, diffs: &mut Diffs) -> impl FnMut(&mut KeptMatch, bool) {
    move |held, here| {
        if here {
            held.announced = program.absent.is_none();
        }
        diffs.push((number, held.clone(), if here { 1 } else { -1 }));
    }
}

/// Leaves out matches that went and came again.
pub fn consolidated(mut diffs: Diffs) -> Diffs {
    let order = |(number, held, _): &(usize, KeptMatch, isize)| (*number, held.at, held.start, held.events);
    diffs.sort_by_key(order);
    let mut left: Diffs = Vec::new();
    for (number, held, diff) in diffs {
        let same = left.iter().rposition(|(n, other, d)| {
            *n == number
                && *d == -diff
                && (other.at, other.start, &other.ids) == (held.at, held.start, &held.ids)
                && (other.events, other.announced) == (held.events, held.announced)
        });
        match same {
            Some(at) => drop(left.swap_remove(at)),
            None => left.push((number, held, diff)),
        }
    }
    left
}
