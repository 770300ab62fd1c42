//! Amounts as people write them: with a currency sign, and digits in groups.

/// Signs that stand before or behind an amount.
const SIGNS: [char; 8] = ['$', '€', '£', '¥', '₹', '₽', '₩', '₺'];

/// The plain digits of `$1,234.50`, `-$8.00`, `$-8.00` or `1,234,567`; `None` if it is none of these. A single group behind a single
/// comma (`1,234`) may be a fraction elsewhere, so it is refused.
pub(super) fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let (negative, text) = sign(text);
    let text = text.strip_prefix(SIGNS).or_else(|| text.strip_suffix(SIGNS)).unwrap_or(text).trim();
    let (inner_negative, text) = sign(text);
    if negative && inner_negative {
        return None;
    }
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let groups: Vec<&str> = whole.split(',').collect();
    let grouped = match groups.as_slice() {
        [_] => true,
        [first, rest @ ..] => {
            first.len() <= 3 && rest.iter().all(|group| group.len() == 3) && (fraction.is_some() || rest.len() > 1)
        }
        [] => false,
    };
    if !grouped || !groups.iter().all(|group| digits(group)) || !fraction.is_none_or(digits) {
        return None;
    }
    let mut plain = if negative || inner_negative { "-".to_owned() } else { String::new() };
    plain.extend(groups);
    if let Some(fraction) = fraction {
        plain.push('.');
        plain.push_str(fraction);
    }
    Some(plain)
}

fn sign(text: &str) -> (bool, &str) {
    text.strip_prefix('-').map_or((false, text), |rest| (true, rest))
}
