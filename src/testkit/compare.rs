//! When two outcomes are equal, and where they first differ.
//!
//! Outputs are equal if their consolidated (id, assessment), their last feature rows and their consolidated collections
//! are. Revision, epoch, cause and the decision made at arrival are metadata: they tell how the output came about.

use std::collections::BTreeMap;
use std::fmt;

use crate::event::Id;
use crate::score::assessment::{Assessment, ScoredDiff};
use crate::sink::port::CollectionUpdate;

use super::Outcome;

/// The first difference found, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Difference {}

/// Whether two outcomes are equal. The columns name the places of a row that differs.
pub fn equal(a: &Outcome, b: &Outcome, columns: &[String]) -> Result<(), Difference> {
    same_rows(&a.final_rows(), &b.final_rows(), columns)?;
    let (left, right) = (consolidated(&a.scored)?, consolidated(&b.scored)?);
    same(&left, &right, |id, left, right| Difference(format!("transaction {id:?} is {left:?} and {right:?}")))?;
    let (left, right) = (updates(&a.collections)?, updates(&b.collections)?);
    same(&left, &right, |key, left, right| Difference(format!("{key:?} is there {left:?} and {right:?} times")))
}

/// What holds of each transaction after all diffs. Fails where the diffs make no sense: a `-1` that takes back what was
/// not said, a `+1` while another assessment still holds, a tombstone without a `-1` before it.
pub fn consolidated(diffs: &[ScoredDiff]) -> Result<BTreeMap<Id, Assessment>, Difference> {
    let mut held: BTreeMap<Id, Option<&Assessment>> = BTreeMap::new();
    for diff in diffs {
        let id = diff.event.id;
        let before = held.get(&id).copied();
        let wrong = |what: &str| Err(Difference(format!("transaction {id:?}: {what}: {diff:?} after {before:?}")));
        match (diff.diff, &diff.assessment) {
            (1, Some(new)) if before.flatten().is_none() => drop(held.insert(id, Some(new))),
            (1, _) => return wrong("+1 while another assessment holds"),
            (-1, old) if old.is_some() && before.flatten() == old.as_ref() => drop(held.insert(id, None)),
            (-1, _) => return wrong("-1 of what does not hold"),
            (0, None) if before == Some(None) => {}
            _ => return wrong("a tombstone without -1 before it"),
        }
    }
    Ok(held.into_iter().filter_map(|(id, held)| Some((id, held?.clone()))).collect())
}

/// Whether two sets of rows are equal bit for bit; missing equals missing.
pub fn same_rows(a: &BTreeMap<Id, Vec<f64>>, b: &BTreeMap<Id, Vec<f64>>, columns: &[String]) -> Result<(), Difference> {
    for (id, left) in a {
        let Some(right) = b.get(id) else {
            return Err(Difference(format!("the row of {id:?} is only on the left")));
        };
        if left.len() != right.len() {
            return Err(Difference(format!("the row of {id:?} has {} and {} columns", left.len(), right.len())));
        }
        let unlike = |(a, b): (&f64, &f64)| a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan());
        let count = left.iter().zip(right).filter(|&pair| unlike(pair)).count();
        if let Some(at) = left.iter().zip(right).position(unlike) {
            let name = columns.get(at).map_or("?", String::as_str);
            let (left, right) = (left[at], right[at]);
            return Err(Difference(format!("{id:?}: {name} is {left} and {right}; {count} columns differ")));
        }
    }
    match b.keys().find(|id| !a.contains_key(id)) {
        Some(id) => Err(Difference(format!("the row of {id:?} is only on the right"))),
        None => Ok(()),
    }
}

/// How often each record of each collection is there, in the end; records that are not there are left out.
pub fn updates(updates: &[CollectionUpdate]) -> Result<BTreeMap<(&'static str, String, String), isize>, Difference> {
    let mut counts = BTreeMap::new();
    for update in updates {
        *counts.entry((update.name, update.key.clone(), update.value.clone())).or_insert(0) += update.diff;
    }
    counts.retain(|_, count| *count != 0);
    match counts.iter().find(|(_, count)| **count < 0) {
        Some((record, count)) => Err(Difference(format!("{record:?} is there {count} times"))),
        None => Ok(counts),
    }
}

fn same<K: Ord, V: PartialEq>(
    a: &BTreeMap<K, V>,
    b: &BTreeMap<K, V>,
    says: impl Fn(&K, Option<&V>, Option<&V>) -> Difference,
) -> Result<(), Difference> {
    for key in a.keys().chain(b.keys()) {
        if a.get(key) != b.get(key) {
            return Err(says(key, a.get(key), b.get(key)));
        }
    }
    Ok(())
}
