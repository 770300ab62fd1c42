//! From an expression of the Common Expression Language (CEL) to a [`program`](super::program): names are resolved to slots and types
//! are checked, so what is wrong is said once, with its position.
//!
//! | in CEL | what it is |
//! | --- | --- |
//! | `NAME`, `features.NAME` | a feature: `double` |
//! | `event.NAME`, or `NAME` where no feature is called so | a field of the event: text `string`, int `int`, time `int` (milliseconds), float and decimal `double` (decimals in whole units), bool `bool` |
//! | `score`, `kind` | the champion's score (`double`), the kind of the event (`string`) |
//! | `== != < <= > >=` | of one type, or of two numbers |
//! | `+ - * /`, `%` | of two numbers of one type (`%`: of ints); `+` joins strings, too |
//! | `&& \|\| ! ?:`, `in [...]` | a list holds constants of one type |
//! | `X in NAME` | whether a `string` is on the [list](crate::score::lists) of this name at the event's time, or an `int`, as its decimals |
//! | `has(event.NAME)`, `has(features.NAME)`, `is_missing(X)` | whether something is there |
//! | `contains startsWith endsWith matches size int double string` | as in CEL; `matches` takes a constant pattern |
//!
//! A list is named behind `in` only, and no list has the name of a feature or a field there; elsewhere such a name is that of the
//! feature or field. What is missing is on no list.
//!
//! The rest of the language is refused: unsigned ints, bytes, null, maps, messages, loops (`all`, `exists`, `map`, `filter`), times and
//! durations as types of their own.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use cel::Env;
use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, SourceInfo, operators};

use super::program::{Arithmetic, Bool, Comparison, Double, Int, Pair, Text, Typed};
use crate::event::{FieldType, Schema, nearest};
use crate::score::lists::Lists;

mod calls;
mod depth;

/// The longest source, bytes: parsing takes time in proportion, and analysts read it.
const SOURCE_BYTES_MAX: usize = 16 << 10;

/// How deep expressions may be nested. What is as deep takes less than half a megabyte of stack; threads have two.
const DEPTH_MAX: u16 = 48;

const NO_LOOPS: &str = "loops (all, exists, exists_one, map, filter) are not supported";

/// Functions, for hints.
const FUNCTIONS: [&str; 11] =
    ["is_missing", "size", "int", "double", "string", "bool", "has", "contains", "startsWith", "endsWith", "matches"];

/// Characters of what is wrong that are repeated in a message.
const REPEATED_MAX: usize = 80;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {reason}")]
pub struct ExpressionError {
    /// Counted from 1.
    pub line: usize,
    /// Characters, counted from 1.
    pub column: usize,
    /// What is wrong, and how to mend it.
    pub reason: String,
}

/// The names that expressions may use.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    schema: &'a Schema,
    columns: HashMap<&'a str, u16>,
    lists: Option<&'a Lists>,
}

impl<'a> Scope<'a> {
    /// The fields of a schema and the columns of feature rows.
    pub fn new(schema: &'a Schema, columns: &'a [String]) -> Self {
        let columns = columns.iter().enumerate().map(|(column, name)| (&**name, column as u16)).collect();
        Scope { schema, columns, lists: None }
    }

    /// And these lists.
    pub fn with_lists(self, lists: &'a Lists) -> Self {
        Scope { lists: Some(lists), ..self }
    }
}

/// Parses, checks and lowers an expression; and the numbers of the lists that it looks into.
pub(super) fn check(source: &str, scope: &Scope<'_>) -> Result<(Typed, BTreeSet<u32>), ExpressionError> {
    let at_begin = |reason: String| ExpressionError { line: 1, column: 1, reason };
    if source.len() > SOURCE_BYTES_MAX {
        return Err(at_begin(format!("has {} bytes, and {SOURCE_BYTES_MAX} at most are allowed", source.len())));
    }
    depth::check(source)?;
    // Without the standard macros: loops are refused as they are written, and `has` keeps its position.
    let parser = Env::default().parser().enable_optional_syntax(false);
    let parser = parser.max_recursion_depth(DEPTH_MAX).error_recovery_limit(1);
    let (expression, info) = parser.parse_with_source_info(source).map_err(|errors| {
        let Some(first) = errors.errors.first() else { return at_begin("is no expression".into()) };
        let (line, column) = (first.pos.0.max(1) as usize, first.pos.1.max(1) as usize);
        ExpressionError { line, column, reason: syntax(&first.msg) }
    })?;
    let checker = Checker { scope, info: &info, source, lists: RefCell::default() };
    let typed = checker.typed(&expression)?;
    Ok((typed, checker.lists.into_inner()))
}

