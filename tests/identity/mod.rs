//! Identity: connectivity, links, the operator, known data.

mod connect;
mod links;
mod scratch;
