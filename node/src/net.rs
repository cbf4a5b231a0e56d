//! Where the protocol meets the network: [`Driver`] turns what sockets, players and inputs bring into
//! [`starling_proto::Input`]s and carries out the outputs. It decides nothing.
//!
//! | file | what |
//! |---|---|
//! | `swarm`, `codec` | libp2p: protocols, limits, framing |
//! | `exchange` | questions and answers on streams that are kept |
//! | `dial` | which addresses are tried first |
//! | `driver` | the loop |
//! | `events` | libp2p events → inputs |
//! | `outputs` | outputs → libp2p calls |
//! | `statements` | signed statements and unproven chunks on their way into the store |
//! | `heard` | whether the broadcaster is still there |
//! | `strangers` | peers of another version |
//! | `fetch` | from the origin: statements to begin with; byte ranges, cut into chunks and checked |

mod codec;
mod dial;
mod driver;
mod events;
mod exchange;
mod fetch;
mod heard;
mod outputs;
mod riders;
mod statements;
mod strangers;
pub(crate) mod swarm;

pub use driver::{Driver, Produced, Said, Setup, Wires};
pub use heard::Heard;
