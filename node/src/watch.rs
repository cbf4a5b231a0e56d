//! `starling watch`: joins the mesh and serves the picture to players on this machine.

mod fallback;

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use starling_proto::Config;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::cli::WatchArgs;
use crate::data_dir::{self, DataDir};
use crate::gateway::{Gateway, Wiring};
use crate::media::Media;
use crate::net::{Driver, Heard, Setup, Wires};
use crate::origin::Origin;
use crate::stats::Stats;
use crate::stop::signalled;
use crate::{identity, metrics, os, statement};

/// Media kept for neighbours and for players that rewind, and the most bytes of it: a viewer stays small.
const WINDOW: Duration = Duration::from_secs(30);
const MEDIA_BYTES_MAX: usize = 64 << 20;
/// Requests of players that may wait for the driver.
const DEMANDS: usize = 64;
/// How long after the signal everything must have ended.
const GRACE: Duration = Duration::from_millis(1500);

/// Watches until `shutdown`.
///
/// # Errors
/// Anything that keeps it from starting; each says what to do.
pub async fn run(args: WatchArgs, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let dir = DataDir::open(&args.data_dir.clone().unwrap_or_else(|| os::state_dir().join("watch")))?;
    let key = data_dir::key(&dir.file("viewer.key"))?;
    let source = identity::to_proto(&args.link.key).context("the link's stream key is damaged; copy the link again")?;
    let stream = statement::stream_id(&source, &args.link.name);
    let http = TcpListener::bind(args.http).await.with_context(|| {
        format!(
            "can't serve players at {} (is the port in use? give another with --http, port 0 for any free one)",
            args.http
        )
    })?;
    let bound = http.local_addr()?;
    let media = Arc::new(Media::new(WINDOW, MEDIA_BYTES_MAX));
    let origin = Arc::new(Origin::new(args.link.origin.clone())?);
    let mut config = Config::viewer(stream, source);
    config.region.clone_from(&args.region);
    config.upload = !args.no_upload;
    config.upload_limit_bps = args.upload_limit;
    let hints = args.link.hints.iter().chain(&args.hint).cloned().collect();
    let setup = Setup {
        key,
        stream,
        name: args.link.name.clone(),
        stream_key: identity::public_key(&args.link.key)
            .context("the link's stream key is damaged; copy the link again")?,
        config,
        listen: args.listen.clone(),
        source: args.link.at.clone(),
        hints,
        media: media.clone(),
        origin: Some(origin.clone()),
    };
    let (driver, _) = Driver::new(setup).await?;
    let (stats_tx, stats) = watch::channel(Stats { stream: args.link.name.clone(), ..Stats::default() });
    let (demands_tx, demands) = mpsc::channel(DEMANDS);
    let (commands_tx, commands) = mpsc::channel(8);
    let (produced_tx, produced) = mpsc::channel(16);
    let gateway = Gateway::new(Wiring {
        media: media.clone(),
        stats: stats.clone(),
        demands: demands_tx,
        commands: commands_tx,
        metrics: viewer_metrics(stats),
        key_origins: vec![args.link.origin.origin().ascii_serialization()],
    });
    let players = gateway.clone();
    let playback = Box::new(move || players.playback());
    let (heard_tx, heard) = watch::channel(Heard::default());
    let wires = Wires { demands, commands, produced, stats: stats_tx, heard: heard_tx, playback };
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run(wires, signalled(stopped.clone())));
    let http_stop = signalled(stopped.clone());
    tasks.spawn(async move { gateway.serve(http, http_stop).await.context("the player server failed") });
    let follow = fallback::Fallback { link: args.link.clone(), stream, media, heard, produced: produced_tx };
    let follow = follow.run(signalled(stopped));
    tasks.spawn(async move {
        follow.await;
        std::future::pending().await
    });
    println!("playlist http://{bound}/live/index.m3u8");
    println!("player http://{bound}/");
    if !args.no_open
        && std::io::stdout().is_terminal()
        && let Err(error) = open::that_detached(format!("http://{bound}/"))
    {
        tracing::info!(%error, "can't open a browser; open the player address yourself");
    }
    let result = tokio::select! {
        () = shutdown => Ok(()),
        Some(ended) = tasks.join_next() => ended.context("a task failed").and_then(|result| result),
    };
    stop.send_replace(true);
    let _ = tokio::time::timeout(GRACE, async {
        // The fallback ends with the runtime; driver and gateway end by themselves.
        for _ in 0..2 {
            tasks.join_next().await;
        }
    })
    .await;
    drop(dir);
    result
}

fn viewer_metrics(stats: watch::Receiver<Stats>) -> crate::hls::Metrics {
    Arc::new(move |out| {
        let mut registry = Registry::with_prefix("starling");
        metrics::register(&mut registry, &stats.borrow());
        encode(out, &registry)
    })
}
