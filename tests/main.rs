//! The one test binary; a module per area.
#![allow(clippy::duplicate_mod, reason = "the packs are private to their folder: tests of packs alone read them again")]

mod arrangements;
mod backlog;
mod cases;
mod cli;
mod cluster;
mod dataflows;
mod decode;
mod enrich;
mod epoch;
mod evolve;
mod expiry;
mod family;
mod files;
mod flows;
mod generator;
mod handbook;
mod identity;
mod images;
mod invariance;
mod journal;
mod kafka;
mod lanes;
mod late;
mod models;
mod packs;
mod pattern;
mod planted;
mod readme;
mod resume;
mod scored;
mod simulation;
mod tidy;
mod velocity;
mod words;
mod workers;
