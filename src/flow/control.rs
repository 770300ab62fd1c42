//! What the control stream has changed, on its way to the epochs that it is bound to.

use serde::{Deserialize, Serialize};

/// The number of a deployment: 0 is what the run was started with, and each group of control messages makes the next one.
pub type DeploymentNumber = u32;

/// A control message that was taken in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlRecord {
    /// Where it stands in the control stream.
    pub offset: u64,
    /// The message (JSON), with what was found out about the files that it names.
    pub message: String,
}

/// Control messages that take effect together, before the first event of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlGroup {
    /// The deployment that they make of the one before.
    pub number: DeploymentNumber,
    /// The offset after the last message that was looked at, taken in or not.
    pub upper: u64,
    /// The messages, in order.
    pub records: Vec<ControlRecord>,
}
