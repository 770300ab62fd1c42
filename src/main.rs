//! The `deltawatch` binary: the command line over the dataflows of this repository.

use std::process::ExitCode;

#[path = "../dataflows/mod.rs"]
mod dataflows;

/// Every event and row is a few small allocations, made on one thread and often freed on another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    deltawatch::runtime::memory::keep_freed();
    deltawatch::cli::main(&dataflows::all())
}
