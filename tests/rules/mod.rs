//! Rules: the language against its conformance cases, lowered programs against an interpreter, and what is hostile.

mod conformance;
mod hostile;
mod listed;
mod lists;
mod oracle;
mod textproto;
