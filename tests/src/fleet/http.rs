//! What the programs of a fleet tell over HTTP: `/api/stats` as JSON, `/metrics` as Prometheus or OpenMetrics text.
//!
//! [`Stats`] is written from the documentation, not shared with the node: a renamed field must break a test.

use std::{sync::LazyLock, time::Duration};

use anyhow::{Context as _, Result, bail};
use reqwest::{Client, Url};
use serde::Deserialize;

/// How long an answer may take. Loopback answers in milliseconds, a machine running a hundred programs in seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

static CLIENT: LazyLock<Client> = LazyLock::new(|| {
    let builder = Client::builder().no_proxy().http1_only().timeout(ANSWER_WITHIN);
    builder.build().expect("an HTTP client without TLS files or proxies has nothing to fail on")
});

/// The part of `GET /api/stats` that is looked at here.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Stats {
    /// The stream's name.
    pub stream: String,
    /// Media bytes that arrived.
    pub received: Received,
    /// Media bytes that left.
    pub sent: Sent,
    /// Peers it exchanges the stream with.
    pub neighbours: u32,
    /// Now − capture time of the newest byte ready to play, seconds.
    pub lag_seconds: Option<f64>,
    /// From start, or a player's first request if later, to the first segment ready; seconds.
    pub startup_seconds: Option<f64>,
    /// Times a player waited for a segment.
    pub stalls: Stalls,
    /// Chunks that weren't what the broadcaster signed.
    pub rejected_chunks: u64,
    /// Bytes that are not media, both ways.
    pub control_bytes: u64,
    /// Whether a hint server answers.
    #[serde(default)]
    pub hint_server: bool,
    /// What the person should do something about.
    #[serde(default)]
    pub notice: Option<String>,
    /// Chunks that came more than once.
    #[serde(default)]
    pub duplicate_chunks: u64,
    /// Their bytes.
    #[serde(default)]
    pub duplicate_bytes: u64,
    /// Hops from the origin in each substream.
    #[serde(default)]
    pub depths: Vec<Option<u8>>,
    /// Its name among the parents of others.
    #[serde(default)]
    pub peer: String,
    /// Who feeds each substream.
    #[serde(default)]
    pub parents: Vec<Option<String>>,
    /// Media requests to the origin.
    #[serde(default)]
    pub origin_requests: u64,
    /// What it may and does upload.
    #[serde(default)]
    pub upload: Upload,
}

/// See [`Stats::upload`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Upload {
    /// The limit in force, bits per second; absent until one is set or measured.
    pub limit_bps: Option<u64>,
}

/// See [`Stats::received`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Received {
    /// Over libp2p, from the broadcaster's own node too.
    pub peers: u64,
    /// Over HTTP from the origin.
    pub origin: u64,
    /// Of `peers`: from the broadcaster's own node.
    #[serde(default)]
    pub broadcaster: u64,
    /// Of `peers`: from viewers in the same region.
    #[serde(default)]
    pub same_region: u64,
}

/// See [`Stats::sent`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub struct Sent {
    /// To other viewers.
    pub peers: u64,
}

/// See [`Stats::stalls`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
pub struct Stalls {
    /// How many.
    pub count: u64,
    /// How long in all.
    pub seconds: f64,
}

impl Stats {
    /// Reads the body of `/api/stats`.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn parse(json: &str) -> Result<Self> {
        serde_json::from_str(json).with_context(|| format!("/api/stats is not as documented: {json}"))
    }
}

impl Received {
    /// All media bytes that arrived.
    pub fn all(self) -> u64 {
        self.peers + self.origin
    }

    /// Bytes that came from other viewers, not from the broadcaster or a CDN.
    pub fn viewers(self) -> u64 {
        self.peers.saturating_sub(self.broadcaster)
    }

    /// Bytes the broadcaster or a CDN had to send for this viewer.
    pub fn source(self) -> u64 {
        self.all() - self.viewers()
    }

    /// The part of all bytes that came from other viewers, 0 to 1; 0 if nothing came at all.
    pub fn viewers_share(self) -> f64 {
        if self.all() == 0 { 0.0 } else { self.viewers() as f64 / self.all() as f64 }
    }
}

/// Reads `/api/stats` of the server that `url` is on.
///
/// # Errors
/// If it doesn't answer, or with something else.
pub async fn stats(url: &str) -> Result<Stats> {
    Stats::parse(&text(url, "/api/stats").await?).with_context(|| url.to_owned())
}

/// Reads `/metrics` of the server that `url` is on.
///
/// # Errors
/// If it doesn't answer.
pub async fn metrics(url: &str) -> Result<Metrics> {
    Ok(Metrics::parse(&text(url, "/metrics").await?))
}

/// Reads `url` itself.
///
/// # Errors
/// If it doesn't answer, or not with success.
pub async fn body(url: &str) -> Result<String> {
    let answer = CLIENT.get(url).send().await.with_context(|| format!("asking {url}"))?;
    if !answer.status().is_success() {
        bail!("{url} answers {}", answer.status());
    }
    answer.text().await.with_context(|| format!("reading {url}"))
}

async fn text(base: &str, path: &str) -> Result<String> {
    let url = Url::parse(base).and_then(|base| base.join(path)).with_context(|| format!("{base:?} is no URL"))?;
    body(url.as_str()).await
}

/// The samples of a `/metrics` page.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: String,
    value: f64,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(Sample::parse).collect())
    }

    /// The sum of all samples of this name that carry all these labels; `None` if there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let fits = |sample: &&Sample| {
            sample.name == name && wanted.iter().all(|label| sample.labels.split(',').any(|own| own.trim() == label))
        };
        self.0.iter().filter(fits).map(|sample| sample.value).reduce(|sum, value| sum + value)
    }
}

impl Sample {
    /// `name{key="value",…} number`. Label values with commas or braces don't occur in what we serve.
    fn parse(line: &str) -> Option<Self> {
        let (series, value) = match line.split_once('}') {
            Some((series, value)) => (series, value),
            None => line.split_once(' ')?,
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let value = value.split_ascii_whitespace().next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), labels: labels.to_owned(), value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_label() {
        let text = "# TYPE sent counter\nsent_total{to=\"viewer\",how=\"quic\"} 3\nsent_total{to=\"viewer\",how=\"http\"} 4.5 1700\nup 1\n# EOF\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("sent_total", &[]), Some(7.5));
        assert_eq!(metrics.sum("sent_total", &[("how", "quic")]), Some(3.0));
        assert_eq!(metrics.sum("sent_total", &[("how", "qui")]), None);
        assert_eq!(metrics.sum("up", &[]), Some(1.0));
    }

    #[test]
    fn shares_leave_the_broadcaster_out() {
        let received = Received { peers: 80, origin: 20, broadcaster: 10, same_region: 0 };
        assert_eq!((received.all(), received.viewers(), received.source()), (100, 70, 30));
        assert!((received.viewers_share() - 0.7).abs() < 1e-9);
        assert!(Received::default().viewers_share() < 1e-9);
    }
}
