//! How the engine runs a dataflow.

use crate::score::control::Deployments;
use crate::views::velocity::ALL_TIME_IDLE_MS;

/// How the engine runs a dataflow.
#[derive(Clone)]
pub struct EngineSettings {
    /// How far behind the watermark an event may be and still be taken in, milliseconds.
    pub late_ms: i64,
    /// How long after its event a label may come, milliseconds: events are kept by id for it if features look at labels.
    pub label_ms: i64,
    /// Touched rows read again per epoch, over all workers; as many as the epoch takes in records if those are more.
    pub repair_rows_max: usize,
    /// A key that was silent for longer begins anew in features over all time, milliseconds of event time.
    pub forget_ms: i64,
    /// Models, rules and thresholds; none leaves rows unscored.
    pub deployments: Option<Deployments>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            late_ms: 3_600_000,
            label_ms: 30 * 86_400_000,
            repair_rows_max: 64,
            forget_ms: ALL_TIME_IDLE_MS,
            deployments: None,
        }
    }
}
