//! Identity: connectivity, links, the operator, known data.

mod connect;
mod febrl;
mod links;
mod normalise;
mod operator;
mod propagate;
mod scratch;
mod w3;
