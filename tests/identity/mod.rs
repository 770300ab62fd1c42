//! Identity: connectivity, links, the operator, known data.

mod connect;
mod febrl;
mod image;
mod links;
mod normalise;
mod operator;
mod payments;
mod planted;
mod propagate;
mod scratch;
mod tally;
mod w3;
