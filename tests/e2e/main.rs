//! Real processes, end to end: the programs as they are shipped, driven from outside.
//!
//! Each test has a fleet of its own, on free ports and in a directory of its own. The programs must be there already:
//! `cargo build --workspace --bins`. ffmpeg plays the encoder.

#![allow(clippy::unwrap_used)] // a test says best by panicking

mod bridge;
mod encoder;
mod low_latency;
mod pull;
mod push;
mod seats;
mod stage;
mod swarm;
mod web;
