//! The player page in a real browser: it plays, shows the picture as late as it says, and its switch works. And a page of
//! somebody else's, which plays the same playlist in another player, Shaka Player.
//!
//! Needs Chromium (or Chrome) and ChromeDriver, as Debian's packages `chromium` and `chromium-driver` bring them, a
//! `starling` built with its player (`scripts/web`), and Shaka Player (`npm ci` in tests/page).

#[path = "page/base64.rs"]
mod base64;
#[path = "page/browser.rs"]
mod browser;
#[path = "page/shaka.rs"]
mod shaka;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Value, json};
use starling_node::picture::strip;
use starling_tests::fleet::{Binaries, Broadcast, Common, Fleet, HintServer, Probe, Viewer, WatchOptions, http};
use tokio::time::{Instant, sleep};

use self::{browser::Browser, shaka::Shaka};

/// How long the picture is looked at.
const WATCHED: Duration = Duration::from_secs(20);
/// The least the playhead must move in that time, seconds: all of it but a twentieth, for a sampler that wakes up late.
const ADVANCE_MIN: f64 = 19.0;
/// The longest the playhead may stand still, seconds. A guess: two late wake-ups of the sampler.
const STANDSTILL_MAX: f64 = 1.0;
/// What is too late for a live stream, seconds. A guess: twice what this test measures, 7 s.
const LATENCY_MAX: f64 = 15.0;
/// The same in low latency, where it measures 2 s.
const LOW_LATENCY_MAX: f64 = 4.0;
/// How far the clock in the picture may be from the date the player computes for it, seconds.
const DATE_ERROR_MAX: f64 = 1.0;
/// For what takes seconds at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// What `page/playback.js` saw.
#[derive(Debug, Deserialize)]
struct Playback {
    /// Between the first and the last sample, seconds.
    wall: f64,
    /// How far the playhead came, seconds.
    advance: f64,
    /// The longest time without progress, seconds.
    standstill: f64,
    /// Everything that must not happen to a player.
    events: Vec<String>,
}

