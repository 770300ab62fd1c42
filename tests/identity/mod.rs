//! Identity: connectivity, links, the operator, known data.

mod connect;
