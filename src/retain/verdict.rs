//! Which of two records of one id holds: of an event, or of a label. The rules are those of [`super::arrivals`].

use serde::{Deserialize, Serialize};

use crate::event::{MapKey, Op};
use crate::flow::Label;

/// One label of a target.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct LabelRecord {
    /// The label's own id.
    pub id: MapKey,
    /// What it asked for, or what took it back.
    pub op: Op,
    /// What it says.
    pub label: Label,
}

/// What becomes of a record beside others of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds from now on.
    Holds,
    /// It says what is known.
    Repeats,
    /// A stronger operation came before it.
    Overtaken,
    /// Its id was withdrawn.
    Withdrawn,
}

/// Of two records of an id: the operation that holds, the one that comes, and whether they say the same.
pub(super) fn verdict(held: Op, comes: Op, same: bool) -> Verdict {
    match () {
        () if same => Verdict::Repeats,
        () if comes >= held => Verdict::Holds,
        () if held == Op::Withdraw => Verdict::Withdrawn,
        () => Verdict::Overtaken,
    }
}

/// Takes in a label's record: between records of one label the same decides as between records of one event.
pub(super) fn merge(labels: &mut Vec<LabelRecord>, record: LabelRecord) -> Verdict {
    let Some(held) = labels.iter_mut().find(|held| held.id == record.id) else {
        labels.push(record);
        return Verdict::Holds;
    };
    // A withdrawal names its label, but need not repeat what it said.
    let withdraws = record.op == Op::Withdraw;
    let same = if withdraws { held.op == Op::Withdraw } else { held.label == record.label };
    let verdict = verdict(held.op, record.op, same);
    match verdict {
        Verdict::Holds if withdraws => held.op = Op::Withdraw,
        Verdict::Holds => *held = record,
        Verdict::Repeats => held.op = held.op.max(record.op),
        Verdict::Overtaken | Verdict::Withdrawn => {}
    }
    verdict
}
