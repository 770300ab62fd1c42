//! The one test binary; a module per area.

mod decode;
mod files;
mod generator;
mod kafka;
mod packs;
mod velocity;
mod models;
