//! Reports to the authority, bindings from it: two plain channels between the workers, beside the graph.

use std::rc::Rc;

use timely::communication::{Pull, Push};
use timely::dataflow::channels::Message;
use timely::progress::Stamp;
use timely::worker::Worker;

use crate::epoch::{Binding, Report};

type Letter<D> = Message<u64, Vec<D>>;

/// One worker's ends of the two channels.
pub struct Coordinator {
    reports_out: Vec<Box<dyn Push<Letter<Report>>>>,
    reports_in: Box<dyn Pull<Letter<Report>>>,
    bindings_out: Vec<Box<dyn Push<Letter<Binding>>>>,
    bindings_in: Box<dyn Pull<Letter<Binding>>>,
}

impl Coordinator {
    /// Must be called by every worker, at the same place in its set-up.
    pub fn new(worker: &Worker) -> Self {
        let address: Rc<[usize]> = Rc::from(vec![usize::MAX]);
        let (reports_out, reports_in) = worker.allocate(worker.new_identifier(), address.clone());
        let (bindings_out, bindings_in) = worker.allocate(worker.new_identifier(), address);
        Coordinator { reports_out, reports_in, bindings_out, bindings_in }
    }

    /// Sends a report to the authority.
    pub fn report(&mut self, report: Report) {
        send(&mut self.reports_out[0], report);
    }

    /// Reports that have come in; only the authority gets any.
    pub fn reports(&mut self) -> Vec<Report> {
        receive(&mut self.reports_in)
    }

    /// Sends a binding to every worker, the authority's own included.
    pub fn publish(&mut self, binding: &Binding) {
        for worker in &mut self.bindings_out {
            send(worker, binding.clone());
        }
    }

    /// Bindings that have come in, in order.
    pub fn bindings(&mut self) -> Vec<Binding> {
        receive(&mut self.bindings_in)
    }
}

fn send<D>(to: &mut Box<dyn Push<Letter<D>>>, item: D) {
    to.push(&mut Some(Message::new(Stamp::from_elem(0), vec![item])));
    // An empty push flushes the channel.
    to.push(&mut None);
}

fn receive<D>(from: &mut Box<dyn Pull<Letter<D>>>) -> Vec<D> {
    std::iter::from_fn(|| from.recv()).flat_map(|letter| letter.data).collect()
}
