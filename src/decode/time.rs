//! Times written as text, to milliseconds since the epoch.

/// `YYYY-MM-DD` and `HH:MM:SS`, with `T` or a blank between, fraction and offset optional (UTC without one). Digits
/// beyond milliseconds are cut off, towards the past. `None` if it is no time.
pub(super) fn millis(text: &str) -> Option<i64> {
    let text = text.trim_ascii();
    fixed(text.as_bytes()).or_else(|| general(text))
}

/// A time as text, for messages; its number if it is beyond the calendar.
pub(super) fn text(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |time| time.to_string())
}

/// The forms that nearly every record has, by hand: ten times as fast as the general parser.
fn fixed(text: &[u8]) -> Option<i64> {
    if text.len() < 19 {
        return None;
    }
    let (head, tail) = text.split_at(19);
    let punctuation = head[4] == b'-'
        && head[7] == b'-'
        && matches!(head[10], b' ' | b'T' | b't')
        && head[13] == b':'
        && head[16] == b':';
    if !punctuation {
        return None;
    }
    let year = number(&head[0..4])?;
    let (month, day) = (number(&head[5..7])?, number(&head[8..10])?);
    let (hour, minute, second) = (number(&head[11..13])?, number(&head[14..16])?, number(&head[17..19])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (fraction, tail) = match tail {
        [b'.', rest @ ..] => {
            let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if count == 0 {
                return None;
            }
            let millis =
                (0..3).fold(0, |sum, place| sum * 10 + if place < count { i64::from(rest[place] - b'0') } else { 0 });
            (millis, &rest[count..])
        }
        rest => (0, rest),
    };
    let offset_minutes = match tail {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), a, b, b':', c, d] => {
            let (hours, minutes) = (number(&[*a, *b])?, number(&[*c, *d])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return None,
    };
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
    Some(seconds * 1_000 + fraction)
}

/// Everything else that is unmistakably a date and a time (RFC 9557 zones, leap seconds, short offsets).
fn general(text: &str) -> Option<i64> {
    // Bare digits would be read as a basic ISO date; they are more likely an epoch under the wrong format.
    if text.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    let stamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    i64::try_from(stamp.as_nanosecond().div_euclid(1_000_000)).ok()
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0')))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}
