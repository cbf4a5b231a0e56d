//! `starling`: broadcast, watch and measure live video that its viewers carry. IO only: what is decided is decided in
//! [`starling_proto`].

mod boxes;
pub mod broadcast;
pub mod cli;
pub mod clock;
pub mod data_dir;
pub mod gateway;
pub mod hls;
pub mod identity;
pub mod ingest;
pub mod link;
pub mod media;
pub mod metrics;
pub mod net;
pub mod origin;
pub mod origin_server;
pub mod os;
pub mod picture;
pub mod probe;
pub mod statement;
pub mod stats;
mod stop;
pub mod watch;

/// How this program introduces itself.
pub const AGENT: &str = concat!("starling/", env!("CARGO_PKG_VERSION"));
