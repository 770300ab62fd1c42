//! Conditions as they are written: text to a tree, without knowing the schema.
//!
//! ```text
//! any    := all ("or" all)*
//! all    := one ("and" one)*
//! one    := "not" one | "(" any ")" | side [comparison side | "in" "[" term, ... "]"]
//! side   := [number "*"] term
//! term   := number | number unit | 'text' | true | false | [step "."] name | [step "."] name "(" term, ... ")"
//! unit   := ms | s | m | h | d
//! text   stands between single or double quotes
//! comparison := = | != | < | <= | > | >=
//! ```

use std::fmt;

/// An exact decimal number: `digits / 10^scale`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decimal {
    /// All digits, the point left out.
    pub digits: i64,
    /// Digits after the point.
    pub scale: u8,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    Unequal,
    /// Less.
    Less,
    /// Less or equal.
    AtMost,
    /// Greater.
    More,
    /// Greater or equal.
    AtLeast,
}

impl Comparison {
    /// Whether an ordering fulfils it.
    pub fn accepts(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::Unequal => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::AtMost => ordering.is_le(),
            Comparison::More => ordering.is_gt(),
            Comparison::AtLeast => ordering.is_ge(),
        }
    }
}

/// A value as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Term {
    /// A number.
    Number(Decimal),
    /// A length of time, milliseconds.
    Duration(i64),
    /// Text between quotes.
    Text(String),
    /// `true` or `false`.
    Bool(bool),
    /// A name, of the event itself or of an earlier step.
    Name(Option<String>, String),
    /// A function with its arguments, of the event itself, of an earlier step or of `history`.
    Call(Option<String>, String, Vec<Term>),
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dotted = |of: &Option<String>, name: &str| of.as_ref().map_or(name.to_owned(), |of| format!("{of}.{name}"));
        match self {
            Term::Number(Decimal { digits, scale: 0 }) => write!(f, "{digits}"),
            Term::Number(Decimal { digits, scale }) => {
                write!(f, "{:.*}", usize::from(*scale), *digits as f64 / 10f64.powi(i32::from(*scale)))
            }
            Term::Duration(ms) => write!(f, "{ms}ms"),
            Term::Text(text) => write!(f, "'{text}'"),
            Term::Bool(value) => write!(f, "{value}"),
            Term::Name(of, name) => f.write_str(&dotted(of, name)),
            Term::Call(of, name, arguments) => {
                let arguments: Vec<String> = arguments.iter().map(Term::to_string).collect();
                write!(f, "{}({})", dotted(of, name), arguments.join(", "))
            }
        }
    }
}

/// One side of a comparison: a term, perhaps times a number.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// The factor; 1 if none is written.
    pub factor: Decimal,
    /// The value.
    pub term: Term,
}

/// A condition as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// All hold.
    All(Vec<Expr>),
    /// One holds.
    Any(Vec<Expr>),
    /// It does not hold.
    Not(Box<Expr>),
    /// Two values compare so.
    Compare(Side, Comparison, Side),
    /// A value is one of these.
    In(Term, Vec<Term>),
    /// A flag, or a function that says yes or no.
    Holds(Term),
}

/// Parses a condition. The error says where it stopped and what was expected.
pub fn parse(text: &str) -> Result<Expr, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { text, tokens, at: 0, depth: 0 };
    let expr = parser.any()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.expected("'and', 'or' or the end")),
    }
}

/// Parses a length of time: `500ms`, `10s`, `30m`, `24h`, `7d`.
pub fn duration_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("'{text}' is not a length of time; write a number and ms, s, m, h or d, like \"30m\"");
    match tokens(text).map_err(|_| wrong())?.as_slice() {
        [(_, Token::Duration(ms))] if *ms > 0 => Ok(*ms),
        _ => Err(wrong()),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(Decimal),
    Duration(i64),
    Text(String),
    Word(String),
    Sign(&'static str),
}

/// Two-character signs stand before their first characters.
const SIGNS: [&str; 13] = ["!=", "<=", ">=", "==", "=", "<", ">", "(", ")", "[", "]", ",", "*"];

/// Conditions nested deeper than this are refused, so that no input exhausts the stack.
const DEPTH_MAX: usize = 32;

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else { return Ok(tokens) };
        let (token, length) = if first == '\'' || first == '"' {
            let end =
                rest[1..].find(first).ok_or_else(|| format!("the text that starts at {at} has no closing quote"))?;
            (Token::Text(rest[1..1 + end].to_owned()), end + 2)
        } else if first.is_ascii_digit() || first == '-' {
            number(rest, at)?
        } else if first.is_alphabetic() || first == '_' {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            (Token::Word(rest[..length].to_owned()), length)
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("'{first}' at {at} means nothing here"))?;
            (Token::Sign(if *sign == "==" { "=" } else { sign }), sign.len())
        };
        tokens.push((at, token));
        rest = &rest[length..];
    }
}

