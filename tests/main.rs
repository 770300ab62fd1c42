//! The one test binary; a module per area.

mod decode;
mod files;
mod flows;
mod generator;
mod invariance;
mod kafka;
mod packs;
mod velocity;
mod models;
