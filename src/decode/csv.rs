//! CSV records: columns by the header of their file, quoting as in RFC 4180 and the csv crate.

use std::sync::Arc;

use super::paths::{Target, targets};
use super::row::{Fault, Row};
use super::value::Scalar;
use crate::event::{Columns, CsvHeader, FieldType, Schema};
use crate::flow::RejectReason;

/// Reads CSV records; keeps what each header means.
#[derive(Debug, Default)]
pub(super) struct CsvReader {
    columns: Columns,
    headers: Vec<(Arc<CsvHeader>, Arc<CsvLayout>)>,
}

/// What the columns of a header are read by.
#[derive(Debug)]
struct CsvLayout {
    readers: Vec<(usize, Target)>,
    unknown: u64,
}

/// How many headers are remembered; one per file is usual.
const HEADERS_MAX: usize = 64;

impl CsvReader {
    /// Reads a record into `row`; raises `unknown` by the number of columns outside the schema.
    pub fn read(
        &mut self,
        header: &Arc<CsvHeader>,
        line: &[u8],
        schema: &Schema,
        row: &mut Row,
        unknown: &mut u64,
    ) -> Result<(), Fault> {
        if line.trim_ascii().is_empty() {
            return Err(Fault::new(RejectReason::Empty, "the record is empty"));
        }
        self.columns.split(line, header.separator()).map_err(|message| Fault::new(RejectReason::Malformed, message))?;
        if self.columns.len() != header.columns().len() {
            let (found, wanted) = (self.columns.len(), header.columns().len());
            let message = format!("has {found} columns where the header has {wanted}");
            return Err(Fault::new(RejectReason::Malformed, message));
        }
        let layout = self.layout(header, schema);
        *unknown += layout.unknown;
        for (column, target) in &layout.readers {
            match self.columns.get(*column) {
                "" => row.put(*target, Scalar::Null),
                // Files with semicolons are written where a comma stands in numbers.
                text if header.separator() == b';' && text.contains(',') && is_fraction(schema, *target) => {
                    let plain = with_decimal_comma(text);
                    row.put(*target, Scalar::Text(plain.as_deref().unwrap_or(text)));
                }
                text => row.put(*target, Scalar::Text(text)),
            }
        }
        Ok(())
    }

    fn layout(&mut self, header: &Arc<CsvHeader>, schema: &Schema) -> Arc<CsvLayout> {
        if let Some((_, layout)) = self.headers.iter().find(|(known, _)| Arc::ptr_eq(known, header)) {
            return layout.clone();
        }
        let readers: Vec<(usize, Target)> = header
            .columns()
            .iter()
            .enumerate()
            .flat_map(|(index, name)| {
                targets(schema).filter(move |(path, _)| path == name).map(move |(_, target)| (index, target))
            })
            .collect();
        let unknown =
            (0..header.columns().len()).filter(|column| readers.iter().all(|(read, _)| read != column)).count();
        let layout = Arc::new(CsvLayout { readers, unknown: unknown as u64 });
        if self.headers.len() == HEADERS_MAX {
            self.headers.clear();
        }
        self.headers.push((header.clone(), layout.clone()));
        layout
    }
}

/// Whether a field's numbers have digits after the point.
fn is_fraction(schema: &Schema, target: Target) -> bool {
    matches!(schema.field(target.slot).kind, FieldType::Decimal | FieldType::Float)
}

/// `1.234,50` as `1234.50`; `None` if it is not written like this.
fn with_decimal_comma(text: &str) -> Option<String> {
    let (whole, fraction) = text.split_once(',')?;
    let mut groups = whole.split('.');
    let first = groups.next()?;
    let grouped = groups.all(|group| group.len() == 3) && !fraction.contains(['.', ',']);
    let short = !whole.contains('.') || first.trim_start_matches(['-', '+']).len() <= 3;
    (grouped && short).then(|| format!("{}.{fraction}", whole.replace('.', "")))
}
