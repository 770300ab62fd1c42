//! ④ Arrangements: what is kept per key, from which features are read.

pub mod velocity;
