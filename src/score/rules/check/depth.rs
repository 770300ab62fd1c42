//! How deep an expression is nested, found before it is parsed: the parser recurses.

use super::{DEPTH_MAX, ExpressionError};

/// Refuses what is nested too deep.
pub(super) fn check(source: &str) -> Result<(), ExpressionError> {
    let (mut depth, mut unary, mut quote, mut escaped) = (0_u16, 0_u16, None, false);
    let (mut line, mut column) = (1, 0);
    for character in source.chars() {
        (line, column) = if character == '\n' { (line + 1, 0) } else { (line, column + 1) };
        if let Some(open) = quote {
            if character == open && !escaped {
                quote = None;
            }
            escaped = character == '\\' && !escaped;
            continue;
        }
        unary = if matches!(character, '!' | '-' | '?') { unary + 1 } else { unary };
        match character {
            '"' | '\'' => (quote, escaped) = (Some(character), false),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '&' | '|' | ',' => unary = 0,
            _ => {}
        }
        if depth > DEPTH_MAX || unary > DEPTH_MAX {
            let reason = format!("is nested deeper than {DEPTH_MAX}");
            return Err(ExpressionError { line, column, reason });
        }
    }
    Ok(())
}
