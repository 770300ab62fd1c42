//! Distinct links between accounts and other values: which are live, which carry, and the clusters that those make.
//!
//! In: time, and sightings of links by events, some of them withdrawn later. Out: the clusters of a value ([`Links::wide`],
//! [`Links::strong`]) with what is known of their members, and on demand the links that began or ceased to carry.
//!
//! | file | holds |
//! | --- | --- |
//! | `live` | live links, their caps, time and expiry |
//! | `carry` | links that begin and cease to carry, in the graphs |
//! | `values` | values by kind and key: the vertices |
//! | `sightings` | which events support a link, while they may be withdrawn |
//! | `image` | what is kept of all this when it is written down |
//! | `calendar` | what is due when |
//!
//! At every time t: a link is live if an event that was not withdrawn has seen it later than t - expiry; it carries if it is
//! live and neither of its values has more live links than its cap. Nothing of this depends on the order of arrival.

mod calendar;
mod carry;
mod image;
mod live;
mod sightings;
mod values;

pub use calendar::{Calendar, FrozenCalendar};
pub use image::{FactsImage, FrozenLinks, LinkImage, LinksImage, SightingImage};
pub use live::{ACCOUNT, Carried, LinkRule, LinkRules, Links};
pub use sightings::{FrozenSightings, Seen, Sightings};
pub use values::{FrozenValues, LinkedValue, Values};
