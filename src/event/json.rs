//! Events as JSON, as their schema reads them.

use std::io::Write;

use super::{Event, FieldType, Op, Role, Schema, Slot, TimeFormat};

/// Writes events as JSON objects, fields at the paths of a schema; dots make nested objects. Missing fields are left out,
/// and so is the operation of an insert.
#[derive(Debug)]
pub struct JsonEncoder {
    nodes: Vec<Node>,
}

#[derive(Debug)]
enum Node {
    /// `"name":` and the slot of the value.
    Leaf(String, Slot),
    /// `"name":` and what is inside.
    Object(String, Vec<Node>),
}

impl JsonEncoder {
    /// An encoder for events of a schema.
    pub fn new(schema: &Schema) -> Self {
        let mut nodes = Vec::new();
        for (index, field) in schema.fields().iter().enumerate() {
            insert(&mut nodes, &field.path, Slot(index as u16));
        }
        JsonEncoder { nodes }
    }

    /// Appends one event, without a line end.
    pub fn write(&self, event: &Event, schema: &Schema, into: &mut Vec<u8>) {
        into.push(b'{');
        write_nodes(&self.nodes, event, schema, into);
        into.push(b'}');
    }
}

fn insert(nodes: &mut Vec<Node>, path: &str, slot: Slot) {
    let Some((head, rest)) = path.split_once('.') else {
        nodes.push(Node::Leaf(name_json(path), slot));
        return;
    };
    let head = name_json(head);
    let known = nodes.iter_mut().find_map(|node| match node {
        Node::Object(name, inner) if *name == head => Some(inner),
        _ => None,
    });
    match known {
        Some(inner) => insert(inner, rest, slot),
        None => {
            let mut inner = Vec::new();
            insert(&mut inner, rest, slot);
            nodes.push(Node::Object(head, inner));
        }
    }
}

fn name_json(name: &str) -> String {
    let mut json = Vec::new();
    write_text(name, &mut json);
    json.push(b':');
    String::from_utf8_lossy(&json).into_owned()
}

fn write_nodes(nodes: &[Node], event: &Event, schema: &Schema, into: &mut Vec<u8>) {
    let mut first = true;
    for node in nodes {
        let before = into.len();
        if !first {
            into.push(b',');
        }
        let written = match node {
            Node::Leaf(name, slot) => {
                into.extend_from_slice(name.as_bytes());
                write_value(event, *slot, schema, into)
            }
            Node::Object(name, inner) => {
                into.extend_from_slice(name.as_bytes());
                into.push(b'{');
                let empty = into.len();
                write_nodes(inner, event, schema, into);
                let some = into.len() > empty;
                into.push(b'}');
                some
            }
        };
        if written {
            first = false;
        } else {
            into.truncate(before);
        }
    }
}

/// Writes to a vector, which cannot fail.
pub(crate) fn put(into: &mut Vec<u8>, arguments: std::fmt::Arguments) {
    let _ = into.write_fmt(arguments);
}

/// Writes the value of a field; false if it is missing.
fn write_value(event: &Event, slot: Slot, schema: &Schema, into: &mut Vec<u8>) -> bool {
    let field = schema.field(slot);
    match field.role {
        Role::Kind => {
            write_text(&schema.kinds()[event.kind as usize], into);
            return true;
        }
        Role::Op => {
            match event.op {
                Op::Insert => return false,
                Op::Correct => into.extend_from_slice(b"\"correct\""),
                Op::Withdraw => into.extend_from_slice(b"\"withdraw\""),
            }
            return true;
        }
        Role::Time => {
            write_time(event.time, field.format, into);
            return true;
        }
        Role::Id if field.kind != FieldType::Text => {
            put(into, format_args!("{}", event.id.lo));
            return true;
        }
        _ => {}
    }
    match field.kind {
        FieldType::Text => {
            let Some(text) = event.text(slot) else { return false };
            write_text(text, into);
        }
        FieldType::Float => match event.float(slot) {
            // JSON has no infinities and no NaN.
            Some(value) if value.is_finite() => put(into, format_args!("{value}")),
            _ => return false,
        },
        FieldType::Int => {
            let Some(value) = event.int(slot) else { return false };
            match field.role {
                Role::Rank | Role::LabelTarget => put(into, format_args!("{}", value as u64)),
                _ => put(into, format_args!("{value}")),
            }
        }
        FieldType::Bool => {
            let Some(value) = event.int(slot) else { return false };
            into.extend_from_slice(if value != 0 { b"true" } else { b"false" });
        }
        FieldType::Decimal => {
            let Some(value) = event.int(slot) else { return false };
            write_decimal(value, field.scale, into);
        }
        FieldType::Time => {
            let Some(value) = event.int(slot) else { return false };
            write_time(value, field.format, into);
        }
    }
    true
}

/// `1999` at scale 2 is `19.99`, digit by digit.
fn write_decimal(value: i64, scale: u8, into: &mut Vec<u8>) {
    if scale == 0 {
        return put(into, format_args!("{value}"));
    }
    let width = usize::from(scale) + 1;
    let digits = format!("{:0width$}", value.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if value < 0 { "-" } else { "" };
    put(into, format_args!("{sign}{whole}.{fraction}"));
}

fn write_time(time_ms: i64, format: TimeFormat, into: &mut Vec<u8>) {
    match format {
        TimeFormat::Millis => put(into, format_args!("{time_ms}")),
        TimeFormat::Seconds => put(into, format_args!("{}", time_ms.div_euclid(1_000))),
        TimeFormat::Micros => put(into, format_args!("{}", i128::from(time_ms) * 1_000)),
        TimeFormat::Nanos => put(into, format_args!("{}", i128::from(time_ms) * 1_000_000)),
        TimeFormat::Hours => put(into, format_args!("{}", time_ms.div_euclid(3_600_000))),
        TimeFormat::Days => put(into, format_args!("{}", time_ms.div_euclid(86_400_000))),
        TimeFormat::Text => match jiff::Timestamp::from_millisecond(time_ms) {
            Ok(time) => put(into, format_args!("\"{time}\"")),
            Err(_) => into.extend_from_slice(b"null"),
        },
    }
}

pub(crate) fn write_text(text: &str, into: &mut Vec<u8>) {
    into.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => into.extend_from_slice(&[b'\\', byte]),
            0..0x20 => put(into, format_args!("\\u{byte:04x}")),
            _ => into.push(byte),
        }
    }
    into.push(b'"');
}
