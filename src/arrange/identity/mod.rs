//! Identity: which accounts share devices, cards, addresses, and how large the clusters are that this makes.
pub mod calendar;
pub mod connect;
pub mod facts;
mod levels;
pub mod links;
pub mod sightings;
pub mod slab;
pub mod table;
pub mod tour;
pub mod values;
pub mod wires;
