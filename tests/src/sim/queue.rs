//! The event queue: what happens next, in the order of time, and of being scheduled where times are equal.
//!
//! A calendar (Brown 1988): a ring of buckets, each a short span of time; only the bucket at hand is kept in order, as a
//! heap small enough for the cache. A single heap of millions of events spends most of a simulation missing it.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use starling_proto::Time;

/// Span of a bucket, microseconds.
const SPAN_US: u64 = 256;
/// Buckets: 16.8 s, beyond nearly every timer.
const BUCKETS: u64 = 1 << 16;

/// Emptied buckets kept.
const SPARE_MAX: usize = 256;

/// Events by time.
#[derive(Debug)]
pub struct Queue<E> {
    /// The bucket at hand.
    near: BinaryHeap<Reverse<Entry<E>>>,
    ring: Vec<Vec<Reverse<Entry<E>>>>,
    /// Emptied buckets, to be filled again: were each to keep its memory, the ring would take that of its fullest hour.
    spare: Vec<Vec<Reverse<Entry<E>>>>,
    /// Beyond the ring.
    far: BinaryHeap<Reverse<Entry<E>>>,
    /// Number of the bucket at hand.
    at: u64,
    in_ring: usize,
    pushed: u64,
}

#[derive(Debug)]
struct Entry<E> {
    at: Time,
    order: u64,
    event: E,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            near: BinaryHeap::new(),
            ring: std::iter::repeat_with(Vec::new).take(BUCKETS as usize).collect(),
            spare: Vec::new(),
            far: BinaryHeap::new(),
            at: 0,
            in_ring: 0,
            pushed: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Schedules an event; one in the past happens next.
    pub fn push(&mut self, at: Time, event: E) {
        self.pushed += 1;
        let entry = Reverse(Entry { at, order: self.pushed, event });
        match at.0 / SPAN_US {
            bucket if bucket <= self.at => self.near.push(entry),
            bucket if bucket < self.at + BUCKETS => {
                let bucket = &mut self.ring[(bucket % BUCKETS) as usize];
                if bucket.capacity() == 0 {
                    *bucket = self.spare.pop().unwrap_or_default();
                }
                bucket.push(entry);
                self.in_ring += 1;
            }
            _ => self.far.push(entry),
        }
    }

    /// The next event and its time.
    pub fn pop(&mut self) -> Option<(Time, E)> {
        while self.near.is_empty() {
            self.turn()?;
        }
        self.near.pop().map(|Reverse(entry)| (entry.at, entry.event))
    }

    /// On to the next bucket that holds anything. `None`: there is none.
    fn turn(&mut self) -> Option<()> {
        let far = self.far.peek().map(|Reverse(entry)| entry.at.0 / SPAN_US);
        self.at = match (self.in_ring, far) {
            (0, far) => far?,
            (_, _) => self.at + 1,
        };
        let bucket = std::mem::take(&mut self.ring[(self.at % BUCKETS) as usize]);
        self.in_ring -= bucket.len();
        let spent = std::mem::replace(&mut self.near, bucket.into()).into_vec();
        if spent.capacity() > 0 && self.spare.len() < SPARE_MAX {
            self.spare.push(spent);
        }
        while let Some(Reverse(entry)) = self.far.peek()
            && entry.at.0 / SPAN_US <= self.at
        {
            self.near.extend(self.far.pop());
        }
        Some(())
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_proto::Rng;

    #[test]
    fn events_come_in_the_order_of_time_and_then_of_being_scheduled() {
        let mut rng = Rng::new(3);
        let mut queue = Queue::default();
        let (mut now, mut expected) = (Time::ZERO, Vec::new());
        let mut seen = Vec::new();
        for number in 0..20_000u64 {
            // Mostly soon, often at the same moment, sometimes far beyond the ring.
            let wait = [0, rng.next_u64() % 300, rng.next_u64() % 2_000_000, rng.next_u64() % 90_000_000][rng.below(4)];
            let at = Time(now.0 + wait);
            queue.push(at, number);
            expected.push((at, number));
            if rng.unit() < 0.4
                && let Some((at, number)) = queue.pop()
            {
                now = at;
                seen.push((at, number));
            }
        }
        seen.extend(std::iter::from_fn(|| queue.pop()));
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }
}
