//! Keeps secrets out of what is said: everything that leaves on standard error or over the health page goes through here.

use std::io::{self, Write};

/// Parameters of an address or a connection string whose values are secrets.
const SECRETS: [&str; 10] =
    ["password", "passwd", "pwd", "passphrase", "token", "secret", "api_key", "apikey", "sslpassword", "sig"];

/// What stands in the place of a secret.
const HIDDEN: &str = "[redacted]";

/// Says the same without user and password of URLs (`scheme://user:password@host`), and without the values of parameters
/// that are secrets (`?token=...`, `password=...`).
pub fn redact(text: &str) -> String {
    parameters(&userinfo(text))
}

/// Where a URL ends in running text.
fn is_end(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

fn userinfo(text: &str) -> String {
    let (mut said, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        said.push_str(before);
        let end = after.find(is_end).unwrap_or(after.len());
        // The last one: a password may hold what should have been encoded.
        match after[..end].rfind('@') {
            Some(at) => {
                said.push_str(HIDDEN);
                rest = &after[at..];
            }
            None => rest = after,
        }
    }
    said + rest
}

fn parameters(text: &str) -> String {
    let (mut said, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('=') {
        let (before, after) = rest.split_at(at + 1);
        said.push_str(before);
        let name = &before[..at];
        let from = name.rfind(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')));
        let name = name[from.map_or(0, |from| from + 1)..].to_ascii_lowercase().replace('-', "_");
        let name = name.rsplit('.').next().unwrap_or_default();
        rest = after;
        if SECRETS.contains(&name) {
            let end = after.find(|c| is_end(c) || matches!(c, '&' | ',' | ';' | ')')).unwrap_or(after.len());
            if end > 0 {
                said.push_str(HIDDEN);
            }
            rest = &after[end..];
        }
    }
    said + rest
}

/// Writes lines without their secrets. A line must come in one piece, as logs do.
pub struct Redacted<W>(pub W);

impl<W: Write> Write for Redacted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_all(redact(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
