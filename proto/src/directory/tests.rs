//! Behaviour of the whole machine, through its three functions only.

use std::time::Duration;

use bytes::Bytes;

use super::{Config, Directory, Input, Output, Place};
use crate::id::{PeerId, RenditionId, RequestId, StreamId};
use crate::rng::mix;
use crate::time::{Now, WallTime};
use crate::wire::{HintRequest, HintResponse, Role, Roster, Statement, VERSION};

mod hostile;
mod limits;
mod proposals;
mod rosters;

const STREAM: StreamId = StreamId([7; 32]);
const SECOND: Duration = Duration::from_secs(1);

/// A directory, its clock, and the shell's part of signing.
struct World {
    directory: Directory,
    now: Now,
    rosters: Vec<Roster>,
    asked: u64,
}

impl World {
    fn new(config: Config) -> Self {
        let now = Now { wall: WallTime(1_800_000_000_000_000), ..Now::default() };
        Self { directory: Directory::new(config, 1), now, rosters: Vec::new(), asked: 0 }
    }

    fn pass(&mut self, d: Duration) {
        self.now = Now { mono: self.now.mono + d, wall: self.now.wall + d };
    }

    fn feed(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.directory.handle(self.now, input, &mut out);
        out
    }

    fn ask(&mut self, who: u32, request: HintRequest, place: Place) -> HintResponse {
        self.asked += 1;
        let input = Input::Asked { peer: peer(who), id: RequestId(self.asked), request, place };
        let mut answers = Vec::new();
        let mut outputs = self.feed(input);
        while let Some(output) = outputs.pop() {
            match output {
                Output::Answer { id, to, response } => {
                    assert_eq!((id, to), (RequestId(self.asked), peer(who)));
                    answers.push(response);
                }
                Output::SignRoster { stream, roster } => {
                    let bytes = Bytes::from(format!("signed {}", roster.term));
                    self.rosters.push(roster);
                    outputs.extend(self.feed(Input::RosterSigned { stream, bytes }));
                }
            }
        }
        assert_eq!(answers.len(), 1, "each request has exactly one answer");
        answers.pop().expect("just counted")
    }

    fn ask_from(&mut self, who: u32, region: &str, uplink_mbps: u64) -> HintResponse {
        self.ask(who, HintRequest { region: region.to_owned(), ..request(uplink_mbps) }, Place::default())
    }

    fn viewers(&self) -> usize {
        self.directory.streams().iter().map(|stream| stream.viewers).sum()
    }
}

fn peer(n: u32) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&mix(u64::from(n)).to_be_bytes());
    bytes[28..].copy_from_slice(&n.to_be_bytes());
    PeerId(bytes)
}

fn number(peer: PeerId) -> u32 {
    u32::from_be_bytes([peer.0[28], peer.0[29], peer.0[30], peer.0[31]])
}

fn request(uplink_mbps: u64) -> HintRequest {
    HintRequest {
        versions: vec![VERSION],
        stream: STREAM,
        role: Role::Viewer,
        region: String::new(),
        uplink_bps: uplink_mbps * 1_000_000,
        renditions: vec![RenditionId(0)],
        addrs: vec![Bytes::from_static(b"address")],
        neighbours: 8,
        leaving: false,
    }
}

fn config() -> Config {
    Config::new(PeerId([9; 32]))
}

/// `n` viewers who all ask three times, ten seconds apart; returns the last answers.
fn settle(
    world: &mut World,
    n: u32,
    region: impl Fn(u32) -> &'static str,
    uplink: impl Fn(u32) -> u64,
) -> Vec<HintResponse> {
    let mut last = Vec::new();
    for _ in 0..3 {
        last = (0..n).map(|who| world.ask_from(who, region(who), uplink(who))).collect();
        world.pass(10 * SECOND);
    }
    last
}

fn east_west(who: u32) -> &'static str {
    if who.is_multiple_of(2) { "eu-west" } else { "NA-East" }
}
