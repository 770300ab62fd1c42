//! When each link was seen by events that may still be withdrawn.
//!
//! A link lives as long as any event supports it, so when the last event that saw it is withdrawn, the one before counts
//! again. Events older than the time for which they are kept by id cannot be withdrawn any more: of those a link
//! remembers the latest only. The others stand in one queue, in the order of their arrival, and form a chain per link, the
//! latest event first. A withdrawal follows the chain, which costs as many steps as the link was seen since.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::operators::CopyOnWrite;
use crate::views::identity::graph::NIL;

/// The start of a link's chain.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Place of the latest sighting in the queue; [`NOT_QUEUED`] without one.
    head: u64,
    /// Sightings queued before this place are of another link that had the same number.
    born: u64,
    /// The latest of the sightings that have left the queue, milliseconds.
    settled_ms: i64,
}

impl Default for Seen {
    fn default() -> Self {
        Seen { head: NOT_QUEUED, born: 0, settled_ms: i64::MIN }
    }
}

impl Seen {
    /// Nothing queued; the latest sighting that cannot be withdrawn any more was at this time.
    pub fn settled(settled_ms: i64) -> Self {
        Seen { settled_ms, ..Seen::default() }
    }

    /// When that was, milliseconds.
    pub fn settled_ms(&self) -> i64 {
        self.settled_ms
    }

    /// Whether a sighting at a place of the queue is of this link, and not of an earlier one of its number.
    pub fn holds(&self, place: u64) -> bool {
        self.born <= place
    }

    /// The sighting at a place of the queue cannot be withdrawn any more.
    pub fn settle(&mut self, place: u64, time_ms: i64) {
        if self.born <= place {
            self.settled_ms = self.settled_ms.max(time_ms);
            if self.head == place {
                self.head = NOT_QUEUED;
            }
        }
    }
}

const NOT_QUEUED: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, Default)]
struct Sighting {
    time_ms: i64,
    next: u64,
    /// `NIL` once withdrawn.
    link: u32,
}

/// Sightings per piece of the queue: it grows and shrinks by pieces, so that nothing is ever copied.
const PIECE: u64 = 4096;

/// Sightings of all links.
#[derive(Clone, Debug, Default)]
pub struct Sightings {
    pieces: VecDeque<CopyOnWrite<Box<[Sighting]>>>,
    /// Places of the front of the queue and behind its end; the first piece begins at the front, rounded down to a piece.
    base: u64,
    end: u64,
}

impl Sightings {
    /// The chain of a link that is new.
    pub fn start(&self) -> Seen {
        Seen { born: self.end, ..Seen::default() }
    }

    /// A link was seen; `latest` if at no earlier time than ever before, which spares a look at those.
    pub fn add(&mut self, seen: &mut Seen, link: u32, time_ms: i64, latest: bool) {
        let (mut before, mut next) = (NOT_QUEUED, seen.head);
        while !latest && let Some(sighting) = self.at(next).filter(|sighting| sighting.time_ms > time_ms) {
            (before, next) = (next, sighting.next);
        }
        let place = self.end;
        if place.is_multiple_of(PIECE) {
            self.pieces.push_back(CopyOnWrite::new(vec![Sighting::default(); PIECE as usize].into_boxed_slice()));
        }
        self.end += 1;
        if let Some(sighting) = self.at_mut(place) {
            *sighting = Sighting { time_ms, next, link };
        }
        self.set_next(seen, before, place);
    }

    /// An event that saw a link at a time is withdrawn. Returns when the link was last seen without it: `None` if it is
    /// not known to have been seen then, `i64::MIN` if it was never seen otherwise.
    pub fn withdraw(&mut self, seen: &mut Seen, time_ms: i64) -> Option<i64> {
        let (mut before, mut place) = (NOT_QUEUED, seen.head);
        while self.at(place)?.time_ms > time_ms {
            (before, place) = (place, self.at(place)?.next);
        }
        let sighting = self.at_mut(place).filter(|sighting| sighting.time_ms == time_ms)?;
        sighting.link = NIL;
        let next = sighting.next;
        self.set_next(seen, before, next);
        Some(self.latest(seen))
    }

    /// Takes out what was seen before a time, as far as it stands at the front. `settled` is told of each sighting: link,
    /// place and time, for [`Seen::settle`].
    pub fn settle(&mut self, before_ms: i64, mut settled: impl FnMut(u32, u64, i64)) {
        while let Some(sighting) = self.at(self.base).filter(|sighting| sighting.time_ms < before_ms).copied() {
            let place = self.base;
            self.base += 1;
            if self.base.is_multiple_of(PIECE) {
                self.pieces.pop_front();
            }
            if sighting.link != NIL {
                settled(sighting.link, place, sighting.time_ms);
            }
        }
    }

    /// What is queued as it is now, for another thread.
    pub fn freeze(&mut self) -> FrozenSightings {
        let pieces = self.pieces.iter_mut().map(CopyOnWrite::share).collect();
        FrozenSightings { pieces, base: self.base, end: self.end }
    }

    /// When a link was last seen; `i64::MIN` if it never was.
    pub fn latest(&self, seen: &Seen) -> i64 {
        self.at(seen.head).map_or(i64::MIN, |sighting| sighting.time_ms).max(seen.settled_ms)
    }

    /// Sightings queued.
    pub fn len(&self) -> usize {
        (self.end - self.base) as usize
    }

    /// Whether none is queued.
    pub fn is_empty(&self) -> bool {
        self.end == self.base
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.pieces.len() * PIECE as usize * size_of::<Sighting>()
    }

    /// The sighting at a place; none before the front, where chains end.
    #[inline]
    fn at(&self, place: u64) -> Option<&Sighting> {
        let (piece, index) = self.split(place)?;
        self.pieces.get(piece)?.get(index)
    }

    fn at_mut(&mut self, place: u64) -> Option<&mut Sighting> {
        let (piece, index) = self.split(place)?;
        self.pieces.get_mut(piece)?.to_mut().get_mut(index)
    }

    /// Piece and index of a place that is in the queue.
    #[inline]
    fn split(&self, place: u64) -> Option<(usize, usize)> {
        let queued = place >= self.base && place < self.end;
        queued.then(|| ((place / PIECE - self.base / PIECE) as usize, (place % PIECE) as usize))
    }

    fn set_next(&mut self, seen: &mut Seen, before: u64, next: u64) {
        match self.at_mut(before) {
            Some(before) => before.next = next,
            None => seen.head = next,
        }
    }
}

/// Sightings of all links, as they were.
#[derive(Debug)]
pub struct FrozenSightings {
    pieces: Vec<Arc<Box<[Sighting]>>>,
    base: u64,
    end: u64,
}

impl FrozenSightings {
    /// What was queued, in its order: place, link (`NIL` once withdrawn) and time.
    pub fn queued(&self) -> impl DoubleEndedIterator<Item = (u64, u32, i64)> {
        (self.base..self.end).map(|place| {
            let piece = &self.pieces[(place / PIECE - self.base / PIECE) as usize];
            let Sighting { link, time_ms, .. } = piece[(place % PIECE) as usize];
            (place, link, time_ms)
        })
    }
}
