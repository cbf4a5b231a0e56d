//! The command line: what can be asked of this program, and how values are written.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use libp2p::Multiaddr;

use crate::link::{Link, hint_address};
use crate::probe;

/// Live video that its viewers carry.
///
/// Broadcasters run `starling broadcast`, send people the link it prints, and viewers run `starling watch LINK` and open
/// the address it prints in a browser or any player. See what it does without anything else: `starling broadcast test`.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What this program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Sends a live stream to viewers, and prints the link to share
    Broadcast(BroadcastArgs),
    /// Watches a stream: joins the other viewers and serves the picture to a player on this machine
    Watch(WatchArgs),
    /// Plays any HLS address without showing it, and measures what a viewer would see
    Probe(probe::Args),
}

/// How encoders push.
const PUSH_HELP: &str = "\
Pushing: `starling broadcast push` prints `push URL`; the URL holds the key (--push-key-file). Who prefers can leave the
key out of it and send it as password (http://any:KEY@HOST:PORT/ingest/) or as bearer token.

  Low latency (CMAF, sent while it is encoded; keyframes every 2 s):
    ffmpeg -re -i INPUT -c:v libx264 -tune zerolatency -g 50 -c:a aac -f dash -streaming 1 -ldash 1 \\
      -seg_duration 2 -frag_type duration -frag_duration 0.2 -http_persistent 1 -method PUT URLlive.mpd

  HLS, MPEG-TS or fMP4 segments (add -hls_segment_type fmp4):
    ffmpeg -re -i INPUT -c:v libx264 -g 50 -c:a aac -f hls -hls_time 2 -hls_list_size 6 \\
      -hls_flags delete_segments+program_date_time -http_persistent 1 -method PUT URLindex.m3u8

  Several qualities: add -master_pl_name master.m3u8 -var_stream_map '...' and push to URLstream_%v.m3u8.

When the encoder stops the stream pauses; it goes on when it, or another, pushes again.";

/// Options of `starling broadcast`.
///
/// INPUT is `test` for a built-in moving picture with a clock, `push` for an encoder that sends its stream here, or the
/// address of any live HLS playlist. With a playlist, viewers take first copies from the server it is on (see --origin) and
/// this program sends announcements only.
///
/// The link is printed at once and stays the same as long as key, name and addresses do. Send it before the encoder runs, if
/// you like: viewers wait for the picture.
#[derive(Debug, Args)]
#[command(after_long_help = PUSH_HELP)]
pub struct BroadcastArgs {
    /// `test`, `push`, or http(s)://…/something.m3u8
    #[arg(env = "STARLING_INPUT")]
    pub input: String,

    /// Name of the stream, shown to viewers
    #[arg(long, env = "STARLING_NAME", default_value = "live")]
    pub name: String,

    /// Address of a hint server, as it prints it; repeat for several
    #[arg(long, value_name = "ADDR", env = "STARLING_HINT", value_delimiter = ',', value_parser = parse_hint)]
    pub hint: Vec<Multiaddr>,

    /// Where to listen for viewers' nodes; repeat for several. Port 0: any free one
    #[arg(
        long,
        value_name = "MULTIADDR",
        env = "STARLING_LISTEN",
        value_delimiter = ',',
        default_values = ["/ip4/0.0.0.0/udp/7300/quic-v1", "/ip4/0.0.0.0/tcp/7300"]
    )]
    pub listen: Vec<Multiaddr>,

    /// Where to serve plain HLS for people without Starling and as last resort for those with. Port 0: any free one
    #[arg(long, value_name = "ADDR", env = "STARLING_HTTP", default_value = "0.0.0.0:7380")]
    pub http: SocketAddr,

    /// Where viewers take first copies and missing pieces from: `here` for this program's own HTTP server, or the address of
    /// the playlist on a CDN. Default: INPUT if it is an address, else `here`. With a CDN, announcements only are sent from here
    #[arg(long, value_name = "URL", env = "STARLING_ORIGIN")]
    pub origin: Option<String>,

    /// Name or address under which viewers reach this machine, if it is behind a router or proxy; goes into the link
    #[arg(long, value_name = "HOST", env = "STARLING_EXTERNAL_HOST")]
    pub external_host: Option<String>,

    /// Rate of the test picture in bits per second, such as 1100k or 2M; several, separated by commas, for several renditions
    #[arg(long, env = "STARLING_BITRATE", value_delimiter = ',', default_value = "2M", value_parser = parse_rate)]
    pub bitrate: Vec<u64>,

    /// Length of the test picture's segments, seconds
    #[arg(long, env = "STARLING_SEGMENT_SECONDS", default_value_t = 2.0)]
    pub segment_seconds: f64,

    /// Low latency: announce the test picture in parts of this length, such as 0.2 seconds; 0 for whole segments only
    #[arg(long, env = "STARLING_PART_SECONDS", default_value_t = 0.0)]
    pub part_seconds: f64,

    /// Where `push` listens for encoders. Only this machine can reach the default. The key crosses the network in the clear:
    /// for another address put a TLS proxy in front, or use it in a network you trust. Port 0: any free one
    #[arg(long, value_name = "ADDR", env = "STARLING_PUSH_LISTEN", default_value = "127.0.0.1:8935")]
    pub push_listen: SocketAddr,

    /// The key encoders need; made if missing: push.key in --data-dir. To choose it yourself write 12 to 128 letters, digits,
    /// - or _ into the file
    #[arg(long, value_name = "FILE", env = "STARLING_PUSH_KEY_FILE")]
    pub push_key_file: Option<PathBuf>,

    /// The stream's key; made if missing. Keep it: who has it is the broadcaster, and links hold its public half
    #[arg(long, value_name = "FILE", env = "STARLING_KEY_FILE")]
    pub key_file: Option<PathBuf>,

    /// Where keys and state are kept
    #[arg(long, value_name = "DIR", env = "STARLING_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Options of `starling watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The link the broadcaster shared: starling://…
    #[arg(env = "STARLING_LINK")]
    pub link: Link,

    /// Where to serve the player page and the playlist. Only this machine can reach the default. Port 0: any free one
    #[arg(long, value_name = "ADDR", env = "STARLING_HTTP", default_value = "127.0.0.1:7373")]
    pub http: SocketAddr,

    /// Where to listen for other viewers; repeat for several. Port 0: any free one
    #[arg(
        long,
        value_name = "MULTIADDR",
        env = "STARLING_LISTEN",
        value_delimiter = ',',
        default_values = ["/ip4/0.0.0.0/udp/0/quic-v1", "/ip4/0.0.0.0/tcp/0"]
    )]
    pub listen: Vec<Multiaddr>,

    /// Another hint server besides those in the link; repeat for several
    #[arg(long, value_name = "ADDR", env = "STARLING_HINT", value_delimiter = ',', value_parser = parse_hint)]
    pub hint: Vec<Multiaddr>,

    /// Upload at most this, in bits per second, such as 5M. Default: what the line carries, with a reserve
    #[arg(long, value_name = "RATE", env = "STARLING_UPLOAD_LIMIT", value_parser = parse_rate)]
    pub upload_limit: Option<u64>,

    /// Upload nothing to other viewers
    #[arg(long, env = "STARLING_NO_UPLOAD", conflicts_with = "upload_limit")]
    pub no_upload: bool,

    /// Do not open the player page in a browser
    #[arg(long, env = "STARLING_NO_OPEN")]
    pub no_open: bool,

    /// Where this machine is, for the hint server, such as eu or eu-west; it may know better from the address
    #[arg(long, env = "STARLING_REGION", default_value = "")]
    pub region: String,

    /// Where keys and state are kept; each instance on a machine needs its own
    #[arg(long, value_name = "DIR", env = "STARLING_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Reads a rate in bits per second: digits, with k, M or G for thousands, millions, thousands of millions.
///
/// # Errors
/// A text that says how rates are written.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 1e3),
        Some((at, 'm' | 'M')) => (&text[..at], 1e6),
        Some((at, 'g' | 'G')) => (&text[..at], 1e9),
        Some(_) | None => (text, 1.0),
    };
    let rate: f64 = digits.trim().parse().map_err(|_| format!("{text:?} is not a rate; write 1100k, 2M or 1500000"))?;
    if rate.is_finite() && (1.0..=1e11).contains(&(rate * factor)) {
        Ok((rate * factor) as u64)
    } else {
        Err(format!("{text:?} is out of range; rates go from 1 to 100G bits per second"))
    }
}

fn parse_hint(text: &str) -> Result<Multiaddr, String> {
    hint_address(text).ok_or_else(|| {
        "a hint server's address ends in /p2p/… : copy what starling-hint-server prints after `hint`".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rates_are_read_as_people_write_them() {
        assert_eq!(parse_rate("1100k"), Ok(1_100_000));
        assert_eq!(parse_rate("1.5M"), Ok(1_500_000));
        assert_eq!(parse_rate("42"), Ok(42));
        for wrong in ["", "k", "-5M", "fast", "1e99", "NaN", "0"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
