//! The one test binary; a module per area.

mod generator;
mod kafka;
mod packs;
mod decode;
mod files;
mod velocity;
