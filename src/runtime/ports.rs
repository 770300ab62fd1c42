//! Where the graph's outputs leave to: encoded on the workers, written by the outlets.

use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::outlet::{Closing, Parcel, closing, discard, port};
use crate::dataflow::Setup;
use crate::event::{Lane, Origin, Raw};
use crate::feature::rows::Rows;
use crate::flow::{Epoch, Reject, RejectReason};
use crate::metrics::Metrics;
use crate::score::assessment::ScoredDiff;
use crate::sink::features::FeatureRows;
use crate::sink::port::{Port, Ports};
use crate::sink::{OutputRecord, Refused, ScoredEncoder, encode_reject, encode_update};
use crate::source::clock::wall_ms;

/// The writing ends that every worker gets a copy of.
pub(super) struct Senders {
    pub scored: Option<Sender<Parcel<Vec<OutputRecord>>>>,
    pub rejects: Option<Sender<Parcel<Vec<OutputRecord>>>>,
    pub features: Option<Sender<Parcel<FeatureRows>>>,
    /// Epochs that an earlier run has written already.
    pub done: Done,
}

/// By output the last epoch that an earlier run has written, and that was acknowledged.
#[derive(Clone, Copy, Default)]
pub(super) struct Done {
    pub scored: Option<Epoch>,
    pub rejects: Option<Epoch>,
    pub features: Option<Epoch>,
}

impl Senders {
    /// Who tells the outlets which epochs are closed.
    pub fn closing(&self) -> Closing {
        let scored = self.scored.clone().map(closing);
        let rejects = self.rejects.clone().map(closing);
        let features = self.features.clone().map(closing);
        Closing::new([scored, rejects, features].into_iter().flatten())
    }
}

/// Makes rejects of output records that cannot be written.
pub(super) fn refusal(
    metrics: &Arc<Metrics>,
    rejects: Option<Sender<Parcel<Vec<OutputRecord>>>>,
) -> impl FnMut(Refused) + Send + 'static {
    let metrics = metrics.clone();
    move |Refused { key, why }| {
        let reason = RejectReason::OutputTooLarge;
        metrics.outputs_refused.add(1);
        metrics.rejects.count(reason);
        metrics.rejects.note(reason, || why.clone());
        let id = String::from_utf8_lossy(&key).into_owned();
        let (lane, raw) = (Lane::NOWHERE, Raw::default());
        let reject = Reject { lane, offset: 0, timestamp_ms: 0, reason, message: why, id, raw };
        if let Some(rejects) = &rejects {
            // The outlet of rejects ends after this one; if it has failed, its error is said.
            let record = encode_reject(&reject, &Origin::Elsewhere, Epoch::MIN, 0);
            drop(rejects.send(Parcel::Batch(Epoch::MIN, vec![record])));
        }
    }
}

/// Counts the first assessments of transactions, and how old the events are by now.
fn decided(metrics: &Metrics, diffs: &[ScoredDiff]) {
    let first = || diffs.iter().filter(|diff| diff.revision == 0 && diff.diff > 0);
    first().for_each(|diff| metrics.decisions.count(diff.decision.action));
    let now_ms = wall_ms();
    let age_ms = |diff: &ScoredDiff| now_ms.saturating_sub(diff.event.time).max(0) as u64;
    metrics.event_age.record_all_ns(first().map(|diff| age_ms(diff).saturating_mul(1_000_000)));
}

pub(super) fn ports(
    senders: &Senders,
    encoder: &ScoredEncoder,
    metrics: &Arc<Metrics>,
    setup: &Setup,
    origin: impl Fn(Lane) -> Origin + 'static,
) -> Ports {
    let counted = |metrics: &Arc<Metrics>, records: Vec<OutputRecord>| {
        metrics.outputs.add(records.len() as u64);
        records
    };
    let scored = senders.scored.clone().map_or_else(discard, |sender| {
        let (encoder, metrics) = (encoder.clone(), metrics.clone());
        port(sender, senders.done.scored, move |_, diffs: Vec<ScoredDiff>| {
            decided(&metrics, &diffs);
            counted(&metrics, diffs.iter().map(|diff| encoder.encode(diff)).collect())
        })
    });
    let noted = metrics.clone();
    let note = move |rejects: &[Reject]| {
        for Reject { reason, message, .. } in rejects {
            noted.rejects.note(*reason, || message.clone());
        }
    };
    let rejects: Port<Reject> = match senders.rejects.clone() {
        None => Box::new(move |rejects| {
            rejects.iter().for_each(|(_, rejects)| note(rejects));
            true
        }),
        Some(sender) => port(sender, senders.done.rejects, move |epoch, rejects: Vec<Reject>| {
            note(&rejects);
            let encode = |reject: &Reject| encode_reject(reject, &origin(reject.lane), epoch, 0);
            rejects.iter().map(encode).collect()
        }),
    };
    let features = senders.features.clone().map(|sender| {
        let schema = setup.schema.clone();
        port(sender, senders.done.features, move |_, rows: Vec<Rows>| {
            let mut all = FeatureRows::default();
            rows.into_iter().for_each(|rows| all.append(FeatureRows::of(rows, &schema)));
            all
        })
    });
    let (sender, done, metrics) = (senders.scored.clone(), senders.done.scored, metrics.clone());
    let collections = Rc::new(move || {
        let metrics = metrics.clone();
        sender.clone().map_or_else(discard, |sender| {
            port(sender, done, move |_, updates: Vec<_>| counted(&metrics, updates.iter().map(encode_update).collect()))
        })
    });
    Ports { scored: Some(scored), rejects: Some(rejects), features, collections: Some(collections) }
}
