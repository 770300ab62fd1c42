//! Text to cell: what a value of a record means for a field of a type.
//!
//! Every format ends here with the *digits as they stand in the record*: a JSON number is never parsed to a double
//! first, so that a decimal is rounded once and from what was written (12.340000000000001 at scale 2 is 1234), half away
//! from zero. JSON numbers, numbers in JSON strings and CSV columns therefore mean the same.

use super::{money, time};
use crate::event::{Field, FieldType, Role, TimeFormat};

/// One value as it stands in a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Nothing: JSON null.
    Null,
    /// A JSON `true` or `false`.
    Bool(bool),
    /// The digits of a JSON number.
    Number(&'a str),
    /// A JSON string, or a CSV column.
    Text(&'a str),
    /// A JSON object or array, or a string that is none (half a surrogate pair).
    Composite(&'a str),
}

/// What a field holds after a value was taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    /// The value counts as missing.
    Missing,
    /// The bits of an integer, amount, time or boolean.
    Int(i64),
    /// A float, always finite.
    Float(f64),
    /// Text.
    Text(&'a str),
}

/// Why a value does not fit; completed to a message by [`complain`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Misfit {
    /// Not of this type at all.
    Not(&'static str),
    /// A number, but with digits where the type has none.
    Fractional,
    /// A number beyond what the type holds.
    Range(&'static str),
    /// A time before or after what the schema takes for a time, milliseconds.
    Outside(i64, i64),
}

/// How to read a field, in the few bytes that the hot path touches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    kind: FieldType,
    format: TimeFormat,
    scale: u8,
    /// Ids, label targets and ranks of type int go up to 2^64 - 1; the cell keeps the bits.
    unsigned: bool,
    /// An empty text is not a value.
    filled: bool,
    /// A text that is empty but for blanks names no one.
    entity: bool,
    /// A time is from the one to the other, milliseconds.
    range_ms: (i64, i64),
}

impl Form {
    /// The form of a schema's field.
    pub fn of(field: &Field) -> Self {
        Form {
            kind: field.kind,
            format: field.format,
            scale: field.scale,
            unsigned: matches!(field.role, Role::Id | Role::LabelTarget | Role::Rank),
            entity: field.role == Role::Entity,
            filled: matches!(field.role, Role::Id | Role::LabelTarget | Role::Kind | Role::Op),
            range_ms: field.range_ms(),
        }
    }

    /// The cell of a value.
    #[inline]
    pub fn cell(self, value: Scalar<'_>) -> Result<Cell<'_>, Misfit> {
        let text = match value {
            Scalar::Number(text) | Scalar::Text(text) => text,
            Scalar::Null => return Ok(Cell::Missing),
            Scalar::Bool(value) => {
                return match self.kind {
                    FieldType::Bool => Ok(Cell::Int(value.into())),
                    FieldType::Text => Ok(Cell::Text(if value { "true" } else { "false" })),
                    _ => Err(Misfit::Not(self.name())),
                };
            }
            Scalar::Composite(_) => return Err(Misfit::Not(self.name())),
        };
        match self.kind {
            FieldType::Text if self.filled && text.is_empty() => Err(Misfit::Not("a name; it is empty")),
            FieldType::Text if self.entity && text.trim().is_empty() => Ok(Cell::Missing),
            FieldType::Text => Ok(Cell::Text(text)),
            // As an empty column of a CSV record.
            _ if text.is_empty() && !self.filled => Ok(Cell::Missing),
            FieldType::Int if self.unsigned => natural(text).map(|value| Cell::Int(value as i64)),
            FieldType::Int => scaled(text, 0, false, "an integer").map(Cell::Int),
            FieldType::Decimal => match scaled(text, self.scale, true, "a decimal number") {
                Err(Misfit::Not(_)) if let Some(plain) = money::plain(text) => {
                    scaled(&plain, self.scale, true, "a decimal number").map(Cell::Int)
                }
                scaled => scaled.map(Cell::Int),
            },
            FieldType::Float if is_no_number(text) => Ok(Cell::Missing),
            FieldType::Float => float(text).map(Cell::Float),
            FieldType::Bool => boolean(text).map(|value| Cell::Int(value.into())),
            FieldType::Time => {
                let time_ms = match self.format {
                    TimeFormat::Millis => scaled(text, 0, false, "a time in milliseconds")?,
                    TimeFormat::Seconds => scaled(text, 3, true, "a time in seconds")?,
                    TimeFormat::Micros => scaled(text, 0, false, self.name())?.div_euclid(1_000),
                    TimeFormat::Nanos => scaled(text, 0, false, self.name())?.div_euclid(1_000_000),
                    TimeFormat::Hours => scaled(text, 0, false, self.name())?.saturating_mul(3_600_000),
                    TimeFormat::Days => scaled(text, 0, false, self.name())?.saturating_mul(86_400_000),
                    TimeFormat::Text => time::millis(text).ok_or(Misfit::Not(self.name()))?,
                };
                let (earliest_ms, latest_ms) = self.range_ms;
                let inside = (earliest_ms..=latest_ms).contains(&time_ms);
                if inside { Ok(Cell::Int(time_ms)) } else { Err(Misfit::Outside(earliest_ms, latest_ms)) }
            }
        }
    }

    /// The type with its article, for messages.
    fn name(self) -> &'static str {
        match (self.kind, self.format) {
            (FieldType::Text, _) => "a text",
            (FieldType::Int, _) => "an integer",
            (FieldType::Float, _) => "a float",
            (FieldType::Bool, _) => "a boolean (true, false, yes, no, 1, 0)",
            (FieldType::Decimal, _) => "a decimal number",
            (FieldType::Time, TimeFormat::Millis) => "a time in milliseconds",
            (FieldType::Time, TimeFormat::Seconds) => "a time in seconds",
            (FieldType::Time, TimeFormat::Micros) => "a time in microseconds",
            (FieldType::Time, TimeFormat::Nanos) => "a time in nanoseconds",
            (FieldType::Time, TimeFormat::Hours) => "a time in hours",
            (FieldType::Time, TimeFormat::Days) => "a time in days",
            (FieldType::Time, TimeFormat::Text) => "a time (RFC 3339, or YYYY-MM-DD HH:MM:SS in UTC)",
        }
    }
}

/// The longest part of a bad value that a message quotes, in characters.
const QUOTE_CHARS_MAX: usize = 64;

/// The message of a value that does not fit its field, in one line.
pub(super) fn complain(field: &str, value: Scalar<'_>, misfit: Misfit) -> String {
    let written = match value {
        Scalar::Null => "null".to_owned(),
        Scalar::Bool(value) => value.to_string(),
        Scalar::Number(text) => quote(text, ""),
        Scalar::Text(text) => quote(text, "'"),
        Scalar::Composite(text) => quote(text, ""),
    };
    match misfit {
        Misfit::Not(what) => format!("field '{field}': {written} is not {what}"),
        Misfit::Fractional => format!("field '{field}': {written} is not an integer; it has digits after the point"),
        Misfit::Range(what) => format!("field '{field}': {written} is out of range for {what}"),
        Misfit::Outside(earliest_ms, latest_ms) => format!(
            "field '{field}': {written} is no time from {} to {}; correct the field's format in the schema if its unit is \
             another one, or set its earliest and latest",
            time::text(earliest_ms),
            time::text(latest_ms)
        ),
    }
}

/// A value as it can stand in a message: in one line, and cut.
pub(super) fn quote(text: &str, mark: &str) -> String {
    let mut quoted = mark.to_owned();
    for (count, character) in text.chars().enumerate() {
        if count == QUOTE_CHARS_MAX {
            quoted.push_str("...");
            break;
        }
        match character {
            '"' | '\'' | '\\' => quoted.push(character),
            other => quoted.extend(other.escape_debug()),
        }
    }
    quoted + mark
}

/// `text` times ten to the `scale`. Digits beyond are rounded half away from zero if `round`, and refused otherwise
/// unless they are zeros.
#[inline]
fn scaled(text: &str, scale: u8, round: bool, what: &'static str) -> Result<i64, Misfit> {
    // Up to 18 plain digits cannot overflow; almost every integer ends here.
    let bytes = text.as_bytes();
    if scale == 0 && !bytes.is_empty() && bytes.len() <= 18 && bytes.iter().all(u8::is_ascii_digit) {
        return Ok(bytes.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')));
    }
    let (negative, magnitude) = magnitude(text, scale, round, what)?;
    if negative {
        if magnitude <= 1 << 63 { Ok((magnitude as i64).wrapping_neg()) } else { Err(Misfit::Range(what)) }
    } else {
        i64::try_from(magnitude).map_err(|_| Misfit::Range(what))
    }
}

/// An integer from 0 to 2^64 - 1.
fn natural(text: &str) -> Result<u64, Misfit> {
    match magnitude(text, 0, false, "an integer")? {
        (true, 1..) => Err(Misfit::Range("an integer from 0 to 18446744073709551615")),
        (_, magnitude) => Ok(magnitude),
    }
}

/// Sign and size of a decimal number times ten to the `scale`; exact for any number of digits.
fn magnitude(text: &str, scale: u8, round: bool, what: &'static str) -> Result<(bool, u64), Misfit> {
    let text = text.trim_ascii();
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (integer, rest) = digits.split_at(whole);
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(rest.iter().take_while(|byte| byte.is_ascii_digit()).count()),
        rest => (&[][..], rest),
    };
    if integer.len() + fraction.len() == 0 {
        return Err(Misfit::Not(what));
    }
    let exponent = match rest {
        [] => 0,
        [b'e' | b'E', rest @ ..] => exponent(rest).ok_or(Misfit::Not(what))?,
        _ => return Err(Misfit::Not(what)),
    };
    // Of all digits in a row, this many stand before the point of the result.
    let kept = integer.len() as i64 + exponent + i64::from(scale);
    let mut magnitude = 0u64;
    let mut place = 0i64;
    for digit in integer.iter().chain(fraction).map(|byte| u64::from(byte - b'0')) {
        if place < kept {
            magnitude = magnitude.checked_mul(10).and_then(|sum| sum.checked_add(digit)).ok_or(Misfit::Range(what))?;
        } else if !round && digit != 0 {
            return Err(Misfit::Fractional);
        } else if round && place == kept && digit >= 5 {
            // The first digit beyond decides alone: 5 and more is half or above.
            magnitude = magnitude.checked_add(1).ok_or(Misfit::Range(what))?;
        }
        place += 1;
    }
    if magnitude != 0 {
        for _ in place..kept {
            magnitude = magnitude.checked_mul(10).ok_or(Misfit::Range(what))?;
        }
    }
    Ok((negative, magnitude))
}

/// The exponent after the `e`; one of more digits than matter is cut to a size that still means "far too large".
fn exponent(text: &[u8]) -> Option<i64> {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        rest => (1, rest),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(sign * digits.iter().fold(0i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1 << 40)))
}

/// Whether a text is how many libraries write a double that has no value.
fn is_no_number(text: &str) -> bool {
    let text = text.trim_ascii().trim_start_matches(['-', '+']);
    ["nan", "inf", "infinity"].iter().any(|name| text.eq_ignore_ascii_case(name))
}

fn float(text: &str) -> Result<f64, Misfit> {
    let text = text.trim_ascii();
    // Rust reads "inf" and "nan"; a record cannot mean them, and they would poison sums.
    if !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(Misfit::Not("a float"));
    }
    let value: f64 = text.parse().map_err(|_| Misfit::Not("a float"))?;
    // One zero only, so that equal content is equal bits.
    if value == 0.0 {
        return Ok(0.0);
    }
    if value.is_finite() { Ok(value) } else { Err(Misfit::Range("a float")) }
}

fn boolean(text: &str) -> Result<bool, Misfit> {
    let text = text.trim_ascii();
    // A column of 0 and 1 with something missing in it is written as floats by many.
    let text = text.strip_suffix('0').map_or(text, |rest| rest.trim_end_matches('0').strip_suffix('.').unwrap_or(text));
    let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
    if is(&["true", "1", "yes", "t", "y"]) {
        Ok(true)
    } else if is(&["false", "0", "no", "f", "n"]) {
        Ok(false)
    } else {
        Err(Misfit::Not("a boolean (true, false, yes, no, 1, 0)"))
    }
}
