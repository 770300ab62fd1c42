//! What is owed: rows that wait to be read again, counted in keys.

use std::cell::RefCell;
use std::rc::Rc;

/// What the operators of one worker owe. It is the operators' word to the worker loop, which reports it to the authority: epochs
/// are minted, and their repairs shared out, by it.
#[derive(Clone, Debug, Default)]
pub struct Owed(Rc<RefCell<Vec<u64>>>);

/// The part of one operator.
#[derive(Debug)]
pub struct OwedBy {
    all: Owed,
    place: usize,
}

impl Owed {
    /// A part for one more operator.
    pub fn part(&self) -> OwedBy {
        let mut parts = self.0.borrow_mut();
        parts.push(0);
        OwedBy { all: self.clone(), place: parts.len() - 1 }
    }

    /// Keys with rows that wait, over all operators of the worker.
    pub fn keys(&self) -> u64 {
        self.0.borrow().iter().sum()
    }
}

impl OwedBy {
    /// Keys with rows that wait, over all operators of the worker.
    pub fn of_all(&self) -> u64 {
        self.all.keys()
    }

    /// Sets the part; returns what it was.
    pub fn set(&self, keys: u64) -> u64 {
        std::mem::replace(&mut self.all.0.borrow_mut()[self.place], keys)
    }
}
