//! Scored diffs and collection updates as JSON records.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use crate::event::Schema;
use crate::score::assessment::{Assessment, Decision, ScoredDiff};
use crate::score::control::Deployments;

use super::port::CollectionUpdate;
use super::{Headers, OutputRecord};

/// Steps of a quantised score.
const STEPS: f64 = 16_384.0;

/// Encodes scored diffs: knows the names that a diff refers to by number.
#[derive(Clone, Debug)]
pub struct ScoredEncoder {
    schema: Arc<Schema>,
    /// What models and rules are called.
    deployments: Option<Deployments>,
    /// The feature columns' names as JSON.
    columns: Arc<[Vec<u8>]>,
}

impl ScoredEncoder {
    /// For diffs of a dataflow with these models and rules, and feature columns.
    pub fn new(schema: Arc<Schema>, deployments: Option<Deployments>, columns: Vec<String>) -> Self {
        let json = |names: Vec<String>| names.iter().map(|name| serde_json::to_vec(name).unwrap_or_default()).collect();
        ScoredEncoder { schema, deployments, columns: json(columns) }
    }

    /// One record, keyed by the transaction's id. The end of a transaction is a tombstone, and in a file a line like the
    /// others, with diff 0 and no assessment.
    pub fn encode(&self, diff: &ScoredDiff) -> OutputRecord {
        let id = diff.event.id_text(&self.schema);
        let headers = Headers { epoch: diff.epoch, diff: diff.diff, cause: diff.cause.name() };
        let content = self.json(&id, diff);
        let (payload, last_line) = match diff.assessment {
            Some(_) => (Some(content), Vec::new()),
            None => (None, content),
        };
        // A revision has other causes than the arrival of its transaction.
        let arrived_ns = if diff.revision == 0 { diff.arrived_ns } else { 0 };
        OutputRecord { key: id.into_bytes(), payload, last_line, headers, arrived_ns }
    }

    fn json(&self, id: &str, diff: &ScoredDiff) -> Vec<u8> {
        let mut out = Vec::with_capacity(384);
        // Writing to a vector cannot fail.
        let _ = self.write(&mut out, id, diff);
        out
    }

    fn write(&self, out: &mut Vec<u8>, id: &str, diff: &ScoredDiff) -> std::io::Result<()> {
        let ScoredDiff { revision, diff: sign, epoch, cause, decision, event, assessment, .. } = diff;
        out.extend_from_slice(b"{\"id\":");
        serde_json::to_writer(&mut *out, id)?;
        write!(out, ",\"revision\":{revision},\"diff\":{sign},\"epoch\":{epoch},\"event_time\":{}", event.time)?;
        write!(out, ",\"cause\":\"{}\",\"decision\":{{", cause.name())?;
        let Decision { action, score, rules, model, deployment } = decision;
        let deployed = self.deployments.as_ref().map(|deployments| deployments.of(*deployment)).unwrap_or_default();
        verdict(out, action.name(), *score);
        out.extend_from_slice(b",\"rules\":");
        self.rules(out, rules);
        if let Some(decider) = deployed.models().iter().find(|deployed| deployed.number == *model) {
            out.extend_from_slice(b",\"model\":");
            name(out, decider.model.label());
        }
        if *deployment > 0 {
            write!(out, ",\"deployment\":{deployment}")?;
        }
        let Some(Assessment { action, score, scores, rules, shadow, reasons }) = assessment else {
            // The end of a transaction: nothing is said of it any more.
            out.extend_from_slice(b"},\"assessment\":null}");
            return Ok(());
        };
        out.extend_from_slice(b"},\"assessment\":{");
        verdict(out, action.name(), *score);
        out.extend_from_slice(b",\"scores\":{");
        for (index, (deployed, score)) in deployed.models().iter().zip(scores).enumerate() {
            out.extend_from_slice(if index == 0 { b"" } else { b"," });
            name(out, deployed.model.label());
            out.push(b':');
            out.extend_from_slice(probability(*score));
        }
        out.extend_from_slice(b"},\"rules\":");
        self.rules(out, rules);
        if !shadow.is_empty() {
            out.extend_from_slice(b",\"shadow_rules\":");
            self.rules(out, shadow);
        }
        out.extend_from_slice(b",\"reasons\":[");
        for (index, reason) in reasons.iter().enumerate() {
            out.extend_from_slice(if index == 0 { b"{\"feature\":" } else { b",{\"feature\":" });
            out.extend_from_slice(&self.columns[reason.column as usize]);
            // A missing value is null, as JSON has no NaN.
            out.extend_from_slice(b",\"value\":");
            serde_json::to_writer(&mut *out, &reason.value)?;
            out.extend_from_slice(b",\"contribution\":");
            serde_json::to_writer(&mut *out, &reason.contribution)?;
            out.push(b'}');
        }
        out.extend_from_slice(b"]}}");
        Ok(())
    }

    fn rules(&self, out: &mut Vec<u8>, rules: &[u32]) {
        out.push(b'[');
        let begin = out.len();
        let deployments = self.deployments.iter();
        deployments.for_each(|deployments| {
            deployments.rule_names(rules, |rule| {
                if out.len() > begin {
                    out.push(b',');
                }
                name(out, rule);
            });
        });
        out.push(b']');
    }
}

/// The name of a rule or model: letters, digits and signs that stand for themselves in JSON.
fn name(out: &mut Vec<u8>, name: &str) {
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.push(b'"');
}

fn verdict(out: &mut Vec<u8>, action: &str, score: u16) {
    out.extend_from_slice(b"\"action\":\"");
    out.extend_from_slice(action.as_bytes());
    out.extend_from_slice(b"\",\"score\":");
    out.extend_from_slice(probability(score));
}

/// A quantised score as a number. There are few of them, and writing one is dear.
fn probability(steps: u16) -> &'static [u8] {
    static WRITTEN: LazyLock<Vec<Box<[u8]>>> = LazyLock::new(|| {
        (0..=STEPS as u32).map(|steps| (f64::from(steps) / STEPS).to_string().into_bytes().into()).collect()
    });
    &WRITTEN[usize::from(steps)]
}

/// One record of a collection that a dataflow emits, keyed by its key.
pub fn encode_update(update: &CollectionUpdate) -> OutputRecord {
    let CollectionUpdate { name, key, value, epoch, diff } = update;
    let mut out = Vec::with_capacity(128);
    // Writing to a vector cannot fail.
    let _ = write!(out, "{{\"collection\":\"{name}\",\"key\":");
    let _ = serde_json::to_writer(&mut out, key);
    let _ = write!(out, ",\"value\":{value},\"diff\":{diff},\"epoch\":{epoch}}}");
    let headers = Headers { epoch: *epoch, diff: diff.signum() as i8, cause: "" };
    OutputRecord { key: key.clone().into_bytes(), payload: Some(out), last_line: Vec::new(), headers, arrived_ns: 0 }
}
