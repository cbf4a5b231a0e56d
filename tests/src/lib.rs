//! The simulator, the fleet of real processes, and every test that crosses crates.

pub mod bench;
pub mod fleet;
pub mod sim;
