//! Percentiles over a bounded number of measurements.

/// How many values a [`Series`] keeps: 18 hours of one-second samples in half a megabyte.
const KEPT: usize = 1 << 16;

/// A series of measurements. When it is full every second one is dropped, and from then on only every second, fourth, …
/// is taken: percentiles of long runs stay evenly spread over the run.
#[derive(Clone, Debug)]
pub(super) struct Series<T> {
    values: Vec<T>,
    stride: u64,
    seen: u64,
}

/// A series in four numbers. Percentiles are by nearest rank, so each is a value that was measured.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// The middle value.
    pub p50: f64,
    /// 95 of 100 values are not above it.
    pub p95: f64,
    /// The largest value.
    pub max: f64,
    /// How many values were measured.
    pub count: u64,
}

impl<T: Copy> Series<T> {
    pub(super) fn push(&mut self, value: T) {
        if self.seen.is_multiple_of(self.stride) {
            if self.values.len() == KEPT {
                let mut index = 0;
                self.values.retain(|_| {
                    index += 1;
                    index % 2 == 1
                });
                self.stride *= 2;
            }
            if self.seen.is_multiple_of(self.stride) {
                self.values.push(value);
            }
        }
        self.seen += 1;
    }

    /// The values kept, in the order they came.
    pub(super) fn values(&self) -> &[T] {
        &self.values
    }

    /// Percentiles of what `of` takes from each value; `None` if it takes nothing.
    pub(super) fn summary(&self, of: impl Fn(T) -> Option<f64>) -> Option<Summary> {
        let mut sorted: Vec<f64> = self.values.iter().filter_map(|value| of(*value).map(micros)).collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1));
        Some(Summary {
            p50: *rank(50)?,
            p95: *rank(95)?,
            max: *sorted.last()?,
            count: (sorted.len() as u64).saturating_mul(self.stride).min(self.seen),
        })
    }
}

/// To the microsecond: more digits of a wall clock are noise.
pub(super) fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

impl<T> Default for Series<T> {
    fn default() -> Self {
        Self { values: Vec::new(), stride: 1, seen: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measured_values() {
        let mut series = Series::default();
        (1..=20).rev().for_each(|value| series.push(f64::from(value)));
        let summary = series.summary(Some).expect("there are values");
        assert_eq!((summary.p50, summary.p95, summary.max, summary.count), (10.0, 19.0, 20.0, 20));
    }

    #[test]
    fn one_value_is_every_percentile_and_none_is_nothing() {
        let mut series = Series::default();
        assert_eq!(series.summary(Some), None);
        series.push(3.0);
        let summary = series.summary(Some).expect("there is a value");
        assert_eq!((summary.p50, summary.p95), (3.0, 3.0));
    }

    #[test]
    fn stays_bounded_and_evenly_spread() {
        let mut series = Series::default();
        let pushed = 3 * KEPT as u32 + 7;
        (0..pushed).for_each(|value| series.push(f64::from(value)));
        assert!(series.values().len() <= KEPT);
        let steps: Vec<f64> = series.values().windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(steps.iter().all(|step| *step == 4.0), "every fourth is kept");
        let middle = series.summary(Some).expect("there are values").p50;
        assert!((middle - f64::from(pushed) / 2.0).abs() < 8.0);
    }
}
