//! The one test binary; a module per area.

mod cli;
mod decode;
mod files;
mod generator;
mod handbook;
mod kafka;
mod models;
mod packs;
mod velocity;
