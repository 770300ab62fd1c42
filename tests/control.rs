//! Deployments: made from messages, made again from what a cut holds of them, and the same wherever they are made.

use std::sync::Arc;

use deltawatch::dataflow::{Parameters, Setup};
use deltawatch::event::{Event, EventBuilder, Id, Op, Schema};
use deltawatch::flow::ControlGroup;
use deltawatch::score::control::{ControlHistory, ControlMessage, Deployments, Workshop};
use deltawatch::score::scorer::Scorer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

struct Room {
    setup: Setup,
    columns: Vec<String>,
}

impl Room {
    fn new() -> Self {
        let payments =
            crate::dataflows::folder::all().into_iter().find(|one| one.name() == "payments").expect("it ships");
        let schema = Arc::new(Schema::parse("payments", payments.schema()).expect("its schema"));
        let parameters = Parameters::resolve("payments", &payments.parameters(), &[]).expect("its parameters");
        let setup = Setup { schema, parameters };
        let columns = payments.features(&setup).expect("its features").columns();
        Room { setup, columns }
    }

    fn deployments(&self) -> Deployments {
        let workshop = Workshop {
            schema: self.setup.schema.clone(),
            columns: self.columns.clone().into(),
            models: "models".into(),
        };
        Deployments::new(Scorer::default(), Some(workshop))
    }

    /// Rows and events to tell deployments by.
    fn probes(&self) -> (Vec<f64>, Vec<Event>) {
        let (schema, mut random) = (&self.setup.schema, StdRng::seed_from_u64(3));
        let events = (0..64).map(|number| {
            let mut builder = EventBuilder::new(schema);
            let id = format!("t-{number}");
            builder.set_text(schema.id_slot(), &id);
            builder.set_text(schema.slot("card").expect("a card"), &format!("c-{}", number % 8));
            builder.finish(Id::from_text(&id), 1_000 * number, schema.default_kind(), Op::Insert, schema)
        });
        let events: Vec<Event> = events.collect();
        let rows = (0..events.len() * self.columns.len()).map(|_| f64::from(random.random_range(0..40)));
        (rows.collect(), events)
    }

    /// What a deployment says of all of them.
    fn says(&self, deployments: &Deployments, number: u32) -> Vec<String> {
        let (rows, events) = self.probes();
        let assessed = deployments.of(number).assess(&rows, self.columns.len(), events.iter());
        let said = |(assessment, model)| {
            let mut rules = Vec::new();
            let deltawatch::score::assessment::Assessment { rules: numbers, .. } = &assessment;
            deployments.rule_names(numbers, |name| rules.push(name.to_owned()));
            format!("{assessment:?} {rules:?} {:?}", deployments.model(model))
        };
        assessed.rows.into_iter().map(said).collect()
    }

