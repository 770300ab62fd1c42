//! ⑥ Score: models over feature rows, the decision, and the last assessment of each transaction.

pub mod model;
