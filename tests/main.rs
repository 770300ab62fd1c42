//! The one test binary; a module per area.

mod cli;
mod decode;
mod files;
mod flows;
mod generator;
mod handbook;
mod invariance;
mod kafka;
mod models;
mod packs;
mod velocity;
