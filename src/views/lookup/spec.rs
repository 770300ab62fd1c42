//! The spec of one look-up: what a researcher writes down, by field name.
//!
//! ```
//! use deltawatch::source::tables::Reference;
//! use deltawatch::views::lookup::Enrich;
//! let declared = r#"
//!     [[reference]]
//!     name = "merchants"
//!     key = "merchant"
//!     field = [ { name = "merchant", type = "text" }, { name = "risk", type = "float" },
//!               { name = "tier", type = "text" } ]
//! "#;
//! let merchants = Reference::named(declared, "merchants").unwrap();
//! let look_up = Enrich::of("merchant", &["merchant"], merchants)
//!     .number("risk").or(0.5)                     // merchant_risk
//!     .category("tier", &["gold", "silver"])      // merchant_tier: 1, 2, or 0 for any other
//!     .known();                                   // merchant_known: 1 or 0
//! assert_eq!(look_up.column_names(), ["merchant_risk", "merchant_tier", "merchant_known"]);
//! ```

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::source::tables::{Reference, ReferenceKind};
use crate::views::velocity::{REVISE_MS_DEFAULT, REVISE_MS_HOT};

/// The look-up of one reference by one key of the event.
#[derive(Clone, Debug, PartialEq)]
pub struct Enrich {
    pub(super) name: String,
    pub(super) fields: Vec<String>,
    pub(super) reference: Arc<Reference>,
    pub(super) columns: Vec<EnrichColumn>,
    pub(super) prefix: Option<usize>,
    pub(super) live: bool,
    pub(super) revise_ms: i64,
}

/// One column of a look-up.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EnrichColumn {
    pub name: String,
    pub field: Option<String>,
    pub pick: Picked,
    pub default: Option<f64>,
}

/// What a column makes of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Picked {
    Number,
    Code,
    Category(Vec<String>),
    OneHot(String),
    Known,
}

impl Enrich {
    /// Looks up `reference` by the event's field, or by a pair of fields. `name` begins the names of all columns.
    pub fn of(name: &str, fields: &[&str], reference: Arc<Reference>) -> Self {
        let live = matches!(reference.kind(), ReferenceKind::Service(_));
        Enrich {
            name: name.to_owned(),
            fields: fields.iter().map(|&field| field.to_owned()).collect(),
            reference,
            columns: Vec::new(),
            prefix: None,
            // The answer of a service that comes after the budget revises.
            live,
            revise_ms: REVISE_MS_DEFAULT,
        }
    }

    /// Adds a number, boolean (0 or 1) or time (milliseconds): column `NAME_FIELD`.
    pub fn number(self, field: &str) -> Self {
        let name = format!("{}_{field}", self.name);
        self.with(name, Some(field), Picked::Number)
    }

    /// Adds a text as a stable code: 52 bits of its hash, for models that only compare. Column `NAME_FIELD`.
    pub fn code(self, field: &str) -> Self {
        let name = format!("{}_{field}", self.name);
        self.with(name, Some(field), Picked::Code)
    }

    /// Adds a text as its place in a list, from 1; 0 for any other text. Column `NAME_FIELD`.
    pub fn category(self, field: &str, values: &[&str]) -> Self {
        let name = format!("{}_{field}", self.name);
        let values = values.iter().map(|&value| value.to_owned()).collect();
        self.with(name, Some(field), Picked::Category(values))
    }

    /// Adds a column `NAME_FIELD_VALUE` for each value: 1 where the text is that value, else 0.
    pub fn one_hot(self, field: &str, values: &[&str]) -> Self {
        values.iter().fold(self, |look_up, value| {
            let name = format!("{}_{field}_{value}", look_up.name);
            look_up.with(name, Some(field), Picked::OneHot((*value).to_owned()))
        })
    }

    /// Adds whether there is a row: 1 or 0. What a list (sanctions, blocked cards) is asked. Column `NAME_known`.
    pub fn known(self) -> Self {
        let name = format!("{}_known", self.name);
        self.with(name, None, Picked::Known)
    }

    /// The value of the column added last where there is no row, or no value in it. Else it is the field's own default,
    /// or missing.
    pub fn or(mut self, default: f64) -> Self {
        if let Some(column) = self.columns.last_mut() {
            column.default = Some(default);
        }
        self
    }

    /// Another name for the column added last.
    pub fn named(mut self, name: &str) -> Self {
        if let Some(column) = self.columns.last_mut() {
            name.clone_into(&mut column.name);
        }
        self
    }

    /// Looks up by the first so many characters of the field (a card's BIN).
    pub fn prefix(mut self, characters: usize) -> Self {
        self.prefix = Some(characters);
        self
    }

    /// A live join: when the row changes, transactions that looked at it are revised, as long as they are younger than
    /// the revise horizon. The default is a look-up as of arrival, which is never revised.
    pub fn live(mut self) -> Self {
        self.live = true;
        self
    }

    /// A live join on a key that many events share: transactions are revised for ten minutes only.
    pub fn hot(mut self) -> Self {
        self.revise_ms = REVISE_MS_HOT;
        self
    }

    /// The reference that is looked at.
    pub fn reference(&self) -> &Arc<Reference> {
        &self.reference
    }

    /// The names of its columns, in order.
    pub fn column_names(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.name.clone()).collect()
    }

    /// The number that reference records name the look-up by: shared by all look-ups of one collection; a service
    /// answers each look-up on its own.
    pub fn tag(&self) -> u64 {
        let (name, reference) = (&self.name, self.reference.name());
        match self.reference.kind() {
            ReferenceKind::Service(_) => xxh3_64(format!("{name} asks {reference}").as_bytes()),
            ReferenceKind::Table | ReferenceKind::Networks => xxh3_64(reference.as_bytes()),
        }
    }

    fn with(mut self, name: String, field: Option<&str>, pick: Picked) -> Self {
        self.columns.push(EnrichColumn { name, field: field.map(str::to_owned), pick, default: None });
        self
    }
}
