//! Viewers as people look at them: a row each, and all of them in one line.

use std::fmt;

use super::http::Stats;

/// One viewer at one moment.
pub(super) struct Row {
    pub(super) name: String,
    /// What its player does, as the player says.
    pub(super) player: String,
    /// Absent if the node doesn't answer.
    pub(super) stats: Option<Stats>,
}

/// All viewers at one moment.
pub(super) struct Table(pub(super) Vec<Row>);

impl Table {
    /// The part of all bytes that came from other viewers, 0 to 1.
    pub(super) fn viewers_share(&self) -> f64 {
        let received = || self.stats().map(|stats| stats.received);
        let all: u64 = received().map(|received| received.all()).sum();
        let viewers: u64 = received().map(|received| received.viewers()).sum();
        if all == 0 { 0.0 } else { viewers as f64 / all as f64 }
    }

    /// Everything in one line.
    pub(super) fn line(&self) -> String {
        let playing = self.0.iter().filter(|row| row.player == "playing").count();
        let range = |of: &dyn Fn(&Stats) -> Option<f64>| {
            let values: Vec<f64> = self.stats().filter_map(of).collect();
            let least = values.iter().copied().reduce(f64::min)?;
            Some((least, values.iter().copied().reduce(f64::max)?))
        };
        let lag = range(&|stats| stats.lag_seconds)
            .map_or("-".to_owned(), |(least, most)| format!("{least:.1} to {most:.1} s"));
        let neighbours = range(&|stats| Some(stats.neighbours.into()))
            .map_or("-".to_owned(), |(least, most)| format!("{least} to {most}"));
        format!(
            "{playing} of {} playing, {:.1} % from viewers, lag {lag}, neighbours {neighbours}",
            self.0.len(),
            self.viewers_share() * 100.0
        )
    }

    fn stats(&self) -> impl Iterator<Item = &Stats> {
        self.0.iter().filter_map(|row| row.stats.as_ref())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:<10}{:>13}{:>10}{:>10}{:>12}{:>8}",
            "", "player", "from viewers", "received", "sent", "neighbours", "lag"
        )?;
        self.0.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12}{:<10}", self.name, self.player)?;
        let Some(stats) = &self.stats else { return write!(f, "the node doesn't answer") };
        let lag = stats.lag_seconds.map_or("-".to_owned(), |lag| format!("{lag:.1} s"));
        write!(
            f,
            "{:>11.1} %{:>7.1} MB{:>7.1} MB{:>12}{lag:>8}",
            stats.received.viewers_share() * 100.0,
            stats.received.all() as f64 / 1e6,
            stats.sent.peers as f64 / 1e6,
            stats.neighbours
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::http::Received;

    #[test]
    fn shares_weigh_by_bytes_and_a_silent_node_is_told() {
        let stats = |peers, origin, lag| {
            let received = Received { peers, origin, ..Default::default() };
            Some(Stats { received, lag_seconds: Some(lag), neighbours: 2, ..Stats::default() })
        };
        let row = |name: &str, stats| Row { name: name.into(), player: "playing".into(), stats };
        let table = Table(vec![row("a", stats(900, 100, 4.0)), row("b", stats(0, 200, 5.0)), row("c", None)]);
        assert!((table.viewers_share() - 0.75).abs() < 1e-9);
        assert_eq!(table.line(), "3 of 3 playing, 75.0 % from viewers, lag 4.0 to 5.0 s, neighbours 2 to 2");
        let text = table.to_string();
        assert!(text.contains("doesn't answer") && text.contains("90.0 %"), "{text}");
    }
}
