//! Reports to the authority, its word to the workers: two plain channels between the workers, beside the graph.

use std::rc::Rc;

use timely::communication::{Pull, Push};
use timely::dataflow::channels::Message;
use timely::progress::Stamp;
use timely::worker::Worker;

use crate::flow::{Report, Word};

type Letter<D> = Message<u64, Vec<D>>;

/// One worker's ends of the two channels.
pub struct Coordinator {
    reports_out: Vec<Box<dyn Push<Letter<Report>>>>,
    reports_in: Box<dyn Pull<Letter<Report>>>,
    words_out: Vec<Box<dyn Push<Letter<Word>>>>,
    words_in: Box<dyn Pull<Letter<Word>>>,
}

impl Coordinator {
    /// Must be called by every worker, at the same place in its set-up.
    pub fn new(worker: &Worker) -> Self {
        let address: Rc<[usize]> = Rc::from(vec![usize::MAX]);
        let (reports_out, reports_in) = worker.allocate(worker.new_identifier(), address.clone());
        let (words_out, words_in) = worker.allocate(worker.new_identifier(), address);
        Coordinator { reports_out, reports_in, words_out, words_in }
    }

    /// Sends a report to the authority.
    pub fn report(&mut self, report: Report) {
        send(&mut self.reports_out[0], report);
    }

    /// Reports that have come in; only the authority gets any.
    pub fn reports(&mut self) -> Vec<Report> {
        receive(&mut self.reports_in)
    }

    /// Tells every worker, the authority's own included.
    pub fn publish(&mut self, word: &Word) {
        for worker in &mut self.words_out {
            send(worker, word.clone());
        }
    }

    /// What the authority has said, in order.
    pub fn words(&mut self) -> Vec<Word> {
        receive(&mut self.words_in)
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
