//! Extensions of timely and differential that know nothing of fraud.

mod epochs;
mod expiring;
mod prefetch;
mod shards;

pub use epochs::Epochs;
pub use expiring::Expiring;
pub use prefetch::prefetch;
pub use shards::{Routed, ShardedMap};