/// What the parser says, on a line: without all that might stand there instead.
fn syntax(said: &str) -> String {
    if said.contains("mismatched input '<EOF>'") {
        return "ends too early: something is missing here".to_owned();
    }
    if said.starts_with("invalid string literal") {
        return "this string has an escape that is no character".to_owned();
    }
    let said = said.split(" expecting ").next().unwrap_or_default();
    let said =
        said.strip_prefix("Syntax error: ").map_or_else(|| said.to_owned(), |what| format!("syntax error: {what}"));
    shortened(&said)
}

/// The begin of a text that may be long and hold what is no line.
fn shortened(text: &str) -> String {
    let mut begin: String = text
        .chars()
        .take(REPEATED_MAX)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(REPEATED_MAX).is_some() {
        begin.push_str("...");
    }
    begin
}

struct Checker<'a> {
    scope: &'a Scope<'a>,
    info: &'a SourceInfo,
    source: &'a str,
    /// Numbers of the lists that were named.
    lists: RefCell<BTreeSet<u32>>,
}

type Checked<T = Typed> = Result<T, ExpressionError>;

impl Checker<'_> {
    fn refuse<T>(&self, at: &IdedExpr, reason: impl Into<String>) -> Checked<T> {
        // Offsets are counted in bytes.
        let offset = self.info.offset_for(at.id).map_or(0, |(start, _)| start as usize);
        let before = self.source.get(..offset).unwrap_or(self.source);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&character| character != '\n').count() + 1;
        Err(ExpressionError { line, column, reason: reason.into() })
    }

    fn typed(&self, at: &IdedExpr) -> Checked {
        match &at.expr {
            Expr::Literal(literal) => self.literal(at, literal),
            Expr::Ident(name) => self.name(at, name),
            Expr::Select(select) => self.select(at, select),
            Expr::Call(call) => self.call(at, call),
            Expr::List(_) => self.refuse(at, "a list stands behind `in` only"),
            Expr::Comprehension(_) => self.refuse(at, NO_LOOPS),
            Expr::Map(_) => self.refuse(at, "maps are not supported"),
            Expr::Struct(_) => self.refuse(at, "messages are not supported"),
            Expr::Unspecified => self.refuse(at, "is no expression"),
        }
    }

    fn literal(&self, at: &IdedExpr, literal: &LiteralValue) -> Checked {
        Ok(match literal {
            LiteralValue::Boolean(value) => Typed::Bool(Bool::Const(*value.inner())),
            LiteralValue::Int(value) => Typed::Int(Int::Const(*value.inner())),
            LiteralValue::Double(value) => Typed::Double(Double::Const(*value.inner())),
            LiteralValue::String(value) => Typed::Text(Text::Const(value.inner().into())),
            LiteralValue::UInt(_) => return self.refuse(at, "unsigned ints are not supported: leave out the u"),
            LiteralValue::Bytes(_) => return self.refuse(at, "bytes are not supported: leave out the b"),
            LiteralValue::Null => return self.refuse(at, "null is not supported: ask is_missing(X) or has(event.X)"),
        })
    }

    fn name(&self, at: &IdedExpr, name: &str) -> Checked {
        match (name, self.scope.columns.get(name), self.scope.schema.slot(name)) {
            ("score", None, None) => Ok(Typed::Double(Double::Score)),
            ("kind", None, None) => Ok(Typed::Text(Text::Kind)),
            (_, Some(_), Some(_)) => {
                self.refuse(at, format!("`{name}` is a feature and a field: write features.{name} or event.{name}"))
            }
            (_, Some(&column), None) => Ok(Typed::Double(Double::Column(column))),
            (_, None, Some(_)) => self.field(at, name),
            (_, None, None) if self.list(name).is_some() => {
                self.refuse(at, format!("`{name}` is a list, and a list stands behind `in` only"))
            }
            (_, None, None) => {
                let fields = self.scope.schema.fields().iter().map(|field| &*field.name);
                let known = self.scope.columns.keys().copied().chain(fields).chain(["score", "kind"]);
                self.unknown(at, "no feature and no field of the event", name, known)
            }
        }
    }

    fn unknown<'a, T>(
        &self,
        at: &IdedExpr,
        what: &str,
        name: &str,
        known: impl Iterator<Item = &'a str>,
    ) -> Checked<T> {
        let name = shortened(name);
        let hint = nearest(&name, known).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        self.refuse(at, format!("{what} is called `{name}`{hint}"))
    }

    fn field(&self, at: &IdedExpr, name: &str) -> Checked {
        let schema = self.scope.schema;
        let Some(slot) = schema.slot(name) else {
            let known = schema.fields().iter().map(|field| &*field.name);
            return self.unknown(at, "no field of the event", name, known);
        };
        let field = schema.field(slot);
        Ok(match field.kind {
            FieldType::Text => Typed::Text(Text::Field(slot)),
            FieldType::Int | FieldType::Time => Typed::Int(Int::Field(slot)),
            FieldType::Bool => Typed::Bool(Bool::Field(slot)),
            FieldType::Float => Typed::Double(Double::Field(slot)),
            FieldType::Decimal => Typed::Double(Double::Decimal(slot, 10_f64.powi(i32::from(field.scale)))),
        })
    }

    fn column(&self, at: &IdedExpr, name: &str) -> Checked<u16> {
        match self.scope.columns.get(name) {
            Some(&column) => Ok(column),
            None => self.unknown(at, "no feature", name, self.scope.columns.keys().copied()),
        }
    }

    fn select(&self, at: &IdedExpr, select: &SelectExpr) -> Checked {
        let Expr::Ident(of) = &select.operand.expr else {
            return self.refuse(at, "only event.NAME and features.NAME have a dot");
        };
        match &**of {
            "event" => self.field(at, &select.field),
            "features" => self.column(at, &select.field).map(|column| Typed::Double(Double::Column(column))),
            _ => {
                let of = shortened(of);
                self.refuse(at, format!("`{of}` has no parts: only event.NAME and features.NAME have a dot"))
            }
        }
    }

    fn has(&self, at: &IdedExpr) -> Checked {
        let of = match &at.expr {
            Expr::Select(SelectExpr { operand, field, .. }) => match &operand.expr {
                Expr::Ident(of) => Some((&**of, &**field)),
                _ => None,
            },
            _ => None,
        };
        match of {
            Some(("features", name)) => self.column(at, name).map(|column| Typed::Bool(Bool::HasColumn(column))),
            Some(("event", name)) => {
                self.field(at, name)?;
                let slot = self.scope.schema.slot(name);
                Ok(Typed::Bool(slot.map_or(Bool::Const(false), Bool::HasField)))
            }
            _ => self.refuse(at, "has() takes event.NAME or features.NAME"),
        }
    }

    fn call(&self, at: &IdedExpr, call: &CallExpr) -> Checked {
        let CallExpr { func_name, target, args } = call;
        match (&**func_name, target.as_deref(), args.as_slice()) {
            (operators::LOGICAL_AND, None, all) => Ok(Typed::Bool(Bool::And(self.bools(all, "&&")?))),
            (operators::LOGICAL_OR, None, any) => Ok(Typed::Bool(Bool::Or(self.bools(any, "||")?))),
            (operators::LOGICAL_NOT, None, [inner]) => Ok(Typed::Bool(Bool::Not(Box::new(self.bool(inner, "!")?)))),
            (operators::NEGATE, None, [inner]) => match self.typed(inner)? {
                Typed::Int(inner) => Ok(Typed::Int(Int::Negate(Box::new(inner)))),
                Typed::Double(inner) => Ok(Typed::Double(Double::Negate(Box::new(inner)))),
                other => self.refuse(at, format!("there is no - of {}", other.one())),
            },
            (operators::CONDITIONAL, None, [when, one, other]) => self.conditional(at, when, one, other),
            (operators::IN, None, [value, list]) => self.among(at, value, list),
            ("has", None, [inner]) => self.has(inner),
            ("is_missing", None, [inner]) => Ok(Typed::Bool(Bool::Missing(Box::new(self.typed(inner)?)))),
            ("size", None, [inner]) | ("size", Some(inner), []) => match self.typed(inner)? {
                Typed::Text(text) => Ok(Typed::Int(Int::Length(Box::new(text)))),
                other => self.refuse(at, format!("there is no size of {}", other.one())),
            },
            ("int" | "double" | "string" | "bool", None, [inner]) => self.convert(at, func_name, inner),
            ("contains" | "startsWith" | "endsWith" | "matches", Some(text), [part]) => {
                self.search(at, func_name, text, part)
            }
            ("matches", None, [text, part]) => self.search(at, func_name, text, part),
            (_, None, [one, other]) if comparison(func_name).is_some() => self.compare(at, func_name, one, other),
            (_, None, [one, other]) if arithmetic(func_name).is_some() => self.compute(at, func_name, one, other),
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, ..) => {
                self.refuse(at, "lists and maps have no [] here")
            }
            ("all" | "exists" | "exists_one" | "map" | "filter", Some(_), _) => self.refuse(at, NO_LOOPS),
            (name, ..) if FUNCTIONS.contains(&name) => self.refuse(at, format!("{name} is not called like this")),
            _ => self.unknown(at, "no function", func_name, FUNCTIONS.into_iter()),
        }
    }

    fn bool(&self, at: &IdedExpr, of: &str) -> Checked<Bool> {
        match self.typed(at)? {
            Typed::Bool(value) => Ok(value),
            other => self.refuse(at, format!("{of} takes a bool, and this is {}", other.one())),
        }
    }

    /// What is joined by one operator; its chains are one level deep.
    fn bools(&self, parts: &[IdedExpr], of: &str) -> Checked<Vec<Bool>> {
        let mut bools = Vec::with_capacity(parts.len());
        for part in parts {
            match (self.bool(part, of)?, of) {
                (Bool::And(mut inner), "&&") | (Bool::Or(mut inner), "||") => bools.append(&mut inner),
                (one, _) => bools.push(one),
            }
        }
        Ok(bools)
    }

    fn conditional(&self, at: &IdedExpr, when: &IdedExpr, one: &IdedExpr, other: &IdedExpr) -> Checked {
        let when = self.bool(when, "?:")?;
        Ok(match (self.typed(one)?, self.typed(other)?) {
            (Typed::Bool(one), Typed::Bool(other)) => Typed::Bool(Bool::If(Box::new((when, one, other)))),
            (Typed::Int(one), Typed::Int(other)) => Typed::Int(Int::If(Box::new((when, one, other)))),
            (Typed::Double(one), Typed::Double(other)) => Typed::Double(Double::If(Box::new((when, one, other)))),
            (Typed::Text(one), Typed::Text(other)) => Typed::Text(Text::If(Box::new((when, one, other)))),
            (one, other) => {
                return self.refuse(at, format!("the two sides of ?: are {} and {}", one.one(), other.one()));
            }
        })
    }

    fn compare(&self, at: &IdedExpr, operator: &str, one: &IdedExpr, other: &IdedExpr) -> Checked {
        let Some(mut comparison) = comparison(operator) else { return self.refuse(at, "is no comparison") };
        let pair = match (self.typed(one)?, self.typed(other)?) {
            (Typed::Double(one), Typed::Int(Int::Const(other))) if is_exact(other) => {
                Pair::Doubles(one, Double::Const(other as f64))
            }
            (Typed::Int(Int::Const(one)), Typed::Double(other)) if is_exact(one) => {
                Pair::Doubles(Double::Const(one as f64), other)
            }
            (Typed::Double(one), Typed::Int(other)) => {
                comparison = comparison.turned();
                Pair::IntAndDouble(other, one)
            }
            (Typed::Int(one), Typed::Double(other)) => Pair::IntAndDouble(one, other),
            (Typed::Bool(one), Typed::Bool(other)) => Pair::Bools(one, other),
            (Typed::Int(one), Typed::Int(other)) => Pair::Ints(one, other),
            (Typed::Double(one), Typed::Double(other)) => Pair::Doubles(one, other),
            (Typed::Text(one), Typed::Text(other)) => Pair::Texts(one, other),
            (one, other) => {
                return self.refuse(at, format!("{} is not compared with {}", one.one(), other.one()));
            }
        };
        Ok(Typed::Bool(Bool::compare(comparison, pair)))
    }

    fn compute(&self, at: &IdedExpr, operator: &str, one: &IdedExpr, other: &IdedExpr) -> Checked {
        let Some(operation) = arithmetic(operator) else { return self.refuse(at, "is no arithmetic") };
        Ok(match (self.typed(one)?, self.typed(other)?) {
            (Typed::Int(one), Typed::Int(other)) => Typed::Int(Int::Arithmetic(operation, Box::new((one, other)))),
            (Typed::Double(one), Typed::Double(other)) if operation != Arithmetic::Remainder => {
                Typed::Double(Double::Arithmetic(operation, Box::new((one, other))))
            }
            (Typed::Text(one), Typed::Text(other)) if operation == Arithmetic::Add => {
                Typed::Text(Text::Concat(Box::new((one, other))))
            }
            (one, other) => {
                let hint = match (&one, &other) {
                    (Typed::Double(_), Typed::Int(Int::Const(value)))
                    | (Typed::Int(Int::Const(value)), Typed::Double(_)) => format!(": write {value}.0"),
                    (Typed::Double(_), Typed::Int(_)) | (Typed::Int(_), Typed::Double(_)) => {
                        ": write double(X) around the int".to_owned()
                    }
                    _ => String::new(),
                };
                let (one, other, sign) = (one.name(), other.name(), operator.trim_matches('_'));
                return self.refuse(at, format!("there is no {one} {sign} {other}{hint}"));
            }
        })
    }
}

