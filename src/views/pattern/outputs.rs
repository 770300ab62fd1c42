//! What the operators of patterns and of cycles send: slices, matches, touched transactions, and what lies beyond.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::Match;
use super::operator::Pattern;
use super::repairs::PatternEffects;
use crate::flow::{Beyond, Block, Epoch, Touched};

type Output<T> = OutputBuilder<Epoch, CapacityContainerBuilder<Vec<T>>>;

/// How many there are: an epoch holds a capability of each, in this order.
pub const OUTPUTS: usize = 4;
/// The place of the matches' capability.
pub const MATCHES: usize = 1;

/// The outputs of an operator.
pub struct Outputs {
    slices: Output<Block>,
    matches: Output<(Match, Epoch, isize)>,
    touched: Output<Touched>,
    beyond: Output<Beyond>,
}

impl Outputs {
    /// Adds them to an operator; they are connected to its inputs so far.
    pub fn new<'scope>(builder: &mut OperatorBuilder<'scope, Epoch>) -> (Self, Pattern<'scope>) {
        let (slices_out, slices) = builder.new_output();
        let (matches_out, matches) = builder.new_output();
        let (touched_out, touched) = builder.new_output();
        let (beyond_out, beyond) = builder.new_output();
        let outputs = Outputs {
            slices: OutputBuilder::from(slices_out),
            matches: OutputBuilder::from(matches_out),
            touched: OutputBuilder::from(touched_out),
            beyond: OutputBuilder::from(beyond_out),
        };
        (outputs, Pattern { slices, matches, touched, beyond })
    }

    /// Sends what an epoch has led to.
    pub fn send(&mut self, capabilities: &[Capability<Epoch>], mut effects: PatternEffects) {
        if !effects.slices.is_empty() {
            self.slices.activate().session(&capabilities[0]).give_container(&mut effects.slices);
        }
        self.announce(&capabilities[MATCHES], effects.matches);
        if !effects.touched.is_empty() {
            self.touched.activate().session(&capabilities[2]).give_container(&mut effects.touched);
        }
        if !effects.beyond.is_empty() {
            self.beyond.activate().session(&capabilities[3]).give_container(&mut effects.beyond);
        }
    }

    /// Sends matches alone, at the epoch of their capability.
    pub fn announce(&mut self, capability: &Capability<Epoch>, matches: Vec<(Match, isize)>) {
        if !matches.is_empty() {
            let epoch = *capability.time();
            let updates = matches.into_iter().map(|(one, diff)| (one, epoch, diff));
            self.matches.activate().session(capability).give_iterator(updates);
        }
    }
}
