//! Benchmarks: each prints its figures beside a reference measured in the same run.
//!
//! `cargo bench` runs all of them, `cargo bench -- w1 w2` some, `cargo bench -- --quick` each on a small share of its input
//! (for CI: it shows that they run, not how fast).

mod catch_up;
#[path = "../dataflows/mod.rs"]
mod dataflows;
mod drive;
mod hot;
mod identity;
mod kafka;
mod latency;
mod memory;
mod pack;
mod patterns;
mod propagate;
mod reference;
mod rings;
mod rules;
mod scoring;
mod state;
mod workers;
mod workloads;

use std::sync::{Arc, LazyLock};

use deltawatch::dataflow::Dataflow;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A shipped dataflow.
fn dataflow(name: &str) -> &'static dyn Dataflow {
    static ALL: LazyLock<Vec<Arc<dyn Dataflow>>> = LazyLock::new(dataflows::all);
    &**ALL.iter().find(|dataflow| dataflow.name() == name).expect("a shipped dataflow")
}

/// A benchmark by name. `share` is the part of its input to take.
type Bench = (&'static str, fn(share: f64));

const BENCHES: [Bench; 23] = [
    ("w1", workloads::w1),
    ("w2", workloads::w2),
    ("w3", identity::w3),
    ("rings", rings::rings),
    ("quality", rings::quality),
    ("links", identity::links),
    ("image", identity::image),
    ("propagate", propagate::propagation),
    ("ingest", pack::ingest),
    ("pack", pack::pack),
    ("latency", latency::latency),
    ("hot", hot::hot),
    ("rules", rules::rules),
    ("scoring", scoring::scoring),
    ("memory", memory::memory),
    ("workers", workers::workers),
    ("kafka", kafka::kafka),
    ("state", state::state),
    ("codec", state::codec),
    ("catch_up", catch_up::catch_up),
    ("patterns", patterns::patterns),
    ("patterns_each", patterns::each),
    ("patterns_features", patterns::features),
];

fn main() {
    deltawatch::runtime::memory::keep_freed();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [flag, name, share] = &arguments[..]
        && flag == "--memory-of"
    {
        return memory::of(name, share.parse().expect("a share"));
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let chosen: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    for (name, bench) in BENCHES {
        if chosen.is_empty() || chosen.iter().any(|chosen| *chosen == name) {
            bench(if quick { 0.02 } else { 1.0 });
        }
    }
}