/// A number or a length of time at the start of `rest`, and its length.
fn number(rest: &str, at: usize) -> Result<(Token, usize), String> {
    let sign = usize::from(rest.starts_with('-'));
    let length =
        sign + rest[sign..].find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(rest.len() - sign);
    let written = rest[..length].replace('_', "");
    let wrong = || format!("'{}' at {at} is not a number", &rest[..length]);
    let (whole, fraction) = written.split_once('.').unwrap_or((&written, ""));
    let digits: i64 = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    let unit = rest[length..].find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len() - length);
    let per_unit = match &rest[length..length + unit] {
        "" if fraction.len() <= 12 => {
            return Ok((Token::Number(Decimal { digits, scale: fraction.len() as u8 }), length));
        }
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    if !fraction.is_empty() {
        return Err(format!("a length of time is a whole number, not '{written}'; use a smaller unit"));
    }
    Ok((Token::Duration(digits.checked_mul(per_unit).ok_or_else(wrong)?), length + unit))
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn sign(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, word: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Word(found)) if found == word);
        self.at += usize::from(there);
        there
    }

    fn expected(&self, what: &str) -> String {
        match self.tokens.get(self.at) {
            Some((at, _)) => format!("expected {what} at {at}, before '{}'", &self.text[*at..]),
            None => format!("ends where {what} is expected"),
        }
    }

    fn any(&mut self) -> Result<Expr, String> {
        let mut parts = vec![self.all()?];
        while self.word("or") {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Any(parts) })
    }

    fn all(&mut self) -> Result<Expr, String> {
        let mut parts = vec![self.one()?];
        while self.word("and") {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::All(parts) })
    }

    fn one(&mut self) -> Result<Expr, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(format!("is nested deeper than {DEPTH_MAX}; split it into several conditions"));
        }
        let one = self.nested();
        self.depth -= 1;
        one
    }

    fn nested(&mut self) -> Result<Expr, String> {
        if self.word("not") {
            return Ok(Expr::Not(Box::new(self.one()?)));
        }
        if self.sign("(") {
            let inner = self.any()?;
            return if self.sign(")") { Ok(inner) } else { Err(self.expected("')'")) };
        }
        let left = self.side()?;
        let one = Decimal { digits: 1, scale: 0 };
        if left.factor == one && self.word("in") {
            if !self.sign("[") {
                return Err(self.expected("'['"));
            }
            return Ok(Expr::In(left.term, self.list("]")?));
        }
        let signs = [
            ("=", Comparison::Equal),
            ("!=", Comparison::Unequal),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::More),
        ];
        for (sign, comparison) in signs {
            if self.sign(sign) {
                return Ok(Expr::Compare(left, comparison, self.side()?));
            }
        }
        match left.term {
            term @ (Term::Name(..) | Term::Call(..)) if left.factor == one => Ok(Expr::Holds(term)),
            _ => Err(self.expected("a comparison")),
        }
    }

    fn side(&mut self) -> Result<Side, String> {
        let term = self.term()?;
        match term {
            Term::Number(factor) if self.sign("*") => Ok(Side { factor, term: self.term()? }),
            term => Ok(Side { factor: Decimal { digits: 1, scale: 0 }, term }),
        }
    }

    /// Terms up to a closing sign.
    fn list(&mut self, close: &str) -> Result<Vec<Term>, String> {
        let mut terms = Vec::new();
        while !self.sign(close) {
            if !terms.is_empty() && !self.sign(",") {
                return Err(self.expected(&format!("',' or '{close}'")));
            }
            terms.push(self.term()?);
        }
        Ok(terms)
    }

    fn term(&mut self) -> Result<Term, String> {
        let token = self.peek().cloned();
        let word = match token {
            Some(Token::Word(word)) if !["and", "or", "not", "in"].contains(&word.as_str()) => word,
            Some(Token::Number(number)) => {
                self.at += 1;
                return Ok(Term::Number(number));
            }
            Some(Token::Duration(ms)) => {
                self.at += 1;
                return Ok(Term::Duration(ms));
            }
            Some(Token::Text(text)) => {
                self.at += 1;
                return Ok(Term::Text(text));
            }
            _ => return Err(self.expected("a value")),
        };
        self.at += 1;
        if word == "true" || word == "false" {
            return Ok(Term::Bool(word == "true"));
        }
        let (of, name) = match word.split_once('.') {
            Some((of, name)) => (Some(of.to_owned()), name.to_owned()),
            None => (None, word),
        };
        if self.sign("(") {
            // Arguments are terms, so calls may nest: the depth counts them too.
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(format!("is nested deeper than {DEPTH_MAX}; split it into several conditions"));
            }
            let arguments = self.list(")")?;
            self.depth -= 1;
            return Ok(Term::Call(of, name, arguments));
        }
        Ok(Term::Name(of, name))
    }
}
