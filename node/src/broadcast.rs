//! `starling broadcast`: input → publisher → mesh, with a plain HTTP server beside.

pub mod publisher;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use starling_proto::wire::MAX_TEXT_LEN;
use starling_proto::{Config, Epoch};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use url::Url;

use crate::cli::BroadcastArgs;
use crate::clock::wall_now;
use crate::data_dir::{self, DataDir};
use crate::gateway::playback::Playback;
use crate::ingest::push::{self, PushKey};
use crate::ingest::{Ingested, pull, test_picture};
use crate::link::Link;
use crate::media::Media;
use crate::net::{Driver, Heard, Produced, Setup, Wires, swarm};
use crate::origin_server::{OriginServer, Served};
use crate::stats::Stats;
use crate::stop::signalled;
use crate::{identity, metrics, os, statement};
use publisher::Publisher;

/// Media kept for viewers and players, and the most bytes of it.
const WINDOW: Duration = Duration::from_secs(30);
const MEDIA_BYTES_MAX: usize = 256 << 20;
/// Segments that may wait for the mesh: an input far ahead of it waits itself.
const QUEUE: usize = 16;
/// When the catalogue is said again after the start, for those who connect meanwhile; then every [`REPEAT_EVERY`].
const REPEAT_FIRST: Duration = Duration::from_secs(2);
const REPEAT_EVERY: Duration = Duration::from_secs(60);
/// How long after the signal everything must have ended.
const GRACE: Duration = Duration::from_millis(1500);

/// Broadcasts until `shutdown`.
///
/// # Errors
/// Anything that keeps it from starting, and an input that can't be read; each says what to do.
pub async fn run(args: BroadcastArgs, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    anyhow::ensure!(
        !args.name.is_empty() && args.name.len() <= MAX_TEXT_LEN,
        "--name must have 1 to {MAX_TEXT_LEN} bytes"
    );
    let dir = DataDir::open(&args.data_dir.clone().unwrap_or_else(|| os::state_dir().join("broadcast")))?;
    let key = data_dir::key(&args.key_file.clone().unwrap_or_else(|| dir.file("stream.key")))?;
    let id = identity::of(&key).context("the stream key is not an Ed25519 key; make a new one")?;
    let stream = statement::stream_id(&id, &args.name);
    let input = Input::parse(&args.input)?;
    let place = Place::parse(args.origin.as_deref(), &input)?;
    let http = TcpListener::bind(args.http).await.with_context(|| {
        format!(
            "can't serve HTTP at {} (is the port in use? give another with --http, port 0 for any free one)",
            args.http
        )
    })?;
    let hls = hls_url(http.local_addr()?, args.external_host.as_deref())?;
    let push = match input {
        Input::Push => Some(endpoint(&args, &dir).await?),
        Input::Test | Input::Pull(_) => None,
    };
    let media = Arc::new(Media::new(WINDOW, MEDIA_BYTES_MAX));
    let mut config = Config::source(stream, id);
    config.upload = place == Place::Here;
    let setup = Setup {
        stream_key: identity::public_key(&key.public().to_peer_id()).context("the stream key is not an Ed25519 key")?,
        key: key.clone(),
        stream,
        name: args.name.clone(),
        config,
        listen: args.listen.clone(),
        source: Vec::new(),
        hints: args.hint.clone(),
        media: media.clone(),
        origin: None,
    };
    let (driver, listening) = Driver::new(setup).await?;
    let link = Link {
        key: key.public().to_peer_id(),
        name: args.name.clone(),
        origin: match &place {
            Place::Here => hls.clone(),
            Place::Elsewhere(url) => url.clone(),
        },
        at: reachable(&listening, args.external_host.as_deref()),
        hints: args.hint.clone(),
    };
    // At once, before anything of the input was read: the link holds whatever the source does, and people are sent it before
    // the encoder runs. A source that stays dead ends this program with an error (`pull`).
    println!("link {link}");
    println!("hls {hls}");
    if let Some(push) = &push {
        let address = push.address()?;
        // The proxy or router that the host name leads to knows nothing of what only this machine can reach.
        let host = host(address, args.external_host.as_deref().filter(|_| !address.ip().is_loopback()));
        println!("push {}", push.url(&host).context("--external-host is not a host name or address")?);
    }

    let (produced_tx, produced) = mpsc::channel(QUEUE);
    let (stats_tx, stats) = watch::channel(Stats::default());
    let (epoch, noted) = data_dir::epoch(&dir.file("epoch"), u64::try_from(wall_now().0 / 1000).unwrap_or(1).max(1));
    if let Err(error) = noted {
        tracing::warn!(%error, "can't note this start in the data directory; if the clock is set back before the next, viewers won't follow");
    }
    let own_origin = place == Place::Here || !matches!(input, Input::Pull(_));
    let mut publisher = Publisher::new(Some(key), stream, args.name.clone(), Epoch(epoch), own_origin);
    publisher.serve(place == Place::Here);
    let (stop, stopped) = watch::channel(false);
    let (demands, commands) = (mpsc::channel(1).1, mpsc::channel(1).1);
    let playback = Box::new(Playback::default);
    let heard = watch::channel(Heard::default()).0;
    let wires = Wires { demands, commands, produced, stats: stats_tx, heard, playback };
    let served = Served::default();
    let server = OriginServer::new(media, broadcaster_metrics(stats, served.clone()), served);
    let mut tasks = JoinSet::new();
    tasks.spawn(driver.run(wires, signalled(stopped.clone())));
    let http_stop = signalled(stopped.clone());
    tasks.spawn(async move { server.serve(http, http_stop).await.context("the HTTP server failed") });
    tasks.spawn(ingest((input, push), args, publisher, produced_tx, signalled(stopped)));
    let result = tokio::select! {
        () = shutdown => Ok(()),
        Some(ended) = tasks.join_next() => ended.context("a task failed").and_then(|result| result),
    };
    stop.send_replace(true);
    let _ = tokio::time::timeout(GRACE, async { while tasks.join_next().await.is_some() {} }).await;
    drop(dir);
    result
}

