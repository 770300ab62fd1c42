//! The one test binary; a module per area.

mod generator;
mod kafka;
mod models;
mod packs;
