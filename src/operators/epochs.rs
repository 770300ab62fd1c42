//! Input collected by epoch until the frontier has passed it.

use std::collections::BTreeMap;

use timely::dataflow::operators::{Capability, InputCapability};
use timely::progress::frontier::MutableAntichain;

/// What an operator has received for each open epoch, with one capability per output.
///
/// An operator that must see the whole of an epoch before it acts puts what arrives here, and takes the epochs out, in
/// order, once every input frontier has passed them.
#[derive(Debug)]
pub struct Epochs<S> {
    outputs: usize,
    open: BTreeMap<u64, (Vec<Capability<u64>>, S)>,
}

impl<S: Default> Epochs<S> {
    /// For an operator with so many outputs.
    pub fn new(outputs: usize) -> Self {
        Epochs { outputs, open: BTreeMap::new() }
    }

    /// The state of the epoch that a message belongs to; `None` for a message that makes no claim on time, which none of
    /// our inputs sends.
    pub fn of(&mut self, capability: &InputCapability<u64>) -> Option<&mut S> {
        let time = *capability.least()?;
        let outputs = self.outputs;
        let hold = || (0..outputs).map(|port| capability.delayed(&time, port)).collect();
        Some(&mut self.open.entry(time).or_insert_with(|| (hold(), S::default())).1)
    }

    /// Keeps an epoch open although no message asks for it: work is left over for it. Returns its state.
    pub fn keep_open(&mut self, epoch: u64, capabilities: Vec<Capability<u64>>) -> &mut S {
        &mut self.open.entry(epoch).or_insert_with(|| (capabilities, S::default())).1
    }

    /// The earliest open epoch that no frontier can reach any more, with what it received.
    pub fn next_complete(&mut self, frontiers: &[MutableAntichain<u64>]) -> Option<(u64, Vec<Capability<u64>>, S)> {
        let entry = self.open.first_entry()?;
        if frontiers.iter().any(|frontier| frontier.less_equal(entry.key())) {
            return None;
        }
        let (epoch, (capabilities, state)) = entry.remove_entry();
        Some((epoch, capabilities, state))
    }
}
