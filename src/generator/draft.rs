//! An event before it is written out: numbers only, cheap to copy, to repeat and to drop.

use super::planted::Planted;
use crate::event::Op;

/// Kinds of events; the names stand in the schema's `kinds`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventKind {
    Payment,
    Refund,
    Login,
    AccountChange,
    Label,
    AccountCreated,
    CardAdded,
    TravelNotice,
    OrderCreated,
    OrderDelivered,
    OrderReturned,
    Dispute,
    MerchantCreated,
}

impl EventKind {
    pub const ALL: [EventKind; 13] = [
        EventKind::Payment,
        EventKind::Refund,
        EventKind::Login,
        EventKind::AccountChange,
        EventKind::Label,
        EventKind::AccountCreated,
        EventKind::CardAdded,
        EventKind::TravelNotice,
        EventKind::OrderCreated,
        EventKind::OrderDelivered,
        EventKind::OrderReturned,
        EventKind::Dispute,
        EventKind::MerchantCreated,
    ];

    /// The name, and what starts the ids of its events; a label shares the number of its target.
    const NAMES: [(&str, &str); EventKind::ALL.len()] = [
        ("payment", "t-"),
        ("refund", "r-"),
        ("login", "s-"),
        ("account_change", "u-"),
        ("label", "l-"),
        ("account_created", "n-"),
        ("card_added", "k-"),
        ("travel_notice", "v-"),
        ("order_created", "oc-"),
        ("order_delivered", "od-"),
        ("order_returned", "or-"),
        ("dispute", "x-"),
        ("merchant_created", "w-"),
    ];

    pub fn name(self) -> &'static str {
        EventKind::NAMES[self as usize].0
    }

    pub fn prefix(self) -> &'static str {
        EventKind::NAMES[self as usize].1
    }
}

/// How a payment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Channel {
    Store,
    Online,
    Wallet,
    Transfer,
}

impl Channel {
    pub fn name(self) -> &'static str {
        ["store", "online", "wallet", "transfer"][self as usize]
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaymentOutcome {
    Approved,
    Declined,
    Blocked,
}

impl PaymentOutcome {
    pub fn name(self) -> &'static str {
        ["approved", "declined", "blocked"][self as usize]
    }
}

/// What an account change changed.
pub(super) const CHANGES: [&str; 4] = ["password", "email", "phone", "address"];

/// A fraud pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// Many small payments, mostly declined, then a large one.
    CardTesting,
    /// A burst of rising payments with someone else's card, far from its home.
    StolenCard,
    /// Login from a new device, a change of contact data, payments.
    AccountTakeover,
    /// Invented accounts that share devices and addresses.
    Ring,
    /// A new merchant that charges many cards in one burst.
    BustOut,
}

impl Pattern {
    /// The name in the truth.
    pub fn name(self) -> &'static str {
        ["card_testing", "stolen_card", "account_takeover", "ring", "bust_out"][self as usize]
    }
}

/// Honest behaviour that looks like a fraud pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HardNegative {
    /// A household that shares a device and an address (ring).
    Family,
    /// Many customers behind one address of an office (ring).
    SharedAddress,
    /// A customer abroad (stolen card).
    Traveller,
    /// Declined, then tried again (card testing).
    Retry,
    /// A new phone: new device, contact data changed, a payment (account takeover).
    NewPhone,
    /// Many transfers in a few minutes on payday (mule, takeover).
    Payroll,
    /// A merchant with ten times its volume for an hour (bust-out).
    FlashSale,
    /// Payments from someone else's device, perhaps large (stolen card).
    GuestDevice,
    /// A burst of small payments (card testing).
    SmallPayments,
}

impl HardNegative {
    /// The name in the truth.
    pub fn name(self) -> &'static str {
        #[rustfmt::skip]
        const NAMES: [&str; 9] = [
            "family", "shared_address", "traveller", "retry", "new_phone", "payroll", "flash_sale", "guest_device",
            "small_payments",
        ];
        NAMES[self as usize]
    }
}

/// What is really behind an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Whether it is fraud.
    pub fraud: bool,
    /// The pattern and the number of the campaign that the event belongs to.
    pub campaign: Option<(Pattern, u64)>,
    /// The household, if its members share a device.
    pub household: Option<u64>,
    /// What makes it look like fraud though it is none.
    pub hard_negative: Option<HardNegative>,
    /// The planted event pattern, or hard negative of one, that it belongs to.
    pub planted: Option<Planted>,
}

/// What is going to be known of a payment, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FutureLabel {
    /// Whether it is called fraud.
    pub fraud: bool,
    /// Event time at which this becomes known, milliseconds UTC.
    pub available_at_ms: i64,
}

/// Who acts, by numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Actor {
    pub account: u64,
    pub card: u64,
    pub device: u64,
    pub email: u64,
    pub phone: u64,
    pub address: u64,
    pub ip: u32,
    /// Country of card and account.
    pub country: u8,
    /// Where the actor is, in ten-thousandths of a degree.
    pub place: (i32, i32),
}

/// One event in numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draft {
    pub number: u64,
    pub kind: EventKind,
    pub op: Op,
    pub time_ms: i64,
    pub actor: Actor,
    pub merchant: Option<u64>,
    pub payee: Option<u64>,
    pub amount_cents: i64,
    pub category: u8,
    /// Country in which it happens.
    pub country: u8,
    pub place: (i32, i32),
    pub channel: Channel,
    pub outcome: PaymentOutcome,
    pub recurring: bool,
    /// Index into [`CHANGES`].
    pub change: u8,
    /// Number of the payment that a refund gives back, a dispute or a label is about.
    pub target: Option<u64>,
    /// The card that a refund goes to.
    pub refund_to: u64,
    pub order: Option<u64>,
    pub cash_on_delivery: bool,
    pub truth: Truth,
    /// The label that the event is going to get; of a label event, what it says.
    pub label: Option<FutureLabel>,
    /// Whether this is the first record of its event.
    pub first: bool,
}

impl Draft {
    /// An event of an actor at his place, approved, without amount.
    pub fn new(kind: EventKind, time_ms: i64, actor: Actor) -> Self {
        Draft {
            number: 0,
            kind,
            op: Op::Insert,
            time_ms,
            actor,
            merchant: None,
            payee: None,
            amount_cents: 0,
            category: 0,
            country: actor.country,
            place: actor.place,
            channel: Channel::Online,
            outcome: PaymentOutcome::Approved,
            recurring: false,
            change: 0,
            target: None,
            refund_to: actor.card,
            order: None,
            cash_on_delivery: false,
            truth: Truth::default(),
            label: None,
            first: true,
        }
    }

    /// The same with an outcome.
    pub fn ended(mut self, outcome: PaymentOutcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// The same as part of a campaign.
    pub fn fraud(mut self, pattern: Pattern, campaign: u64) -> Self {
        self.truth = Truth { fraud: true, campaign: Some((pattern, campaign)), ..Truth::default() };
        self
    }

    /// The same as honest but suspicious.
    pub fn honest(mut self, why: HardNegative) -> Self {
        self.truth.hard_negative = Some(why);
        self
    }
}
