//! The simulator: the very same `Peer` and `Directory` as in the programs, by the thousand, on a virtual clock.
//!
//! Same scenario and seed, same output, to the byte. What is modelled and not real: the network (delays by region, serial
//! uplinks and downlinks), gossipsub (a delay per hop; the parity test holds it against real nodes), the origin's HTTP
//! server, and the players (hold back three segments, fetch in order, stall when dry).

pub mod network;
pub mod player;
pub mod report;
pub mod scenario;
pub mod world;

pub use report::Report;
pub use scenario::Scenario;
pub use world::World;