    fn message(&self, random: &mut StdRng, versions: &mut [u32; 8]) -> Value {
        let place = random.random_range(0..versions.len());
        let id = format!("r{place}");
        let mode = ["active", "shadow", "paused"][random.random_range(0..3)];
        let value = format!("c-{}", random.random_range(0..8));
        let list = ["blocked", "vips"][random.random_range(0..2)];
        match random.random_range(0..17) {
            0..5 => {
                versions[place] += 1;
                let column = &self.columns[random.random_range(0..self.columns.len())];
                let list = ["blocked", "vips"][random.random_range(0..2)];
                let when = match random.random_range(0..3) {
                    0 => format!("event.card in {list}"),
                    1 => format!("features.{column} > {}.5", random.random_range(0..40)),
                    _ => format!("features.{column} > 5.5 && !(event.card in {list})"),
                };
                let action = ["tag", "allow", "review", "challenge", "block"][random.random_range(0..5)];
                let score = if action == "tag" { 0.0 } else { random.random_range(-0.5..0.5) };
                let rule = json!({"id": id, "version": versions[place], "when": when, "action": action, "score": score,
                    "mode": mode, "reason": "to tell", "priority": random.random_range(0..3)});
                json!({"version": 1, "op": "rule", "rule": rule})
            }
            5 => json!({"version": 1, "op": "rule-mode", "rule": id, "mode": mode}),
            6 => json!({"version": 1, "op": "rule-delete", "rule": id}),
            7 => {
                let until = jiff::Timestamp::from_millisecond(random.random_range(0..64_000)).expect("a time");
                json!({"version": 1, "op": "rule-snooze", "rule": id, "until": until.to_string()})
            }
            8 => json!({"version": 1, "op": "thresholds", "review": 0.2, "block": random.random_range(0.3..0.9)}),
            9 => json!({"version": 1, "op": "rules-restore", "deployment": random.random_range(0..20)}),
            10 => {
                let model = ["payments@1", "payments@2"][random.random_range(0..2)];
                let (role, share) =
                    [("champion", 0.0), ("challenger", 0.3), ("shadow", 0.0)][random.random_range(0..3)];
                json!({"version": 1, "op": "model", "model": model, "role": role, "share": share})
            }
            11 => json!({"version": 1, "op": "model-delete", "model": "payments@1"}),
            12..15 => {
                let until = jiff::Timestamp::from_millisecond(random.random_range(0..64_000)).expect("a time");
                let until = random.random_bool(0.5).then(|| until.to_string());
                let entry = json!({"value": value, "until": until, "reason": "to tell"});
                json!({"version": 1, "op": "list", "name": list, "entries": [entry]})
            }
            15 => json!({"version": 1, "op": "list-remove", "list": list, "values": [value]}),
            _ => json!({"version": 1, "op": "list-delete", "list": list}),
        }
    }
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned>(what: &T) -> T {
    bincode::deserialize(&bincode::serialize(what).expect("it is written")).expect("it is read")
}

#[test]
fn deployments_are_the_same_wherever_and_whenever_they_are_made() {
    let room = Room::new();
    let seeds = if std::env::var_os("DELTAWATCH_FULL").is_some() { 50 } else { 3 };
    for seed in 0..seeds {
        let (mut random, mut versions) = (StdRng::seed_from_u64(seed), [0; 8]);
        let (first, second) = (room.deployments(), room.deployments());
        let mut third: Option<Deployments> = None;
        let (mut offset, mut refused) = (0, 0);
        for step in 0..60_i64 {
            let messages: Vec<(u64, ControlMessage)> = (0..random.random_range(1..4))
                .map(|_| {
                    offset += 1;
                    let text = room.message(&mut random, &mut versions).to_string();
                    (offset - 1, ControlMessage::parse(&text).expect("a message"))
                })
                .collect();
            let (group, tried) = first.try_next(messages, offset);
            refused += tried.iter().filter(|(_, refused)| refused.is_some()).count();
            let Some(group) = group else { continue };
            if random.random_range(0..8) == 0 {
                // A process could not make it: nobody has it, and its number is gone.
                second.make(&again(&group));
                [Some(&first), Some(&second), third.as_ref()]
                    .into_iter()
                    .flatten()
                    .for_each(|all| all.give_up(group.number));
                continue;
            }
            let group: ControlGroup = again(&group);
            for other in [Some(&second), third.as_ref()].into_iter().flatten() {
                other.make(&group);
                assert_eq!(other.failed(), None);
            }
            for all in [Some(&first), Some(&second), third.as_ref()].into_iter().flatten() {
                all.switched(group.number, step * 1_000, (step - 10) * 1_000);
            }
            // One that was restored does not know since when earlier ones are over.
            for (all, most) in [(Some(&first), 12), (Some(&second), 12), (third.as_ref(), 24)] {
                let kept = all.map_or(0, Deployments::kept);
                assert!(kept <= most, "deployments that no transaction refers to are kept: {kept}");
            }
            if random.random_range(0..10) == 0 {
                let restored = room.deployments();
                let history: ControlHistory = again(&first.history(group.number));
                restored.restore(&history).expect("it is made again");
                assert_eq!((restored.newest(), restored.upper()), (first.newest(), first.upper()));
                third = Some(restored);
            }
            let oldest = first.history(group.number).groups.first().map_or(0, |group| group.number);
            for number in (oldest..=group.number).rev().take(8) {
                let said = room.says(&first, number);
                assert_eq!(room.says(&second, number), said, "seed {seed}: deployment {number}");
                if let Some(third) = &third {
                    assert_eq!(room.says(third, number), said, "seed {seed}: deployment {number}, restored");
                }
            }
        }
        assert!(third.is_some() && refused > 5, "seed {seed}: {refused} refused");
        assert!(first.history(first.newest()).groups.len() <= 13, "what is kept of the past grows");
    }
}
