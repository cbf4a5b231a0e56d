//! The programs of a fleet that serve: what they printed when they were ready, and how to ask them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::Url;
use tokio::time::{Instant, sleep};

use super::{
    Program,
    http::{self, Stats},
};

/// Segments on air before players come: they want three ahead of them, and a live playlist grows in steps of one. Players
/// that come earlier start nearer to the live edge than they would like, and stand still until they are back.
pub const SEGMENTS_FOR_PLAYERS: usize = 6;

/// A running hint server.
pub struct HintServer {
    /// The process.
    pub program: Program,
    /// What `--hint` takes.
    pub hint: String,
    /// The base URL of its status page.
    pub http: String,
}

/// A running broadcaster.
pub struct Broadcast {
    /// The process.
    pub program: Program,
    /// The share link, `starling://…`.
    pub link: String,
    /// Its own HLS playlist.
    pub hls: String,
}

/// A running viewer's node.
pub struct Viewer {
    /// The process.
    pub program: Program,
    /// The playlist it serves to players.
    pub playlist: String,
    /// Its player page, which is also the base URL of its API.
    pub player: String,
}

impl HintServer {
    /// Reads `/metrics`.
    ///
    /// # Errors
    /// If it doesn't answer.
    pub async fn metrics(&self) -> Result<http::Metrics> {
        http::metrics(&self.http).await.context("hint server")
    }
}

impl Broadcast {
    /// Reads `/metrics`.
    ///
    /// # Errors
    /// If it doesn't answer.
    pub async fn metrics(&self) -> Result<http::Metrics> {
        http::metrics(&self.hls).await.context("broadcaster")
    }

    /// Waits until its playlist lists this many segments; [`SEGMENTS_FOR_PLAYERS`] for a fair start.
    ///
    /// # Errors
    /// If there are fewer after `within`.
    pub async fn on_air(&self, segments: usize, within: Duration) -> Result<()> {
        let give_up = Instant::now() + within;
        loop {
            let listed = self.listed_segments().await.unwrap_or(0);
            if listed >= segments {
                return Ok(());
            }
            ensure!(Instant::now() < give_up, "{} lists {listed} segments, not {segments}", self.hls);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn listed_segments(&self) -> Result<usize> {
        let mut playlist = http::body(&self.hls).await?;
        // The first rendition speaks for all.
        if playlist.contains("#EXT-X-STREAM-INF") {
            let media = playlist.lines().find(|line| !line.starts_with('#') && !line.is_empty());
            let url = Url::parse(&self.hls)?.join(media.context("a playlist without renditions")?)?;
            playlist = http::body(url.as_str()).await?;
        }
        Ok(playlist.matches("#EXTINF").count())
    }
}

impl Viewer {
    /// Reads `/api/stats`.
    ///
    /// # Errors
    /// If it doesn't answer, or with something else.
    pub async fn stats(&self) -> Result<Stats> {
        http::stats(&self.player).await.with_context(|| self.program.name().to_owned())
    }
}
