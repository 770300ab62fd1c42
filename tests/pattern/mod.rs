//! Event patterns: the engine against the definition, the language's errors, state that returns to zero.

mod cycles;
mod errors;
mod fanin;
mod features;
mod feed;
mod flow;
mod image;
mod planted;
mod random;
mod semantics;
mod shipped;
mod sides;
mod skips;
mod state;
