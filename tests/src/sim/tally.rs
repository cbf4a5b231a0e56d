//! Distributions too large to be kept value by value.

/// Counts of times in seconds, by the millisecond up to two minutes.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

const STEP_SECONDS: f64 = 0.001;
const STEPS: usize = 120_000;

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; STEPS + 1], total: 0 }
    }
}

impl Histogram {
    /// Counts one value; what lies beyond the scale is counted at its end.
    pub fn add(&mut self, seconds: f64) {
        let step = (seconds.max(0.0) / STEP_SECONDS).round() as usize;
        self.counts[step.min(STEPS)] += 1;
        self.total += 1;
    }

    /// The value below which a share `q` of all lies, seconds; 0 if there is none.
    pub fn quantile(&self, q: f64) -> f64 {
        let rank = (q * self.total.saturating_sub(1) as f64).round() as u64;
        let mut below = 0;
        let step = self.counts.iter().position(|count| {
            below += count;
            below > rank
        });
        step.unwrap_or(0) as f64 * STEP_SECONDS
    }
}

/// Jain's fairness index of shares: 1 if all are alike, 1/n if one has everything (Jain, Chiu, Hawe 1984).
pub fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    if squares > 0.0 { sum * sum / (shares.len() as f64 * squares) } else { 1.0 }
}

/// Mean and half the width of its 95 % confidence interval (Student's t); `None` for the width of a single value.
pub fn confidence(values: &[f64]) -> (f64, Option<f64>) {
    /// Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
    const T: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    if n < 2 {
        return (mean, None);
    }
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
    let t = T.get(n - 2).copied().unwrap_or(1.96);
    (mean, Some(t * (variance / n as f64).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.add(f64::from(ms) / 1000.0));
        assert_eq!(histogram.quantile(0.0), 0.001);
        assert_eq!(histogram.quantile(0.5), 0.501);
        assert_eq!(histogram.quantile(1.0), 1.0);
    }

    #[test]
    fn interval_of_three_values() {
        let (mean, half) = confidence(&[1.0, 2.0, 3.0]);
        assert!((mean - 2.0).abs() < 1e-9);
        assert!((half.unwrap_or(0.0) - 4.303 / 3f64.sqrt()).abs() < 1e-3);
    }

    #[test]
    fn fairness_of_one_giver_among_four_is_a_quarter() {
        assert!((jain(&[8.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
        assert!((jain(&[2.0; 4]) - 1.0).abs() < 1e-9);
    }
}
