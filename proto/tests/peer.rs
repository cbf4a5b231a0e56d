//! The peer machine through its public surface: small worlds in memory, a virtual clock, and hostile input.
#![allow(clippy::unwrap_used)]

#[path = "peer/clocks.rs"]
mod clocks;
#[path = "peer/contact.rs"]
mod contact;
#[path = "peer/cut_off.rs"]
mod cut_off;
#[path = "peer/hostile.rs"]
mod hostile;
#[path = "peer/parts.rs"]
mod parts;
#[path = "peer/rig.rs"]
mod rig;
#[path = "peer/roots.rs"]
mod roots;
#[path = "peer/serving.rs"]
mod serving;
#[path = "peer/supply.rs"]
mod supply;
#[path = "peer/swarm.rs"]
mod swarm;
#[path = "peer/whole.rs"]
mod whole;
