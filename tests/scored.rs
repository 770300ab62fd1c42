//! Scored diffs as they are written: who decided, and how a transaction ends.

use std::sync::Arc;

use deltawatch::event::{EventBuilder, Id, Op, Schema};
use deltawatch::flow::{Action, Cause};
use deltawatch::score::assessment::{Assessment, Decision, ScoredDiff};
use deltawatch::score::model::Model;
use deltawatch::score::rules::{RuleFile, Rules};
use deltawatch::score::scorer::{Scorer, Thresholds};
use deltawatch::sink::ScoredEncoder;
use serde_json::{Value, json};

use crate::cases::TINY;

/// A model that is there for its name.
struct Labelled(&'static str);

impl Model for Labelled {
    fn label(&self) -> &str {
        self.0
    }

    fn features(&self) -> &[String] {
        &[]
    }

    fn width(&self) -> usize {
        1
    }

    fn score(&self, _rows: &[f64], scores: &mut Vec<f64>) {
        scores.clear();
    }

    fn reasons(&self, _row: &[f64], _top: usize) -> Vec<(usize, f64)> {
        Vec::new()
    }
}

#[test]
fn the_model_that_decided_is_named_and_a_tombstone_says_what_ends() {
    let schema = Arc::new(Schema::parse("tiny", TINY).expect("a schema"));
    let columns = vec!["own_amount".to_owned()];
    let models = ["payments@4", "payments@3"].map(|label| Arc::new(Labelled(label)) as Arc<dyn Model>);
    let rule = "[[rule]]\nid = 'new-device'\nversion = 2\nwhen = 'own_amount > 1.0'\naction = 'review'\nreason = 'new'";
    let rules = RuleFile::parse("rules", rule).and_then(|file| Rules::new("rules", file, &schema, &columns));
    let scorer = Scorer::new(models.into(), Thresholds::NONE).with_rules(rules.expect("a rule"));
    let encoder = ScoredEncoder::new(schema.clone(), Some(scorer.into()), columns);
    let mut builder = EventBuilder::new(&schema);
    builder.set_text(schema.id_slot(), "a");
    let event = Arc::new(builder.finish(Id::from_text("a"), 1_000, 0, Op::Insert, &schema));
    // Model 3 decided; now 4 is the champion, and both score.
    let decision = Decision { action: Action::Review, score: 8_192, rules: vec![0].into(), model: 1, deployment: 0 };
    let assessment = Assessment {
        action: Action::Allow,
        score: 4_096,
        scores: [4_096, 8_192].into(),
        rules: Vec::new().into(),
        shadow: vec![0].into(),
        reasons: Box::default(),
    };
    let diff = |revision, diff, assessment| ScoredDiff {
        event: event.clone(),
        revision,
        diff,
        epoch: 7,
        cause: Cause::Withdrawal,
        decision: decision.clone(),
        assessment,
        arrived_ns: 0,
    };
    let said = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).expect("one JSON object");
    let record = encoder.encode(&diff(1, -1, Some(assessment)));
    let line = said(&record.payload.expect("a payload"));
    let decided = json!({"action": "review", "score": 0.5, "rules": ["new-device@2"], "model": "payments@3"});
    assert_eq!(line["decision"], decided);
    assert_eq!(line["assessment"]["scores"], json!({"payments@4": 0.25, "payments@3": 0.5}));
    assert_eq!(line["assessment"]["rules"], json!([]));
    assert_eq!(line["assessment"]["shadow_rules"], json!(["new-device@2"]));

    let tombstone = encoder.encode(&diff(1, 0, None));
    assert!(tombstone.payload.is_none(), "an empty message where there are tombstones");
    let wanted = json!({
        "id": "a", "revision": 1, "diff": 0, "epoch": 7, "event_time": 1000, "cause": "withdrawal",
        "decision": decided, "assessment": null,
    });
    assert_eq!(said(&tombstone.last_line), wanted);
}
