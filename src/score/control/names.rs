//! Numbers for names: what decisions and assessments refer to rules and models by.

use std::collections::HashMap;

/// Names by number, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    names: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Names {
    /// Of names that have their numbers already.
    pub fn of(names: Vec<String>) -> Self {
        let mut all = Names::default();
        for name in &names {
            all.number(name);
        }
        all
    }

    /// The number of a name; the next one if it is new.
    pub fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.names.len() as u32;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// The name of a number.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str)
    }

    /// All names.
    pub fn all(&self) -> &[String] {
        &self.names
    }

    /// Forgets all names but the first ones.
    pub fn truncate(&mut self, count: usize) {
        for name in self.names.drain(count.min(self.names.len())..) {
            self.numbers.remove(&name);
        }
    }
}
