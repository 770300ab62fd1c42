//! Identity: which accounts share devices, cards, addresses, and how large the clusters are that this makes.
pub mod connect;
mod levels;
pub mod slab;
pub mod tour;
