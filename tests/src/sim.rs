//! The simulator: the very same `Peer` and `Directory` as in the programs, by the thousand, on a virtual clock.
//!
//! Same scenario and seed, same output, to the byte. What is modelled and not real:
//!
//! | model | where |
//! |---|---|
//! | delays by region, serial uplinks and downlinks, loss as delay, NAT classes, a partition | `network` |
//! | who comes with what uplink and stays how long | `population` |
//! | gossipsub, as hops through a mesh of degree four (held against real nodes by `tests/parity.rs`); also uplinks pass it on that in fact are too narrow to | `world/gossip` |
//! | the origin's HTTP server, connections, control messages | `world/traffic`, `world/contact` |
//! | players: hold back three segments, fetch in order, stall when dry | `player` |

pub mod compare;
pub mod network;
pub mod player;
pub mod population;
pub mod queue;
pub mod report;
pub mod scenario;
pub mod table;
pub mod tally;
pub mod world;

pub use report::Report;
pub use scenario::Scenario;
pub use table::Table;
pub use world::World;
