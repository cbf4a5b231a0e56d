//! HTTP to programs in a namespace, from outside: a connection opened inside serves anybody who holds it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use reqwest::Url;
use tokio::task::spawn_blocking;

use crate::fleet::{http::Stats, namespace::Namespace};

/// As for any answer of a fleet's program: long enough for a machine that runs two hundred of them.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// No answer asked for here is nearly as large.
const ANSWER_MAX: u64 = 4 << 20;

/// Reads `/api/stats` of the viewer's node in this namespace, whose player page is `page`.
///
/// # Errors
/// If it doesn't answer, or with something else.
pub(super) async fn stats(inside: &Namespace, page: &str) -> Result<Stats> {
    Stats::parse(&body(inside, page, "/api/stats").await?)
}

/// How many segments the playlist at `url` lists; of a multivariant one, its first rendition.
///
/// # Errors
/// If it isn't to be had.
pub(super) async fn listed_segments(inside: &Namespace, url: &str) -> Result<usize> {
    let mut playlist = body(inside, url, "").await?;
    if playlist.contains("#EXT-X-STREAM-INF") {
        let media = playlist.lines().find(|line| !line.starts_with('#') && !line.is_empty());
        playlist = body(inside, url, media.context("a playlist without renditions")?).await?;
    }
    Ok(playlist.matches("#EXTINF").count())
}

async fn body(inside: &Namespace, base: &str, path: &str) -> Result<String> {
    let url = Url::parse(base).and_then(|base| base.join(path)).with_context(|| format!("{base:?} is no URL"))?;
    let inside = inside.clone();
    let told = url.to_string();
    spawn_blocking(move || inside.enter(move || get(&url))?).await?.with_context(|| format!("asking {told}"))
}

/// By HTTP/1.0, which has no chunks and closes the connection at the end.
fn get(url: &Url) -> Result<String> {
    let host = url.host_str().context("no host")?;
    let ip: IpAddr = host.parse().unwrap_or(Ipv4Addr::LOCALHOST.into());
    let address = SocketAddr::new(ip, url.port_or_known_default().context("no port")?);
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    write!(stream, "GET {} HTTP/1.0\r\nHost: {host}:{}\r\n\r\n", url.path(), address.port())?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split_ascii_whitespace().nth(1).unwrap_or("nothing");
    if status != "200" {
        bail!("it answers {status}");
    }
    Ok(body.to_owned())
}
