//! HLS over HTTP: what players are told, under which names, and how the bytes reach them.
//!
//! [`window`] chooses the segments to list, [`playlist`] writes them down, [`name`] gives every file its name;
//! [`range`], [`reply`], [`body`] and [`connection`] are the HTTP side. The viewer's gateway and the broadcaster's
//! origin server are both made of these.

pub mod body;
pub mod connection;
pub mod directives;
mod keys;
pub mod name;
pub mod parts;
pub mod playlist;
pub mod range;
pub mod reply;
#[cfg(test)]
pub(crate) mod samples;
pub mod window;

use std::fmt;
use std::sync::Arc;

/// Writes all metrics in the OpenMetrics text format; `prometheus_client::encoding::text::encode` in most cases.
pub type Metrics = Arc<dyn Fn(&mut String) -> fmt::Result + Send + Sync>;