/// What INPUT says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Input {
    Push,
    Pull(Url),
    Test,
}

/// Where first copies come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Here,
    Elsewhere(Url),
}

impl Input {
    fn parse(text: &str) -> anyhow::Result<Self> {
        match text {
            "push" => return Ok(Self::Push),
            "test" => return Ok(Self::Test),
            _ => {}
        }
        let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        url.map(Self::Pull).with_context(|| {
            format!("INPUT must be `test`, `push` or the http(s) address of a live HLS playlist (….m3u8), not {text:?}")
        })
    }
}

impl Place {
    fn parse(origin: Option<&str>, input: &Input) -> anyhow::Result<Self> {
        match (origin, input) {
            (Some("here"), _) | (None, Input::Test | Input::Push) => Ok(Self::Here),
            (None, Input::Pull(url)) => Ok(Self::Elsewhere(url.clone())),
            (Some(text), _) => {
                let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
                url.map(Self::Elsewhere)
                    .with_context(|| format!("--origin must be `here` or an http(s) address, not {text:?}"))
            }
        }
    }
}

/// Runs the input and publishes what it delivers, until it ends.
async fn ingest(
    (input, push): (Input, Option<push::Endpoint>),
    args: BroadcastArgs,
    mut publisher: Publisher,
    produced: mpsc::Sender<Produced>,
    stopped: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (events_tx, mut events) = mpsc::channel(QUEUE);
    let source = async {
        match input {
            Input::Test => {
                let segment = Duration::try_from_secs_f64(args.segment_seconds).unwrap_or_default();
                let part = (args.part_seconds != 0.0)
                    .then(|| Duration::try_from_secs_f64(args.part_seconds).unwrap_or_default());
                let options = test_picture::Options {
                    title: args.name.clone(),
                    bitrates_bps: args.bitrate.clone(),
                    segment,
                    part,
                };
                test_picture::run(options, events_tx).await.map_err(anyhow::Error::from)
            }
            Input::Pull(url) => pull::run(url, events_tx, std::future::pending()).await.map_err(anyhow::Error::from),
            Input::Push => {
                let endpoint = push.context("nothing listens for a push")?;
                let pushed = endpoint.run(push::PART_MAX, events_tx, std::future::pending());
                pushed.await.context("the HTTP server for pushes failed")
            }
        }
    };
    let publish = async {
        let mut repeat = tokio::time::interval_at(tokio::time::Instant::now() + REPEAT_FIRST, REPEAT_EVERY);
        loop {
            let batch = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => {
                        let over = matches!(event, Ingested::Ended);
                        if over {
                            tracing::info!("the source has ended the stream");
                        }
                        publisher.publish(event)
                    }
                    None => return,
                },
                _ = repeat.tick() => publisher.repeat().map(|produced| produced.into_iter().collect()),
            };
            match batch {
                Ok(batch) => {
                    for item in batch {
                        if produced.send(item).await.is_err() {
                            return;
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "not published"),
            }
        }
    };
    let mut stopped = std::pin::pin!(stopped);
    let (source, _) = tokio::select! {
        both = async { tokio::join!(source, publish) } => both,
        () = &mut stopped => return Ok(()),
    };
    source.context("the input can't be read")?;
    // The programme is over; what is left of it stays available until somebody ends us.
    stopped.await;
    Ok(())
}

/// Where encoders push to.
async fn endpoint(args: &BroadcastArgs, dir: &DataDir) -> anyhow::Result<push::Endpoint> {
    let key = PushKey::load(&args.push_key_file.clone().unwrap_or_else(|| dir.file("push.key")))?;
    push::Endpoint::bind(args.push_listen, key).await.with_context(|| {
        format!(
            "can't listen for a push at {} (is the port in use? give another with --push-listen, port 0 for any free one)",
            args.push_listen
        )
    })
}

fn hls_url(bound: SocketAddr, external: Option<&str>) -> anyhow::Result<Url> {
    let host = host(bound, external);
    Url::parse(&format!("http://{host}/index.m3u8"))
        .with_context(|| format!("--external-host {host} is not a host name or address"))
}

/// Host and port under which others reach a socket bound here.
fn host(bound: SocketAddr, external: Option<&str>) -> String {
    match external {
        Some(host) => format!("{host}:{}", bound.port()),
        None if bound.ip().is_unspecified() => SocketAddr::new(os::outward_address(), bound.port()).to_string(),
        None => bound.to_string(),
    }
}

/// The addresses worth putting into a link, at `external` if that is where others find them.
fn reachable(listening: &[Multiaddr], external: Option<&str>) -> Vec<Multiaddr> {
    if let Some(host) = external {
        let first = host.parse::<IpAddr>().map_or_else(|_| Protocol::Dns(host.into()), Protocol::from);
        let moved = listening.iter().map(|address| {
            let rest = address.iter().skip(1);
            std::iter::once(first.clone()).chain(rest).collect::<Multiaddr>()
        });
        let mut moved: Vec<_> = moved.collect();
        moved.dedup();
        return moved;
    }
    swarm::outward(listening.iter())
}

fn broadcaster_metrics(stats: watch::Receiver<Stats>, served: Served) -> crate::hls::Metrics {
    Arc::new(move |out| {
        let mut registry = Registry::with_prefix("starling");
        served.register(&mut registry);
        metrics::register(&mut registry, &stats.borrow());
        encode(out, &registry)
    })
}
