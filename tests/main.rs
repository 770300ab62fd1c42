//! The one test binary; a module per area.

mod decode;
mod files;
mod flows;
mod generator;
mod invariance;
mod handbook;
mod kafka;
mod models;
mod packs;
mod velocity;
