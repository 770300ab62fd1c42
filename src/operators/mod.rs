//! Extensions of timely and differential that know nothing of fraud.

mod epochs;
mod shards;

pub use epochs::Epochs;
pub use shards::ShardedMap;
