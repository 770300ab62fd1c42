//! What is kept for one key: its log, and what its patterns hold.

use super::super::compile::plan::Group;
use super::automaton::Automaton;
use super::image::{AutomatonImage, KeyImage};
use super::log::KeyLog;
use crate::event::{Id, Key};
use crate::flow::Place;

/// What is kept for one key.
#[derive(Debug, Default)]
pub struct KeyState {
    /// The key.
    pub key: Key,
    /// Its events.
    pub log: KeyLog,
    /// By program, those that hold something.
    automata: Vec<(usize, Automaton)>,
    /// How far its runs have come: the last event they have seen, though it be withdrawn since, or the moment at which the
    /// watermark completed an absence. What comes before is late.
    pub reached: Place,
    /// The period from which on expiry looks it through ([`super::calendar`]).
    pub due: i64,
}

impl KeyState {
    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.log.is_empty() && self.automata.iter().all(|(_, one)| one.open_runs() == 0 && one.is_over())
    }

    /// Nothing of a key yet.
    pub fn new(key: Key, group: &Group) -> Self {
        KeyState {
            key,
            log: KeyLog::new(group.historic != 0),
            automata: Vec::new(),
            reached: (i64::MIN, Id::default()),
            due: i64::MIN,
        }
    }

    /// What cannot be derived of it.
    pub fn image(&self) -> KeyImage {
        let automata = self.automata.iter();
        let automata = automata.map(|(number, one)| AutomatonImage { program: *number as u16, kept: one.image() });
        KeyImage { key: self.key, reached: self.reached, log: self.log.image(), automata: automata.collect() }
    }

    /// The state that an image is of.
    pub fn of(image: KeyImage, group: &Group) -> Self {
        let KeyImage { key, reached, log, automata } = image;
        let automata = automata.into_iter().map(|image| (usize::from(image.program), image.kept));
        let empty = KeyState::new(key, group);
        KeyState { reached, log: empty.log.filled(log), automata: automata.collect(), ..empty }
    }

    /// When an event that must stay away has stayed away: (milliseconds, key, program).
    pub fn deadlines(&self, group: &Group) -> impl Iterator<Item = (i64, Key, usize)> {
        let absences = self.automata.iter().filter(|(number, _)| group.programs[*number].absent.is_some());
        absences.flat_map(|(number, automaton)| automaton.deadlines().map(|until_ms| (until_ms, self.key, *number)))
    }

    /// The automata that hold something, with their programs.
    pub fn automata(&self) -> &[(usize, Automaton)] {
        &self.automata
    }

    /// How many there is room for.
    pub fn automata_capacity(&self) -> usize {
        self.automata.capacity()
    }

    /// Drops what lies before the bound beyond every reach, but for the log.
    pub fn expire_automata(&mut self, group: &Group, bound_ms: i64) {
        self.automata.retain_mut(|(number, automaton)| {
            automaton.expire(&group.programs[*number], bound_ms);
            !automaton.is_empty()
        });
    }

    /// The last bound for which expiry has nothing to do here, as far as is known now, milliseconds.
    pub fn due_ms(&self, group: &Group) -> i64 {
        let automata = self.automata.iter().map(|(number, automaton)| automaton.due_ms(&group.programs[*number]));
        automata.fold(self.log.due_ms(group.reach_ms), i64::min)
    }

    /// The automaton of a program, if it holds something.
    pub fn automaton(&self, number: usize) -> Option<&Automaton> {
        self.automata.iter().find(|(of, _)| *of == number).map(|(_, automaton)| automaton)
    }

    /// Does something with the automaton of a program, and the log. If it then holds something, it is kept.
    pub fn with_automaton(&mut self, number: usize, act: impl FnOnce(&mut Automaton, &mut KeyLog)) {
        let at = self.automata.partition_point(|(of, _)| *of < number);
        match self.automata.get_mut(at) {
            Some((of, automaton)) if *of == number => {
                act(automaton, &mut self.log);
                if automaton.is_empty() {
                    self.automata.remove(at);
                }
            }
            _ => {
                let mut automaton = Automaton::default();
                act(&mut automaton, &mut self.log);
                if !automaton.is_empty() {
                    self.automata.reserve_exact(1);
                    self.automata.insert(at, (number, automaton));
                }
            }
        }
    }
}
