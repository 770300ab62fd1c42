//! `deltawatch dataflow graph NAME`: the operators as timely built them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::json;
use timely::logging::{TimelyEvent, TimelyEventBuilder};

use super::super::error::Failure;
use crate::dataflow::{BuildError, Dataflow, EngineSettings, Setup};
use crate::event::SchemaOutline;
use crate::metrics::Metrics;
use crate::operators::{EnginePlan, Images};
use crate::pipeline;
use crate::runtime::outlet::discard;
use crate::sink::port::Ports;

/// Operators by address, and channels between them.
#[derive(Debug, Default)]
struct Graph {
    operators: BTreeMap<Vec<usize>, String>,
    /// From address and port, to address and port.
    channels: Vec<(Vec<usize>, usize, Vec<usize>, usize)>,
}

/// The dataflow's graph, as dot or JSON.
pub fn graph(dataflow: Arc<dyn Dataflow>, setup: Setup, as_json: bool) -> Result<String, Failure> {
    let name = dataflow.name();
    let (graph, _) = built(dataflow, setup, EngineSettings::default())?;
    Ok(if as_json { graph.json() } else { graph.dot(name) })
}

/// Whether the dataflow can be built, said before any output is opened, and what the engine then keeps. Costs a few milliseconds.
pub fn check(dataflow: Arc<dyn Dataflow>, setup: Setup, settings: EngineSettings) -> Result<EnginePlan, BuildError> {
    let (version, features, schema) =
        (dataflow.version(), dataflow.features(&setup)?, SchemaOutline::of(&setup.schema));
    let (_, parts) = built(dataflow, setup, settings)?;
    Ok(EnginePlan { parts, columns: features.columns(), looked_up: features.looked_up(), version, schema })
}

/// The parts of what views keep, with their fingerprints.
type Parts = BTreeMap<String, u64>;

/// Builds the dataflow on one worker, without running it, and writes down what was built.
fn built(dataflow: Arc<dyn Dataflow>, setup: Setup, settings: EngineSettings) -> Result<(Graph, Parts), BuildError> {
    timely::execute_directly(move |worker| {
        let graph = Rc::new(RefCell::new(Graph::default()));
        let seen = graph.clone();
        if let Some(mut registry) = worker.log_register() {
            registry.insert::<TimelyEventBuilder, _>("timely", move |_, events| {
                let mut seen = seen.borrow_mut();
                events.iter().flatten().for_each(|(_, event)| seen.take(event));
            });
        }
        let nowhere = || discard();
        let ports = Ports {
            scored: Some(discard()),
            rejects: Some(discard()),
            features: None,
            collections: Some(Rc::new(nowhere)),
        };
        let metrics = Arc::new(Metrics::default());
        let images = Images::none(worker);
        let built = pipeline::build(worker, &*dataflow, &setup, &settings, ports, images.clone(), &metrics);
        // Dropping the handles ends the inputs, so the worker has nothing to do.
        built.map(drop)?;
        while worker.step() {}
        if let Some(mut registry) = worker.log_register() {
            // Flushes what is buffered.
            registry.remove("timely");
            registry.flush();
        }
        let graph = Rc::try_unwrap(graph).map(RefCell::into_inner).unwrap_or_else(|shared| shared.take());
        Ok::<_, BuildError>((graph, images.parts()))
    })
}

impl Graph {
    fn take(&mut self, event: &TimelyEvent) {
        match event {
            TimelyEvent::Operates(operates) => {
                self.operators.insert(operates.addr.clone(), operates.name.clone());
            }
            TimelyEvent::Channels(channel) => {
                let inside = |(index, port): (usize, usize)| {
                    let mut address = channel.scope_addr.clone();
                    // Index 0 is the scope's own boundary.
                    if index > 0 {
                        address.push(index);
                    }
                    (address, port)
                };
                let ((from, out), (to, into)) = (inside(channel.source), inside(channel.target));
                self.channels.push((from, out, to, into));
            }
            _ => {}
        }
    }

    fn json(&self) -> String {
        let operators: Vec<_> =
            self.operators.iter().map(|(address, name)| json!({"address": address, "name": name})).collect();
        let channels: Vec<_> = self
            .channels
            .iter()
            .map(|(from, out, to, into)| json!({"from": from, "output": out, "to": to, "input": into}))
            .collect();
        format!("{}\n", json!({"operators": operators, "channels": channels}))
    }

    fn dot(&self, name: &str) -> String {
        let node = |address: &[usize]| {
            let parts: Vec<String> = address.iter().map(usize::to_string).collect();
            format!("n{}", parts.join("_"))
        };
        let mut dot = format!("digraph \"{name}\" {{\n  node [shape=box, fontname=\"sans-serif\"];\n");
        // The dataflow itself has an address of one number: it is the page, not a box on it.
        for (address, operator) in self.operators.iter().filter(|(address, _)| address.len() > 1) {
            // Writing to a string cannot fail.
            let _ = writeln!(dot, "  {} [label=\"{}\"];", node(address), operator.replace('"', "'"));
        }
        for (from, _, to, _) in self.channels.iter().filter(|(from, _, to, _)| from.len() > 1 && to.len() > 1) {
            let _ = writeln!(dot, "  {} -> {};", node(from), node(to));
        }
        dot.push_str("}\n");
        dot
    }
}
