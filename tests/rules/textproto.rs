//! Reads messages as text (the textproto format), as far as the conformance cases of CEL use it.

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Proto {
    /// `name { ... }`.
    Message(Message),
    /// A quoted string, or several side by side, as bytes.
    Text(Vec<u8>),
    /// A number, the name of an enum's value, `true`, `inf`: as it is written.
    Plain(String),
}

/// Fields, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message(Vec<(String, Proto)>);

impl Message {
    /// Parses a file.
    ///
    /// # Panics
    /// If it is no textproto.
    pub fn parse(text: &str) -> Self {
        let mut reader = Reader { rest: text };
        let message = reader.message(None);
        assert!(reader.peek().is_none(), "it ends before {:?}", reader.rest);
        message
    }

    /// All fields of a name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Proto> {
        self.0.iter().filter(move |(field, _)| field == name).map(|(_, value)| value)
    }

    /// All messages of a name.
    pub fn messages<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Message> {
        self.all(name).map(move |value| match value {
            Proto::Message(message) => message,
            other => panic!("{name} is no message: {other:?}"),
        })
    }

    /// The string of a name; empty if there is none.
    pub fn text(&self, name: &str) -> String {
        self.all(name).map(|value| String::from_utf8(value.bytes().to_vec()).expect("a text")).collect()
    }

    /// Whether there is a field of a name.
    pub fn has(&self, name: &str) -> bool {
        self.all(name).next().is_some()
    }

    /// The only field.
    pub fn only(&self) -> (&str, &Proto) {
        let [(name, value)] = &self.0[..] else { panic!("one field, not {self:?}") };
        (name, value)
    }
}

impl Proto {
    /// What is quoted.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Proto::Text(bytes) => bytes,
            other => panic!("no string: {other:?}"),
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// The next character, behind blanks and comments.
    fn peek(&mut self) -> Option<char> {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('#') {
                return self.rest.chars().next();
            }
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let there = self.peek() == Some(wanted);
        if there {
            self.rest = &self.rest[wanted.len_utf8()..];
        }
        there
    }

    /// Fields up to the end of the message.
    fn message(&mut self, end: Option<char>) -> Message {
        let mut fields = Vec::new();
        while let Some(next) = self.peek() {
            if Some(next) == end {
                self.take(next);
                break;
            }
            let name = self.name();
            self.take(':');
            if self.take('[') {
                while !self.take(']') {
                    fields.push((name.clone(), self.value()));
                    self.take(',');
                }
            } else {
                fields.push((name, self.value()));
            }
            let _ = self.take(',') || self.take(';');
        }
        Message(fields)
    }

    /// The name of a field; that of a message of any type is in brackets.
    fn name(&mut self) -> String {
        if self.take('[') {
            let (name, rest) = self.rest.split_once(']').expect("a closed name");
            self.rest = rest;
            return name.to_owned();
        }
        self.plain()
    }

    fn plain(&mut self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
        let (text, rest) = self.rest.split_at(self.rest.find(|c| !plain(c)).unwrap_or(self.rest.len()));
        assert!(!text.is_empty(), "a name or a number before {:.60}", self.rest);
        self.rest = rest;
        text.to_owned()
    }

    fn value(&mut self) -> Proto {
        match self.peek() {
            Some('{') if self.take('{') => Proto::Message(self.message(Some('}'))),
            Some('<') if self.take('<') => Proto::Message(self.message(Some('>'))),
            Some('"' | '\'') => {
                let mut bytes = Vec::new();
                while let Some(quote @ ('"' | '\'')) = self.peek() {
                    self.take(quote);
                    self.quoted(quote, &mut bytes);
                }
                Proto::Text(bytes)
            }
            _ => Proto::Plain(self.plain()),
        }
    }

    fn quoted(&mut self, quote: char, into: &mut Vec<u8>) {
        loop {
            let next = self.step().expect("a closed string");
            if next == quote {
                return;
            }
            if next != '\\' {
                into.extend(next.encode_utf8(&mut [0; 4]).bytes());
                continue;
            }
            match self.step().expect("what is escaped") {
                'a' => into.push(7),
                'b' => into.push(8),
                'f' => into.push(12),
                'n' => into.push(b'\n'),
                'r' => into.push(b'\r'),
                't' => into.push(b'\t'),
                'v' => into.push(11),
                'x' | 'X' => into.push(self.number("", 16, 2) as u8),
                'u' => self.code_point(4, into),
                'U' => self.code_point(8, into),
                digit @ '0'..='7' => into.push(self.number(&digit.to_string(), 8, 3) as u8),
                same @ ('\\' | '\'' | '"' | '?') => into.push(same as u8),
                other => panic!("unknown escape {other}"),
            }
        }
    }

    fn step(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn number(&mut self, begin: &str, radix: u32, digits_max: usize) -> u32 {
        let mut digits = begin.to_owned();
        while digits.len() < digits_max && self.rest.starts_with(|c: char| c.is_digit(radix)) {
            digits.extend(self.step());
        }
        u32::from_str_radix(&digits, radix).expect("digits")
    }

    fn code_point(&mut self, digits: usize, into: &mut Vec<u8>) {
        let point = char::from_u32(self.number("", 16, digits)).expect("a character");
        into.extend(point.encode_utf8(&mut [0; 4]).bytes());
    }
}
