//! Truth and labels of generated events as JSON lines.

use super::Generated;
use super::build::id_text;
use super::draft::FutureLabel;
use crate::event::Schema;
use crate::event::json::{put, write_text};

/// Appends the truth of an event as a JSON line: id, fraud, and where they apply pattern, campaign, cluster (accounts that
/// belong together: a ring or a household) and hard negative. Of a planted event also which instance of which event pattern
/// it belongs to: number and name, key, `outcome` positive or hard_negative, how, and how many events the instance has.
pub fn truth_line(generated: &Generated, schema: &Schema, into: &mut Vec<u8>) {
    let truth = &generated.truth;
    into.extend_from_slice(b"{\"id\":");
    write_text(&generated.event.id_text(schema), into);
    put(into, format_args!(",\"fraud\":{}", truth.fraud));
    if let Some((pattern, campaign)) = truth.campaign {
        put(into, format_args!(",\"pattern\":\"{}\",\"campaign\":{campaign}", pattern.name()));
        put(into, format_args!(",\"cluster\":\"campaign-{campaign}\""));
    } else if let Some(household) = truth.household {
        put(into, format_args!(",\"cluster\":\"household-{household}\""));
    }
    if let Some(why) = truth.hard_negative {
        put(into, format_args!(",\"hard_negative\":\"{}\"", why.name()));
    }
    if let Some(planted) = &truth.planted {
        let (number, name, instance, events) = (planted.pattern(), planted.name(), planted.instance, planted.events);
        let outcome = if planted.positive() { "positive" } else { "hard_negative" };
        put(into, format_args!(",\"planted\":{{\"instance\":{instance},\"events\":{events},\"number\":{number}"));
        put(into, format_args!(",\"name\":\"{name}\",\"key_kind\":\"{}\"", planted.key_kind()));
        put(into, format_args!(",\"key\":\"{}\",\"outcome\":\"{outcome}\"", planted.key_value()));
        put(into, format_args!(",\"variant\":\"{}\"}}", planted.variant()));
    }
    into.extend_from_slice(b"}\n");
}

/// Appends the label of a payment as a JSON line: target, fraud, available_at in milliseconds UTC.
pub fn label_line(number: u64, label: FutureLabel, into: &mut Vec<u8>) {
    let mut target = String::new();
    id_text(&mut target, "t-", number);
    let FutureLabel { fraud, available_at_ms } = label;
    put(into, format_args!("{{\"target\":\"{target}\",\"fraud\":{fraud},\"available_at\":{available_at_ms}}}\n"));
}
