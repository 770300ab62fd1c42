//! Values as they are compared: the same device, card or address however it is written, and no placeholders.
//!
//! | kind | becomes |
//! | --- | --- |
//! | text | trimmed, lower case, inner white space as one blank |
//! | email | trimmed, lower case; must have a name and a host |
//! | phone | `+` and digits, as in E.164; `00` in front is `+`; others keep their digits alone; at least 7 digits |
//! | ip | the address as 16 bytes, so that ways of writing IPv6 and mapped IPv4 agree |
//!
//! Integers are compared as they are. What does not stand for anyone links no one: see [`PLACEHOLDERS`]; of ips also
//! unspecified, loopback, link-local and multicast ones, of phones and other digits those of one digit repeated.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

use crate::event::Key;

/// How the values of a field are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Text without a form of its own: device ids, card tokens, hashes.
    Text,
    /// A mail address.
    Email,
    /// A telephone number.
    Phone,
    /// An IPv4 or IPv6 address.
    Ip,
}

impl Written {
    /// What a field's name suggests.
    pub fn by_name(field: &str) -> Self {
        match field {
            "email" => Written::Email,
            "phone" => Written::Phone,
            "ip" => Written::Ip,
            _ => Written::Text,
        }
    }
}

/// Texts that stand for a value that is not known, in any case of letters.
pub const PLACEHOLDERS: [&str; 25] = [
    "",
    "-",
    "--",
    ".",
    "?",
    "0",
    "00000000-0000-0000-0000-000000000000",
    "anonymous",
    "default",
    "dummy",
    "empty",
    "example",
    "false",
    "guest",
    "n/a",
    "na",
    "nan",
    "nil",
    "none",
    "not available",
    "null",
    "test",
    "true",
    "undefined",
    "unknown",
];

/// The key of a text; `None` for a placeholder or what cannot be such a value.
pub fn key(written: Written, text: &str) -> Option<Key> {
    let text = lower(text.trim());
    if PLACEHOLDERS.contains(&&*text) {
        return None;
    }
    match written {
        Written::Text if text.contains(char::is_whitespace) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            let joined = words.join(" ");
            (!PLACEHOLDERS.contains(&joined.as_str())).then(|| Key::from_text(&joined))
        }
        Written::Text => (!is_one_digit_repeated(&text)).then(|| Key::from_text(&text)),
        Written::Email => {
            let (name, host) = text.split_once('@')?;
            let real = !PLACEHOLDERS.contains(&name) && !host.is_empty() && !text.contains(char::is_whitespace);
            real.then(|| Key::from_text(&text))
        }
        Written::Phone => phone(&text).map(|digits| Key::from_text(&digits)),
        Written::Ip => ip(&text),
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.chars().all(|letter| letter.is_lowercase() || !letter.is_alphabetic()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    }
}

/// `000000` and the like.
fn is_one_digit_repeated(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 4 && bytes[0].is_ascii_digit() && bytes.iter().all(|&byte| byte == bytes[0])
}

/// Digits of the shortest number that may belong to someone, and of the longest in E.164.
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

fn phone(text: &str) -> Option<String> {
    let mut digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let mut international = text.starts_with('+');
    if !international && digits.starts_with("00") {
        digits.drain(..2);
        international = true;
    }
    let real = PHONE_DIGITS.contains(&digits.len()) && !is_one_digit_repeated(&digits);
    real.then(|| if international { format!("+{digits}") } else { digits })
}

fn ip(text: &str) -> Option<Key> {
    let address: IpAddr = text.parse().ok()?;
    let address = address.to_canonical();
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if local || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return None;
    }
    let bits = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    Some(key_of(bits))
}

fn key_of(address: Ipv6Addr) -> Key {
    let bits = address.to_bits();
    Key { hi: (bits >> 64) as u64, lo: bits as u64 }
}
