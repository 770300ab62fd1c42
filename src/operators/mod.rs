//! Extensions of timely and differential that know nothing of fraud: how to take an epoch whole, how to own what is kept per key.
//!
//! * [`own`] is the one operator that keeps state per key: it runs a [`View`], and repairs, expires, dumps and loads it.
//! * [`Epochs`] collects what comes until the frontier has passed; [`backlog`] shares out what is repaired.

mod ask;
pub mod backlog;
mod copy_on_write;
mod dumper;
mod engine_plan;
mod epochs;
mod expiring;
mod images;
mod latest;
mod owner;
mod prefetch;
mod shards;
mod together;
mod view;
mod while_kept;
mod with_slices;
mod within;
pub mod words;

pub use ask::ask;
pub use copy_on_write::CopyOnWrite;
pub use dumper::Dumper;
pub use engine_plan::{EnginePlan, Renewal, TRANSACTIONS_IMAGE, name_of_part};
pub use epochs::Epochs;
pub use expiring::Expiring;
pub use images::{GivenImage, Image, Images, ShardImage};
pub use latest::{LatestInputs, latest};
pub use owner::{Owned, OwnerInputs, TOUCHED_IMAGE, own};
pub use prefetch::prefetch;
pub use shards::{Routed, ShardedMap};
pub use together::{Pieces, PiecesBefore, together};
pub use view::{Asks, Copied, Mark, Out, Turn, View, ViewPart};
pub use while_kept::{Keyed, Valued, while_kept};
pub use with_slices::with_slices;
pub use within::within;
