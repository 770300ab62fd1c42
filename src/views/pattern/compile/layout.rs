//! Which patterns share a group, and where their features stand in a row.

use std::sync::Arc;

use super::cycle::CyclePlan;
use super::features::FeatureNames;
use super::plan::{Group, PatternPlan};
use crate::event::Schema;
use crate::views::pattern::PatternError;
use crate::views::pattern::spec::{PatternSpec, Patterns};
use crate::views::velocity::{REVISE_MS_DEFAULT, Velocity};

/// Whether the patterns of a group look at velocity features, and the fields of their key.
type GroupKey = (bool, Vec<String>);

impl Patterns {
    /// Names of keys in the order of their first pattern, with the patterns of each; first those of patterns that look at no
    /// velocity features, then those of the others. Cycles are left out.
    fn by_key(&self) -> Vec<(GroupKey, Vec<PatternSpec>)> {
        let mut keys: Vec<(GroupKey, Vec<PatternSpec>)> = Vec::new();
        for pattern in self.expanded().into_iter().filter(|pattern| pattern.cycle.is_none()) {
            let fields = pattern.key.as_ref().map(|key| key.fields().to_vec()).unwrap_or_default();
            let key = (pattern.looks_at_features(), fields);
            match keys.iter_mut().find(|(known, _)| *known == key) {
                Some((_, patterns)) => patterns.push(pattern),
                None => keys.push((key, vec![pattern])),
            }
        }
        keys.sort_by_key(|((featured, _), _)| *featured);
        keys
    }

    /// Whether a pattern looks at velocity features; cycles do not.
    pub fn look_at_features(&self) -> bool {
        self.patterns.iter().any(PatternSpec::looks_at_features)
    }

    /// The features of a row in the order of [`PatternPlan::blocks`]: `pattern_NAME_now` and `pattern_NAME_count_24h` of
    /// each pattern, key by key, then those of cycles. Their value without any match, or without a key, is 0.
    pub fn columns(&self) -> Vec<String> {
        let of_keys = self.by_key().into_iter().flat_map(|(_, patterns)| patterns);
        let cycles = self.patterns.iter().filter(|pattern| pattern.cycle.is_some()).cloned();
        of_keys.chain(cycles).flat_map(|pattern| features(&pattern.name)).collect()
    }

    /// Columns of each block of [`PatternPlan::blocks`].
    pub fn block_lengths(&self) -> Vec<usize> {
        let cycles = self.patterns.iter().filter(|pattern| pattern.cycle.is_some());
        self.by_key().iter().map(|(_, patterns)| 2 * patterns.len()).chain(cycles.map(|_| 2)).collect()
    }

    /// Resolves patterns that look at no velocity features. The error names the pattern, the place in it and how to mend it.
    pub fn resolve(&self, schema: &Schema) -> Result<PatternPlan, PatternError> {
        self.resolve_beside(schema, &[])
    }

    /// Resolves the patterns of a dataflow that has these velocity features.
    pub fn resolve_beside(&self, schema: &Schema, velocities: &[Velocity]) -> Result<PatternPlan, PatternError> {
        let mut plan = PatternPlan::default();
        let mut features = FeatureNames::new(velocities);
        for ((featured, _), patterns) in self.by_key() {
            let mut group = Group { revise_ms: REVISE_MS_DEFAULT, featured, ..Group::default() };
            for pattern in &patterns {
                group.add(pattern, schema, &mut features)?;
            }
            plan.groups.push(Arc::new(group));
        }
        plan.features = features.cells;
        for pattern in self.patterns.iter().filter(|pattern| pattern.cycle.is_some()) {
            plan.cycles.push(Arc::new(CyclePlan::resolve(pattern, schema)?));
        }
        Ok(plan)
    }
}

/// The features of a pattern.
fn features(name: &str) -> [String; 2] {
    [format!("pattern_{name}_now"), format!("pattern_{name}_count_24h")]
}

impl PatternPlan {
    /// The names of the features of each block, in order: block `n` of the operator's slices has plan `index + n`.
    pub fn blocks(&self) -> Vec<Vec<String>> {
        let groups = self.groups.iter().map(|group| group.programs.iter().flat_map(|p| features(&p.name)).collect());
        groups.chain(self.cycles.iter().map(|cycle| features(&cycle.name).to_vec())).collect()
    }

    /// How long a row is revised after its event time, milliseconds; 0 without patterns.
    pub fn revise_ms(&self) -> i64 {
        let groups = self.groups.iter().map(|group| group.revise_ms);
        groups.chain(self.cycles.iter().map(|cycle| cycle.revise_ms)).max().unwrap_or(0)
    }
}
