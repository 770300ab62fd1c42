//! Cycles of transfers (to come).

use std::sync::Arc;

use super::PatternError;
use super::spec::PatternSpec;
use crate::event::Schema;

/// A resolved cycle.
#[derive(Clone, Debug)]
pub struct CyclePlan {
    /// Its name.
    pub name: Arc<str>,
    /// How long a row is revised.
    pub revise_ms: i64,
}

impl CyclePlan {
    /// Resolves.
    pub fn resolve(spec: &PatternSpec, _schema: &Schema) -> Result<Self, PatternError> {
        Err(PatternError::invalid(&spec.name, "cycle", "not yet"))
    }
}
