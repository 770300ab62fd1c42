//! Extensions of timely and differential that know nothing of fraud.

pub mod backlog;
mod epochs;
mod expiring;
mod prefetch;
mod shards;
mod with_slices;

pub use epochs::Epochs;
pub use expiring::Expiring;
pub use prefetch::prefetch;
pub use shards::{Routed, ShardedMap};
pub use with_slices::with_slices;
