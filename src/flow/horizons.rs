//! How long events are kept, and how long rows are revised.

/// How long events are kept by id, and how late one may be, milliseconds of event time.
#[derive(Clone, Copy, Debug)]
pub struct Horizons {
    /// An event further behind the watermark than this is not taken in.
    pub late_ms: i64,
    /// Events are kept by id for this long behind the watermark: at least `read_ms`.
    pub by_id_ms: i64,
    /// Rows may be read again for this long behind the watermark: `late_ms` plus the longest revise horizon.
    pub read_ms: i64,
}
