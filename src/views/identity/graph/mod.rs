//! Fully dynamic connectivity: which vertices are connected, while edges come and go. It knows nothing of fraud.
//!
//! In: vertices and edges, numbered by the caller, one by one or all edges of a vertex at once; what each vertex adds to
//! the totals of its component ([`Part`]). Out: whether two vertices are connected, the size and the totals of a component,
//! its members.
//!
//! | file | holds |
//! | --- | --- |
//! | `connect` | the interface, and which of two representations holds a component |
//! | `whole` | a graph that comes as a whole |
//! | `sought` | vertices that are looked for near another one |
//! | `small`, `bulk` | components of few vertices; all edges of a vertex, components that grow large or small |
//! | `levels`, `tour`, `sum` | large components: Euler tours in levels (Holm, de Lichtenberg, Thorup) |
//! | `slab`, `numbers`, `wires` | records by number, numbers by content, adjacency |
//!
//! At every call: two vertices are in one component if and only if a path of edges leads from one to the other, and a
//! component's totals are those of its vertices. None of it depends on the order in which edges came.

mod bulk;
mod connect;
mod levels;
mod numbers;
mod slab;
mod small;
mod sought;
mod sum;
mod tour;
mod whole;
mod wires;

pub use connect::{Component, ComponentPlace, Connectivity, SMALL_AGAIN, SMALL_MAX};
pub use numbers::Numbers;
pub use slab::{Frozen, NIL, Slab};
pub use tour::{Part, Total};
pub use wires::{Wired, Wires, attach, detach};
