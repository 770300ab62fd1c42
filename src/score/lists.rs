//! Lists of values that rules look things up in, as in `card in blocked`: each entry with the reason that it exists and the event time at
//! which it ends.
//!
//! A collection is never changed: a change gives another one, which shares with the one before all but the few nodes on the way to
//! what is different. So each deployment holds lists of its own, transactions that are scored again find what held when they arrived,
//! and a version costs about 3 KB, however long its lists are. A look-up in 100,000 entries compares 17 texts.
//!
//! ```text
//!  lists ── put(blocked, c-7) ──► lists'
//!    └─ blocked: a..c | d..k | l..z     blocked: a..c' | (d..k | l..z are those of before)
//! ```
//!
//! Lists have a number that they keep as long as they exist and that no list gets after them: lowered rules refer to that, and a rule
//! that refers to a list which was deleted finds nothing in it, not what another list of that name holds.

use std::sync::Arc;

use imbl::OrdMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::nearest;

/// Lists at most.
const LISTS_MAX: usize = 1_000;

/// The longest name of a list, bytes.
const LIST_NAME_BYTES_MAX: usize = 64;

/// The longest value, and the longest reason, bytes.
const ENTRY_TEXT_BYTES_MAX: usize = 1 << 10;

const NANOSECONDS_PER_MS: i128 = 1_000_000;

/// Words of the language of rules, and names that mean something there.
const TAKEN: [&str; 25] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "event",
    "false",
    "features",
    "for",
    "function",
    "if",
    "import",
    "in",
    "kind",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "score",
    "true",
    "var",
    "void",
    "while",
];

/// What a list says of a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListEntry {
    /// It holds for events whose time is before; without it, for all.
    pub until: Option<Timestamp>,
    /// Why it exists.
    pub reason: String,
}

impl ListEntry {
    /// Whether it holds for an event of this time, milliseconds.
    pub fn holds(&self, event_time_ms: i64) -> bool {
        self.until.is_none_or(|until| i128::from(event_time_ms) * NANOSECONDS_PER_MS < until.as_nanosecond())
    }
}

/// One of them. Texts and entries are shared by the copies of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct List {
    name: Arc<str>,
    entries: OrdMap<Arc<str>, Arc<ListEntry>>,
}

/// All lists of a deployment. Cloning takes as long with all entries as with none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Lists {
    lists: OrdMap<u32, List>,
    numbers: OrdMap<Arc<str>, u32>,
    /// The number of the next one.
    next: u32,
}

/// The same as it is written down.
#[derive(Serialize, Deserialize)]
struct Written {
    lists: OrdMap<u32, List>,
    next: u32,
}

impl From<Lists> for Written {
    fn from(Lists { lists, next, .. }: Lists) -> Self {
        Written { lists, next }
    }
}

impl TryFrom<Written> for Lists {
    type Error = String;

    fn try_from(Written { lists, next }: Written) -> Result<Self, String> {
        let mut numbers = OrdMap::new();
        for (&number, list) in &lists {
            check_name(&list.name)?;
            if number >= next {
                return Err(format!("the list `{}` has number {number}, and the next one gets {next}", list.name));
            }
            if numbers.insert(list.name.clone(), number).is_some() {
                return Err(format!("two lists are called `{}`", list.name));
            }
        }
        Ok(Lists { lists, numbers, next })
    }
}

impl Lists {
    /// With another list, which is empty.
    ///
    /// # Errors
    /// If the name is none, or taken, or there are too many lists.
    pub fn create(&self, name: &str) -> Result<Self, String> {
        check_name(name)?;
        if self.numbers.contains_key(name) {
            return Err(format!("there is a list `{name}` already"));
        }
        if self.numbers.len() >= LISTS_MAX {
            return Err(format!("there are {LISTS_MAX} lists, and no more are allowed: delete one"));
        }
        let next = self.next.checked_add(1).ok_or("no number is left for another list")?;
        let list = List { name: name.into(), entries: OrdMap::new() };
        let numbers = self.numbers.update(list.name.clone(), self.next);
        Ok(Lists { lists: self.lists.update(self.next, list), numbers, next })
    }

    /// With this entry, in place of the one that the value has.
    ///
    /// # Errors
    /// If there is no such list, or the value or the reason is too long.
    pub fn put(&self, name: &str, value: &str, entry: ListEntry) -> Result<Self, String> {
        for (what, text) in [("value", value), ("reason", &entry.reason)] {
            if text.len() > ENTRY_TEXT_BYTES_MAX {
                let bytes = text.len();
                return Err(format!("the {what} has {bytes} bytes, and {ENTRY_TEXT_BYTES_MAX} at most are allowed"));
            }
        }
        self.changed(name, |entries| {
            entries.insert(value.into(), Arc::new(entry));
            Ok(())
        })
    }

    /// Without the entry of this value.
    ///
    /// # Errors
    /// If there is no such list, or the value is not on it.
    pub fn remove(&self, name: &str, value: &str) -> Result<Self, String> {
        self.changed(name, |entries| match entries.remove(value) {
            Some(_) => Ok(()),
            None => Err(format!("this value is not on the list `{name}`")),
        })
    }

    /// Without this list.
    ///
    /// # Errors
    /// If there is no such list.
    pub fn delete(&self, name: &str) -> Result<Self, String> {
        let number = self.existing(name)?;
        Ok(Lists { lists: self.lists.without(&number), numbers: self.numbers.without(name), next: self.next })
    }

    /// Whether a value is on the list of this number, for an event of this time, milliseconds.
    pub fn has(&self, number: u32, value: &str, event_time_ms: i64) -> bool {
        let entry = self.lists.get(&number).and_then(|list| list.entries.get(value));
        entry.is_some_and(|entry| entry.holds(event_time_ms))
    }

    /// The number of a list.
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Their names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.numbers.keys().map(|name| &**name)
    }

    /// What is on a list, by value, whether it holds still or not.
    pub fn entries(&self, name: &str) -> Option<impl Iterator<Item = (&str, &ListEntry)>> {
        Some(self.list(name)?.entries.iter().map(|(value, entry)| (&**value, &**entry)))
    }

    /// Entries of a list.
    pub fn len(&self, name: &str) -> Option<usize> {
        Some(self.list(name)?.entries.len())
    }

    fn list(&self, name: &str) -> Option<&List> {
        self.lists.get(&self.number(name)?)
    }

    fn existing(&self, name: &str) -> Result<u32, String> {
        check_name(name)?;
        self.number(name).ok_or_else(|| {
            let hint = nearest(name, self.names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            format!("no list is called `{name}`{hint}")
        })
    }

    fn changed(
        &self,
        name: &str,
        change: impl FnOnce(&mut OrdMap<Arc<str>, Arc<ListEntry>>) -> Result<(), String>,
    ) -> Result<Self, String> {
        let number = self.existing(name)?;
        let mut changed = self.clone();
        if let Some(list) = changed.lists.get_mut(&number) {
            change(&mut list.entries)?;
        }
        Ok(changed)
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let letter_first = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !letter_first || !plain || name.len() > LIST_NAME_BYTES_MAX {
        return Err(format!(
            "the name of a list takes letters, digits and _, a letter first, {LIST_NAME_BYTES_MAX} at most"
        ));
    }
    if TAKEN.contains(&name) {
        return Err(format!("`{name}` is a word of the language of rules: give the list another name"));
    }
    Ok(())
}
