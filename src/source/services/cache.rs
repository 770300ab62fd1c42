//! Answers that are used again.

use std::collections::HashMap;

use super::desk::Answer;

/// Answers by key: at most so many, each for so long. When half the room is full, the older half is forgotten at once,
/// so that every operation is one or two look-ups.
pub(super) struct Cache {
    young: HashMap<String, (Answer, u64)>,
    old: HashMap<String, (Answer, u64)>,
    half: usize,
    kept_ns: u64,
}

impl Cache {
    pub fn new(entries_max: usize, kept_ms: u64) -> Self {
        let kept_ns = if entries_max < 2 { 0 } else { kept_ms.saturating_mul(1_000_000) };
        Cache { young: HashMap::new(), old: HashMap::new(), half: entries_max / 2, kept_ns }
    }

    /// The answer to a key, if one is young enough.
    pub fn get(&self, key: &str, now_ns: u64) -> Option<&Answer> {
        let (answer, until_ns) = self.young.get(key).or_else(|| self.old.get(key))?;
        (now_ns < *until_ns).then_some(answer)
    }

    pub fn put(&mut self, key: String, answer: Answer, now_ns: u64) {
        if self.kept_ns == 0 {
            return;
        }
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, (answer, now_ns.saturating_add(self.kept_ns)));
    }
}
