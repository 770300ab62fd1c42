//! `deltawatch dataflow describe NAME`.

use std::fmt::Write;

use serde_json::{Value, json};

use super::super::error::Failure;
use super::definition::{definition, notes};
use crate::dataflow::{Dataflow, Setup};
use crate::event::{Role, Schema};
use crate::views::Timing;
use crate::views::velocity::{Velocity, Window};

/// Everything a dataflow says of itself, as text or JSON.
pub fn describe(dataflow: &dyn Dataflow, setup: &Setup, as_json: bool) -> Result<String, Failure> {
    let features = dataflow.features(setup)?;
    features.plans(&setup.schema).map_err(Failure::Usage)?;
    let schema = &setup.schema;
    let all = json!({
        "name": dataflow.name(),
        "about": dataflow.about(),
        "model": dataflow.model(),
        "parameters": dataflow.parameters().iter().map(|parameter| json!({
            "key": format!("{}.{}", dataflow.name(), parameter.key),
            "about": parameter.about,
            "default": parameter.default,
        })).collect::<Vec<_>>(),
        "schema": {
            "name": schema.name(),
            "kinds": schema.kinds(),
            "fields": schema.fields().iter().map(|field| json!({
                "name": field.name,
                "path": field.path,
                "type": format!("{:?}", field.kind).to_lowercase(),
                "role": role(field.role),
                "required": field.required,
            })).collect::<Vec<_>>(),
        },
        "columns": features.columns(),
        "event_features": features.own_features().map(|(name, _)| name).collect::<Vec<_>>(),
        "keys": features.keys().iter().map(|velocity| key(velocity, schema)).collect::<Vec<_>>(),
        "notes": if features.keys().is_empty() { Vec::new() } else { notes() },
        "families": features.families().iter().map(|family| json!({
            "about": family.about(),
            "timing": match family.timing() {
                Timing::AsOfEvent => "as of the event, revised",
                Timing::AsOfArrival => "as of arrival, never revised",
            },
            "features": family.columns().into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    Ok(if as_json { format!("{all}\n") } else { text(&all) })
}

fn key(velocity: &Velocity, schema: &Schema) -> Value {
    json!({
        "key": velocity.key(),
        "fields": velocity.fields(),
        "revised_for": Window::Millis(velocity.revise_ms()).label(),
        "features": velocity.features().iter().map(|feature| json!({
            "name": feature.name,
            "definition": definition(feature, schema),
        })).collect::<Vec<_>>(),
    })
}

fn role(role: Role) -> String {
    let camel = format!("{role:?}");
    let mut snake = String::new();
    for (index, letter) in camel.chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

fn text(all: &Value) -> String {
    let mut out = String::new();
    let word = |value: &Value| value.as_str().unwrap_or("none").to_owned();
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let columns = items(&all["columns"]).len();
    let _ = writeln!(out, "{}: {}\n\nmodel: {}", word(&all["name"]), word(&all["about"]), word(&all["model"]));
    for parameter in items(&all["parameters"]) {
        let (key, about, default) = (word(&parameter["key"]), word(&parameter["about"]), word(&parameter["default"]));
        let default = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
        let _ = writeln!(out, "--set {key}=...: {about}{default}");
    }
    let kinds: Vec<String> = items(&all["schema"]["kinds"]).iter().map(word).collect();
    let _ = writeln!(out, "\nschema {}, kinds {}", word(&all["schema"]["name"]), kinds.join(", "));
    for field in items(&all["schema"]["fields"]) {
        let required = if field["required"] == true { ", required" } else { "" };
        let path =
            if field["path"] == field["name"] { String::new() } else { format!(" from {}", word(&field["path"])) };
        let _ = writeln!(
            out,
            "  {:<20} {:<8} {}{required}{path}",
            word(&field["name"]),
            word(&field["type"]),
            word(&field["role"])
        );
    }
    let own: Vec<String> = items(&all["event_features"]).iter().map(word).collect();
    let _ = writeln!(out, "\n{columns} feature columns");
    if !own.is_empty() {
        let _ = writeln!(out, "\nof the event alone: {}", own.join(", "));
    }
    for key in items(&all["keys"]) {
        let fields: Vec<String> = items(&key["fields"]).iter().map(word).collect();
        let features = items(&key["features"]);
        let (name, fields, revised) = (word(&key["key"]), fields.join(", "), word(&key["revised_for"]));
        let _ = writeln!(out, "\nkey {name} ({fields}), {} features, rows revised for {revised}", features.len());
        for feature in features {
            let _ = writeln!(out, "  {:<36} {}", word(&feature["name"]), word(&feature["definition"]));
        }
    }
    let notes = items(&all["notes"]);
    if !notes.is_empty() {
        let _ = writeln!(out, "\nof features by key:");
    }
    for note in notes {
        let _ = writeln!(out, "  * {}", word(&note));
    }
    for family in items(&all["families"]) {
        let features = items(&family["features"]);
        let _ =
            writeln!(out, "\n{} ({}), {} features", word(&family["about"]), word(&family["timing"]), features.len());
        for name in features {
            let _ = writeln!(out, "  {}", word(&name));
        }
    }
    out
}
