//! How deep an expression is nested, found before it is parsed: parser, checker and program recurse, and a stack is no place to find
//! out.
//!
//! What is counted is the height of the tree at most: each operator of a chain is a level, as in `a + b + c` and `a.b.c`; `&&`, `||` and
//! `,` join their sides in one. Strings that do not end, or hold an escape that there is not, are refused here, too: the parser
//! would go on in the middle of them.

use std::iter::Peekable;
use std::str::Chars;

use super::{DEPTH_MAX, ExpressionError};

/// What is between two brackets, or all of it.
#[derive(Default)]
struct Level {
    /// Height of the operand that is being read.
    operand: u16,
    /// Of the operands and operators before it, up to `&&` or `||`.
    chain: u16,
    /// Of the chains before.
    chains: u16,
    /// Each `?` nests all that follow.
    turns: u16,
    /// Height of what is before the last comma.
    before: u16,
}

impl Level {
    fn operator(&mut self) {
        (self.chain, self.operand) = (self.chain.max(self.operand) + 1, 0);
    }

    fn join(&mut self) {
        self.chains = self.chains.max(self.chain).max(self.operand);
        (self.chain, self.operand) = (0, 0);
    }

    fn comma(&mut self) {
        *self = Level { before: self.height(), ..Level::default() };
    }

    fn height(&self) -> u16 {
        self.before.max(self.chains.max(self.chain).max(self.operand) + self.turns)
    }
}

struct Scanner<'a> {
    rest: Peekable<Chars<'a>>,
    line: usize,
    column: usize,
}

/// Refuses what is nested too deep.
pub(super) fn check(source: &str) -> Result<(), ExpressionError> {
    let mut scanner = Scanner { rest: source.chars().peekable(), line: 1, column: 0 };
    let (mut level, mut around) = (Level::default(), Vec::new());
    while let Some(character) = scanner.step() {
        match character {
            '"' | '\'' => scanner.string(character, false)?,
            '(' | '[' | '{' => around.push(std::mem::take(&mut level)),
            ')' | ']' | '}' => {
                if let Some(outer) = around.pop() {
                    let inner = std::mem::replace(&mut level, outer).height() + 1;
                    level.operand = level.operand.max(inner) + u16::from(character == ']');
                }
            }
            '&' | '|' if scanner.take(character) => level.join(),
            ',' => level.comma(),
            '?' => level.turns += 1,
            '/' if scanner.take('/') => while scanner.step().is_some_and(|character| character != '\n') {},
            '.' => level.operand += 1,
            '!' | '=' | '<' | '>' | '+' | '-' | '*' | '/' | '%' => {
                scanner.take('=');
                level.operator();
            }
            _ if is_word(character) => match &*scanner.word(character) {
                "in" => level.operator(),
                prefix if prefix.len() <= 2 && prefix.chars().all(|c| matches!(c, 'r' | 'R' | 'b' | 'B')) => {
                    if let Some(&quote @ ('"' | '\'')) = scanner.rest.peek() {
                        scanner.take(quote);
                        scanner.string(quote, prefix.contains(['r', 'R']))?;
                    }
                }
                _ => {}
            },
            _ => {}
        }
        if around.len().max(usize::from(level.height())) > usize::from(DEPTH_MAX) {
            return scanner.refuse(format!("is nested deeper than {DEPTH_MAX}"));
        }
    }
    Ok(())
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

impl Scanner<'_> {
    fn step(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        (self.line, self.column) = if next == '\n' { (self.line + 1, 0) } else { (self.line, self.column + 1) };
        Some(next)
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.rest.peek() == Some(&wanted);
        if there {
            self.step();
        }
        there
    }

    /// A name or a number; a point in a number is no level.
    fn word(&mut self, first: char) -> String {
        let mut word = String::from(first);
        let number = first.is_ascii_digit();
        while let Some(&next) = self.rest.peek().filter(|&&next| is_word(next) || (number && next == '.')) {
            word.push(next);
            self.step();
        }
        word
    }

    /// What follows an opening quote, up to the closing one.
    fn string(&mut self, quote: char, raw: bool) -> Result<(), ExpressionError> {
        let begin = (self.line, self.column);
        let triple = self.take(quote);
        if triple && !self.take(quote) {
            return Ok(());
        }
        let mut closing = 0;
        loop {
            let next = self.step();
            closing = if next == Some(quote) { closing + 1 } else { 0 };
            match next {
                Some('\\') if !raw => self.escape()?,
                Some(next) if next == quote && (!triple || closing == 3) => return Ok(()),
                Some('\n' | '\r') if !triple => break,
                None => break,
                Some(_) => {}
            }
        }
        (self.line, self.column) = begin;
        self.refuse("this string is not closed".to_owned())
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), ExpressionError> {
        let (digits, radix) = match self.step() {
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '"' | '\'' | '\\' | '?' | '`') => return Ok(()),
            Some('x' | 'X') => (2, 16),
            Some('u') => (4, 16),
            Some('U') => (8, 16),
            Some('0'..='3') => (2, 8),
            _ => return self.refuse("there is no such escape: write \\\\ for a backslash".to_owned()),
        };
        for _ in 0..digits {
            if !self.step().is_some_and(|digit| digit.is_digit(radix)) {
                return self.refuse(format!("this escape takes {digits} more digits of base {radix}"));
            }
        }
        Ok(())
    }

    fn refuse<T>(&self, reason: String) -> Result<T, ExpressionError> {
        Err(ExpressionError { line: self.line, column: self.column.max(1), reason })
    }
}