/// Whether a double is exactly this.
fn is_exact(int: i64) -> bool {
    int.unsigned_abs() <= 1 << f64::MANTISSA_DIGITS
}

fn comparison(operator: &str) -> Option<Comparison> {
    Some(match operator {
        operators::EQUALS => Comparison::Equal,
        operators::NOT_EQUALS => Comparison::NotEqual,
        operators::LESS => Comparison::Less,
        operators::LESS_EQUALS => Comparison::LessOrEqual,
        operators::GREATER => Comparison::Greater,
        operators::GREATER_EQUALS => Comparison::GreaterOrEqual,
        _ => return None,
    })
}

fn arithmetic(operator: &str) -> Option<Arithmetic> {
    Some(match operator {
        operators::ADD => Arithmetic::Add,
        operators::SUBSTRACT => Arithmetic::Subtract,
        operators::MULTIPLY => Arithmetic::Multiply,
        operators::DIVIDE => Arithmetic::Divide,
        operators::MODULO => Arithmetic::Remainder,
        _ => return None,
    })
}

impl Typed {
    /// The type, as CEL calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Typed::Bool(_) => "bool",
            Typed::Int(_) => "int",
            Typed::Double(_) => "double",
            Typed::Text(_) => "string",
        }
    }

    /// One of the type.
    pub fn one(&self) -> &'static str {
        match self {
            Typed::Bool(_) => "a bool",
            Typed::Int(_) => "an int",
            Typed::Double(_) => "a double",
            Typed::Text(_) => "a string",
        }
    }
}
