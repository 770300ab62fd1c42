//! How many payments has each merchant had, and how much money was it?
//!
//! This file is the tutorial, and the template that `deltawatch dataflow new NAME` copies. Read it from top to bottom.
//! It emits one record per merchant: its name, and [`Total`]. When a payment comes, is corrected or withdrawn, the old
//! record of its merchant leaves with diff -1 and the new one with diff 1. Run it:
//!
//! ```text
//! deltawatch run --dataflow hello --events 1000
//! ```

use std::collections::BTreeMap;

use deltawatch::dataflow::prelude::*;
use differential_dataflow::operators::CountTotal;
use serde::{Deserialize, Serialize};

/// What is emitted for each merchant. Whatever leaves the graph is data: it can be cloned, ordered, hashed, sent to
/// another process and written as JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Total {
    /// Payments that count.
    payments: isize,
    /// Their amounts, in minor units: integers, so that the order of adding does not matter, of 128 bits, so that no
    /// number of amounts is too much.
    amount_minor: i128,
}

/// The dataflow. It has no state of its own: all state is in collections.
pub struct Hello;

impl Dataflow for Hello {
    // The name on the command line, which is also the file's.
    fn name(&self) -> &'static str {
        "hello"
    }

    fn about(&self) -> &'static str {
        "How many payments has each merchant had, and how much money was it? The tutorial."
    }

    // What events look like. This one reads the payments that the generator makes; a schema of your own goes into a file
    // beside this one.
    fn schema(&self) -> &'static str {
        include_str!("payments.toml")
    }

    // `--set hello.amount_min=500` leaves out small payments.
    fn parameters(&self) -> Vec<Parameter> {
        vec![Parameter {
            key: "amount_min",
            about: "payments of a smaller amount do not count, in minor units",
            default: "0",
        }]
    }

    // The graph. Every worker builds the same one; differential dataflow keeps it up to date as events come and go.
    fn build(&self, context: &mut Context<'_>) -> Result<(), BuildError> {
        let counted = Counted::new(context.setup())?;

        // 1. A collection of events: a withdrawn event leaves it, a corrected one is replaced.
        let events = context.events();

        // 2. One record per payment: the merchant. What is to be added up stands in the diff: 1, and the amount in two
        // halves of 32 bits, so that the sum of either fits 64.
        let by_merchant = events.explode(move |event| {
            let payment = counted.of(&event);
            payment.map(|(merchant, amount)| {
                (merchant, (1_isize, (amount >> 32) as isize, (amount & 0xffff_ffff) as isize))
            })
        });

        // 3. Adds the diffs up per merchant, and changes the total whenever one comes. Only the totals are kept.
        let totals = by_merchant.count_total();

        // 4. Out: (key, value). The value may be whatever can be written as JSON.
        let totals = totals.map(|(merchant, (payments, high, low))| {
            let amount_minor = ((high as i128) << 32) + low as i128;
            (merchant, Total { payments, amount_minor })
        });
        context.output("merchant_totals", totals);
        Ok(())
    }

    // The same answer from scratch, slowly and obviously. Tests compare both on random input, at every epoch.
    fn oracle(&self, setup: &Setup, events: &[Event]) -> Vec<(String, String)> {
        let Ok(counted) = Counted::new(setup) else { return Vec::new() };
        let mut totals = BTreeMap::new();
        for (merchant, amount) in events.iter().filter_map(|event| counted.of(event)) {
            let total = totals.entry(merchant).or_insert(Total { payments: 0, amount_minor: 0 });
            total.payments += 1;
            total.amount_minor += i128::from(amount);
        }
        let json = |total: &Total| serde_json::to_string(total).unwrap_or_default();
        totals.into_iter().map(|(merchant, total)| (merchant, json(&total))).collect()
    }
}

/// Which events count, and as what. Names are looked up once: a slot is the place of a field in every event.
#[derive(Clone, Copy)]
struct Counted {
    payment: u16,
    merchant: Slot,
    amount: Slot,
    amount_min: i64,
}

impl Counted {
    fn new(setup: &Setup) -> Result<Self, BuildError> {
        let (merchant, amount) = (setup.slot("merchant")?, setup.slot("amount")?);
        let amount_min = setup.parameters.parsed("amount_min")?;
        let payment = setup.schema.kind("payment").unwrap_or(setup.schema.default_kind());
        Ok(Counted { payment, merchant, amount, amount_min })
    }

    fn of(&self, event: &Event) -> Option<(String, i64)> {
        let amount = event.int(self.amount).filter(|amount| *amount >= self.amount_min)?;
        let merchant = event.text(self.merchant)?;
        (event.kind == self.payment).then(|| (merchant.to_owned(), amount))
    }
}
