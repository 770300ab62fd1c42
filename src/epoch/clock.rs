//! How far event time has come in one partition, when some of its records have wrong clocks.
//!
//! The clock of a partition is the largest event time that its records agree on. A record within the *future bound* of the
//! clock moves it. A record further ahead is a leap: after a quiet night, or of a machine whose clock is wrong. The records
//! around it tell:
//!
//! * most of the next [`EVIDENCE_MAX`] records are at or after the leap, less the bound: it is true, and the clock moves;
//! * at least [`EVIDENCE_MIN`] records follow, and most of them are before: the record is refused;
//! * fewer follow, for now: the record is taken in, and the clock stays until later records agree. In a run, a record that
//!   is also beyond the wall clock at its arrival, by more than the bound, is refused instead. At the end of a file, which
//!   nobody comes after, the leap is believed unless it is outvoted by two.
//!
//! So one wrong clock moves nothing, and nothing true is refused. A withdrawal says nothing about time: it may carry none.

/// Records that follow a leap and are looked at.
pub const EVIDENCE_MAX: usize = 64;

/// Records that must follow a leap before it may be called wrong: a late event or two prove nothing.
pub const EVIDENCE_MIN: usize = 8;

/// Leaps in doubt that are remembered.
const DOUBTS_MAX: usize = 64;

/// What the records around a leap say of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Not enough has been seen, and more is there to be seen.
    Wait,
    /// Most agree.
    For,
    /// Most disagree.
    Against,
    /// Too few to tell, and no more are there for now.
    Undecided {
        /// More disagree than agree, by more than one: a single late event proves nothing.
        outvoted: bool,
    },
}

/// Whether a partition has more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It may, or they are on their way.
    No,
    /// Not for now.
    ForNow,
    /// Not ever: a file has been read.
    ForGood,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    time_ms: i64,
    agree: usize,
    against: usize,
}

/// The clock of one partition.
#[derive(Clone, Debug)]
pub struct PartitionClock {
    future_ms: i64,
    reached_ms: Option<i64>,
    doubts: Vec<Doubt>,
}

impl PartitionClock {
    /// A clock that no record has moved yet.
    pub fn new(future_ms: i64) -> Self {
        PartitionClock { future_ms, reached_ms: None, doubts: Vec::new() }
    }

    /// The largest event time that records agree on, milliseconds; `None` before the first.
    pub fn reached_ms(&self) -> Option<i64> {
        self.reached_ms
    }

    /// Whether an event time is no leap.
    pub fn is_near(&self, time_ms: i64) -> bool {
        self.reached_ms.is_some_and(|reached_ms| time_ms <= reached_ms.saturating_add(self.future_ms))
    }

    /// Whether an event time lies beyond the wall clock by more than the bound.
    pub fn is_beyond(&self, time_ms: i64, wall_ms: i64) -> bool {
        time_ms > wall_ms.saturating_add(self.future_ms)
    }

    /// What the times of the records after a leap say of it.
    pub fn evidence(&self, leap_ms: i64, following: impl Iterator<Item = i64>, end: End) -> Evidence {
        let from_ms = leap_ms.saturating_sub(self.future_ms);
        let (mut agree, mut against) = (0, 0);
        for time_ms in following.take(EVIDENCE_MAX) {
            if time_ms >= from_ms {
                agree += 1;
            } else {
                against += 1;
            }
        }
        let seen = agree + against;
        // Half of all that could follow settles it: what is still to come cannot change the majority.
        let settled = seen == EVIDENCE_MAX || agree > EVIDENCE_MAX / 2 || against >= EVIDENCE_MAX / 2;
        match () {
            () if !settled && end == End::No => Evidence::Wait,
            () if agree > against => Evidence::For,
            () if seen >= EVIDENCE_MIN => Evidence::Against,
            () => Evidence::Undecided { outvoted: against > agree + 1 },
        }
    }

    /// Moves to a leap that is true.
    pub fn confirm(&mut self, time_ms: i64) {
        self.reached_ms = Some(self.reached_ms.map_or(time_ms, |reached_ms| reached_ms.max(time_ms)));
        self.clear();
    }

    /// Follows a record that was taken in: moves to its time, or keeps it in mind if it is a leap that nobody confirmed.
    pub fn follow(&mut self, time_ms: i64) {
        if !self.doubts.is_empty() {
            self.weigh(time_ms);
        }
        match self.reached_ms {
            Some(reached_ms) if time_ms <= reached_ms => {}
            _ if self.is_near(time_ms) => self.confirm(time_ms),
            _ => {
                if self.doubts.len() == DOUBTS_MAX {
                    self.doubts.remove(0);
                }
                self.doubts.push(Doubt { time_ms, agree: 0, against: 0 });
            }
        }
    }

    /// Lets a record speak for or against the leaps in doubt.
    fn weigh(&mut self, time_ms: i64) {
        for doubt in &mut self.doubts {
            let agrees = time_ms >= doubt.time_ms.saturating_sub(self.future_ms);
            (doubt.agree, doubt.against) = (doubt.agree + usize::from(agrees), doubt.against + usize::from(!agrees));
        }
        if let Some(true_ms) = self.doubts.iter().filter(|doubt| doubt.agree > doubt.against).map(|d| d.time_ms).max() {
            self.confirm(true_ms);
        }
        self.doubts.retain(|doubt| doubt.against < EVIDENCE_MIN || doubt.agree > doubt.against);
    }

    /// Forgets doubts that the clock has come near.
    fn clear(&mut self) {
        let Some(reached_ms) = self.reached_ms else { return };
        self.doubts.retain(|doubt| doubt.time_ms > reached_ms);
    }
}
