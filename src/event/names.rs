//! Names that were written, and those that were meant.

use strsim::levenshtein;

/// The known name that is nearest to one that is not known, if it may have been meant.
pub fn nearest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|name| (levenshtein(wanted, name), name));
    scored.min().filter(|(edits, _)| *edits <= wanted.len() / 2).map(|(_, name)| name)
}