/// What `page/picture.js` drew.
#[derive(Deserialize)]
struct Picture {
    width: usize,
    height: usize,
    /// Base64 of one byte a pixel.
    gray: String,
    /// The browser's clock when it was drawn, ms since 1970.
    drawn: f64,
    /// The player's date of the same picture, ms since 1970.
    date: f64,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_plays_live_and_its_switch_stops_sharing() -> Result<()> {
    shown_in_a_browser("page.png", None, LATENCY_MAX).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_plays_in_low_latency() -> Result<()> {
    shown_in_a_browser("page-low-latency.png", Some(0.2), LOW_LATENCY_MAX).await
}

#[tokio::test(flavor = "multi_thread")]
async fn shaka_player_plays_in_low_latency() -> Result<()> {
    let stage = Stage::set(Some(0.2)).await?;
    let shaka = Shaka::serve().await?;
    let browser = Browser::start().await?;
    browser.open(&shaka.playing(&stage.viewer.playlist)?).await?;
    let checked = async {
        plays_steadily(&browser).await?;
        shows_what_it_says(&browser, LOW_LATENCY_MAX).await
    };
    seen("shaka-low-latency.png", &browser, checked.await).await?;
    stage.strike().await
}

async fn shown_in_a_browser(screenshot: &str, part_seconds: Option<f64>, latency_max: f64) -> Result<()> {
    let stage = Stage::set(part_seconds).await?;
    let browser = Browser::start().await?;
    browser.open(&stage.viewer.player).await?;
    let checked = check(&browser, &stage.viewer, latency_max).await;
    seen(screenshot, &browser, checked).await?;
    stage.strike().await
}

/// A broadcast with two viewers: one for the browser, one whose player runs beside it.
struct Stage {
    viewer: Viewer,
    probe: Probe,
    // In this order: the fleet keeps the files of its programs.
    _programs: (HintServer, Broadcast, Viewer),
    _fleet: Fleet,
}

impl Stage {
    async fn set(part_seconds: Option<f64>) -> Result<Self> {
        let fleet = Fleet::new(Binaries::find()?)?;
        let (hint, broadcast) = fleet.on_air(part_seconds).await?;
        let viewer = fleet.watch(&broadcast.link, &WatchOptions::default()).await?;
        let other = fleet.watch(&broadcast.link, &WatchOptions::default()).await?;
        let probe = fleet.probe(&other.playlist, None, &Common::default())?;
        other_plays(&probe).await?;
        Ok(Self { viewer, probe, _programs: (hint, broadcast, other), _fleet: fleet })
    }

    /// Ends it all.
    ///
    /// # Errors
    /// If the other viewer's player didn't play to the end.
    async fn strike(mut self) -> Result<()> {
        let report = self.probe.stop(PATIENCE).await?;
        ensure!(report.error.is_none(), "the other viewer's player ended early: {report:?}");
        Ok(())
    }
}

/// Passes on what was found, after a screenshot: whatever fails, what the page looked like says most.
async fn seen(screenshot: &str, browser: &Browser, checked: Result<()>) -> Result<()> {
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join(screenshot);
    fs::write(&screenshot, browser.screenshot().await?)?;
    println!("screenshot: {}", screenshot.display());
    checked
}

async fn check(browser: &Browser, viewer: &Viewer, latency_max: f64) -> Result<()> {
    plays_steadily(browser).await?;
    shows_what_it_says(browser, latency_max).await?;
    page_tells(browser, "#lag", " s").await?;
    page_tells(browser, "#share", "uploading").await?;
    for (enabled, sharing) in [(false, "not sharing"), (true, "uploading")] {
        browser.click("#switch").await?;
        upload_becomes(viewer, enabled).await?;
        page_tells(browser, "#share", sharing).await?;
    }
    let complaints = browser.complaints().await?;
    ensure!(complaints.is_empty(), "the page's console has errors: {complaints:?}");
    Ok(())
}

/// Waits for the first picture, then watches the playhead.
async fn plays_steadily(browser: &Browser) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    let playing = "return (window.starling?.hls || window.starling?.shaka) && starling.video.currentTime > 0";
    while browser.run(playing, json!([])).await? != json!(true) {
        if Instant::now() >= give_up {
            let page = browser.run("return document.body.innerText", json!([])).await?;
            let page = page.as_str().unwrap_or_default();
            let complaints = browser.complaints().await?;
            bail!(
                "no picture (was starling built with its player, by scripts/web?); the page says:\n{page}\n{complaints:?}"
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
    let playback: Playback =
        answer(browser.wait_for(include_str!("page/playback.js"), json!([WATCHED.as_secs_f64()])).await?)?;
    println!("{playback:?}");
    ensure!(playback.events.is_empty(), "the player was disturbed: {playback:?}");
    ensure!(playback.standstill < STANDSTILL_MAX, "the picture stood still: {playback:?}");
    ensure!(playback.advance >= ADVANCE_MIN, "the picture fell behind: {playback:?}");
    ensure!(playback.advance <= playback.wall + STANDSTILL_MAX, "the picture jumped ahead: {playback:?}");
    Ok(())
}

/// Reads the clock in the picture: true latency, from capture to screen, and whether the player, and thus the page, knows it.
async fn shows_what_it_says(browser: &Browser, latency_max: f64) -> Result<()> {
    let picture: Picture = answer(browser.run(include_str!("page/picture.js"), json!([])).await?)?;
    let gray = base64::decode(&picture.gray).context("the page's pixels are no base64")?;
    let captured = strip::decode(picture.width, picture.height, &gray)? as f64;
    let latency = (picture.drawn - captured) / 1000.0;
    let by_date = (picture.drawn - picture.date) / 1000.0;
    println!("latency {latency:.2} s by the clock in the picture, {by_date:.2} s by the player");
    ensure!(latency > 0.0 && latency < latency_max, "latency {latency} s by the clock in the picture");
    ensure!((latency - by_date).abs() < DATE_ERROR_MAX, "latency {latency} s, but {by_date} s by the player");
    Ok(())
}

/// Waits until the text of an element contains `words`.
async fn page_tells(browser: &Browser, selector: &str, words: &str) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    loop {
        let text = browser.run("return document.querySelector(arguments[0]).textContent", json!([selector])).await?;
        if text.as_str().is_some_and(|text| text.contains(words)) {
            return Ok(());
        }
        ensure!(Instant::now() < give_up, "{selector} says {text}, not {words:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn upload_becomes(viewer: &Viewer, enabled: bool) -> Result<()> {
    let stats = Url::parse(&viewer.player)?.join("/api/stats")?;
    let give_up = Instant::now() + PATIENCE;
    loop {
        let stats: Value = serde_json::from_str(&http::body(stats.as_str()).await?)?;
        if stats["upload"]["enabled"] == json!(enabled) {
            return Ok(());
        }
        ensure!(Instant::now() < give_up, "upload.enabled doesn't become {enabled}: {stats}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn other_plays(probe: &Probe) -> Result<()> {
    let give_up = Instant::now() + PATIENCE;
    while !probe.has_played() {
        ensure!(Instant::now() < give_up, "the other viewer doesn't play:\n{}", probe.program.log());
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

fn answer<T: for<'a> Deserialize<'a>>(value: Value) -> Result<T> {
    let told = format!("the page's script returned {value:.300}");
    serde_json::from_value(value).context(told)
}
