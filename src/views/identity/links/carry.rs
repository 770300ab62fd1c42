//! Links begin and cease to carry: one by one, or all of a value that crosses its cap.

use super::live::{Link, Links};
use crate::views::identity::columns::Member;
use crate::views::identity::graph::{NIL, Wires};

impl<P: Member> Links<P> {
    /// Lets a link carry.
    pub(super) fn start(&mut self, number: u32) {
        let Link { wires: Wires { ends: [a, b], .. }, kind, carries, .. } = self.links[number];
        if carries {
            return;
        }
        self.links[number].carries = true;
        self.wide.link(number, a, b);
        if let Some(strong) = self.strong.as_mut().filter(|_| self.rules.links[kind as usize - 1].strong) {
            strong.link(number, a, b);
        }
        self.note(a, b, true);
    }

    /// Stops a link from carrying.
    pub(super) fn stop(&mut self, number: u32) {
        let Link { wires: Wires { ends: [a, b], .. }, kind, carries, .. } = self.links[number];
        if !carries {
            return;
        }
        self.links[number].carries = false;
        self.wide.unlink(number);
        if let Some(strong) = self.strong.as_mut().filter(|_| self.rules.links[kind as usize - 1].strong) {
            strong.unlink(number);
        }
        self.note(a, b, false);
    }

    fn note(&mut self, a: u32, b: u32, carries: bool) {
        let entity = |number| (self.values.get(number).kind, self.values.get(number).key);
        if let Some(changed) = &mut self.changed {
            changed.push(((entity(a), entity(b)), carries));
        }
    }

    /// Brings nearer what clusters know of a link and one of its ends.
    fn prefetch(&self, number: u32, end: u32) {
        self.wide.prefetch(number, end);
        if let Some(strong) = &self.strong {
            strong.prefetch(number, end);
        }
    }

    /// A value has come above its cap.
    pub(super) fn stop_all(&mut self, value: u32) {
        let mut number = self.values.get(value).first;
        while number != NIL {
            let Link { wires, carries, .. } = self.links[number];
            let (next, end) = wires.step(value);
            if carries {
                self.prefetch(number, end);
                self.links[number].carries = false;
                self.note(wires.ends[0], wires.ends[1], false);
            }
            number = next;
        }
        self.wide.isolate(value);
        if let Some(strong) = &mut self.strong {
            strong.isolate(value);
        }
    }

    /// A value is back at its cap.
    pub(super) fn start_all(&mut self, value: u32) {
        let mut starting = std::mem::take(&mut self.starting);
        starting.clear();
        let mut number = self.values.get(value).first;
        while number != NIL {
            let Link { wires, carries, .. } = self.links[number];
            let (next, end) = wires.step(value);
            if !carries && !self.is_capped(end) {
                self.prefetch(number, end);
                self.links[number].carries = true;
                self.note(wires.ends[0], wires.ends[1], true);
                starting.push((number, end));
            }
            number = next;
        }
        self.wide.link_all(value, &starting);
        if let Some(strong) = &mut self.strong {
            starting.retain(|&(number, _)| self.rules.links[self.links[number].kind as usize - 1].strong);
            strong.link_all(value, &starting);
        }
        self.starting = starting;
    }
}
