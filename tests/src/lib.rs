//! The simulator, the fleet of real processes, the network lab, and every test that crosses crates.

pub mod bench;
pub mod fleet;
pub mod lab;
pub mod sim;
