#![allow(clippy::wildcard_enum_match_arm)] // swarm events are many, non-exhaustive, and few matter

use std::time::Duration;

use futures::StreamExt;
use libp2p::request_response::{self, OutboundFailure, ProtocolSupport};
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use starling_proto::wire::{ControlRequest, ControlResponse};

use super::{Behaviour, Event};
use crate::net::codec::{CONTROL_PROTOCOL, ControlCodec, Overhead};

type Kept = Behaviour<ControlCodec>;
/// libp2p's own: a stream for each question.
type Single = request_response::Behaviour<ControlCodec>;

const LIMIT: Duration = Duration::from_secs(20);

fn codec() -> ControlCodec {
    ControlCodec::new(Overhead::default())
}

fn swarm<B: NetworkBehaviour>(behaviour: impl FnOnce(libp2p::PeerId) -> B) -> Swarm<B> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .expect("tcp")
        .with_quic()
        .with_behaviour(|key| behaviour(key.public().to_peer_id()))
        .expect("behaviour")
        .with_swarm_config(|config| {
            config.with_substream_upgrade_protocol_override(libp2p::core::upgrade::Version::V1Lazy)
        })
        .build()
}

fn kept() -> Swarm<Kept> {
    swarm(|own| Behaviour::new(own, CONTROL_PROTOCOL, codec(), LIMIT))
}

fn single() -> Swarm<Single> {
    swarm(|_| Single::with_codec(codec(), [(CONTROL_PROTOCOL, ProtocolSupport::Full)], Default::default()))
}

async fn listening<B: NetworkBehaviour>(swarm: &mut Swarm<B>, on: &str) -> Multiaddr {
    swarm.listen_on(on.parse().expect("address")).expect("listening");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            return address.with_p2p(*swarm.local_peer_id()).expect("an address without a peer");
        }
    }
}

/// Connects to `server`, which runs on by itself, and asks `count` questions one after another.
async fn ask_in_turn(client: &mut Swarm<Kept>, server: &Multiaddr, count: usize) -> Vec<Result<(), OutboundFailure>> {
    client.dial(server.clone()).expect("dialling");
    let mut came = Vec::new();
    while came.len() < count {
        match client.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                client.behaviour_mut().ask(&peer_id, ControlRequest::none());
            }
            SwarmEvent::Behaviour(event) => {
                came.push(match event {
                    Event::Answered { .. } => Ok(()),
                    Event::Failed { error, .. } => Err(error),
                    Event::Asked { .. } | Event::Left { .. } => panic!("nobody asks here"),
                });
                let peer = *client.connected_peers().next().expect("still connected");
                client.behaviour_mut().ask(&peer, ControlRequest::none());
            }
            _ => {}
        }
    }
    came
}

async fn answer_all(mut server: Swarm<Kept>) {
    loop {
        if let SwarmEvent::Behaviour(Event::Asked { channel, .. }) = server.select_next_some().await {
            channel.say(ControlResponse::noted());
        }
    }
}

async fn answer_all_singly(mut server: Swarm<Single>) {
    loop {
        if let SwarmEvent::Behaviour(request_response::Event::Message {
            message: request_response::Message::Request { channel, .. },
            ..
        }) = server.select_next_some().await
        {
            let _ = server.behaviour_mut().send_response(channel, ControlResponse::noted());
        }
    }
}

#[tokio::test]
async fn one_stream_carries_one_question_after_another() {
    for on in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let mut server = kept();
        let address = listening(&mut server, on).await;
        tokio::spawn(answer_all(server));
        let mut client = kept();
        let came = ask_in_turn(&mut client, &address, 20).await;
        assert!(came.iter().all(Result::is_ok), "{came:?}");
        let connections: Vec<_> = client.behaviour().connections.values().flatten().collect();
        let streams: usize = connections.iter().map(|c| c.idle.len() + c.open + c.waiting.len()).sum();
        assert_eq!(streams, 1, "{on}");
    }
}

#[tokio::test]
async fn who_closes_after_each_answer_is_asked_as_well() {
    let mut server = single();
    let address = listening(&mut server, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    tokio::spawn(answer_all_singly(server));
    let came = ask_in_turn(&mut kept(), &address, 10).await;
    assert!(came.iter().all(Result::is_ok), "{came:?}");
}

#[tokio::test]
async fn who_opens_a_stream_for_each_question_is_answered() {
    let mut server = kept();
    let address = listening(&mut server, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    let peer = *server.local_peer_id();
    tokio::spawn(answer_all(server));
    let mut client = single();
    client.dial(address).expect("dialling");
    let mut answers = 0;
    while answers < 10 {
        match client.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => {
                client.behaviour_mut().send_request(&peer, ControlRequest::none());
            }
            SwarmEvent::Behaviour(request_response::Event::Message { .. }) => {
                answers += 1;
                client.behaviour_mut().send_request(&peer, ControlRequest::none());
            }
            SwarmEvent::Behaviour(request_response::Event::OutboundFailure { error, .. }) => panic!("{error}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_question_that_gets_no_answer_fails() {
    let mut server = kept();
    let address = listening(&mut server, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    tokio::spawn(async move {
        let mut asked = 0;
        loop {
            if let SwarmEvent::Behaviour(Event::Asked { channel, .. }) = server.select_next_some().await {
                asked += 1;
                if asked == 1 { channel.say(ControlResponse::noted()) } else { drop(channel) }
            }
        }
    });
    let came = ask_in_turn(&mut kept(), &address, 3).await;
    assert!(matches!(came[..], [Ok(()), Err(_), Err(_)]), "{came:?}");
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_is_told_apart() {
    let mut server = swarm(|_| libp2p::ping::Behaviour::default());
    let address = listening(&mut server, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    tokio::spawn(async move {
        loop {
            server.select_next_some().await;
        }
    });
    let came = ask_in_turn(&mut kept(), &address, 1).await;
    assert!(matches!(came[..], [Err(OutboundFailure::UnsupportedProtocols)]), "{came:?}");
}

#[tokio::test]
async fn the_last_answer_is_heard_before_it_is_reported() {
    let mut server = kept();
    let address = listening(&mut server, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    let served = tokio::spawn(async move {
        loop {
            match server.select_next_some().await {
                SwarmEvent::Behaviour(Event::Asked { channel, .. }) => channel.say_last(ControlResponse::noted()),
                SwarmEvent::Behaviour(Event::Left { peer }) => return (server, peer),
                _ => {}
            }
        }
    });
    let mut client = kept();
    let came = ask_in_turn(&mut client, &address, 1).await;
    assert!(matches!(came[..], [Ok(())]), "{came:?}");
    let (server, peer) = served.await.expect("no panic");
    assert_eq!(peer, *client.local_peer_id());
    drop(server);
}

#[tokio::test]
async fn nobody_is_dialled() {
    let mut client = kept();
    client.behaviour_mut().ask(&libp2p::PeerId::random(), ControlRequest::none());
    let event = client.select_next_some().await;
    assert!(matches!(event, SwarmEvent::Behaviour(Event::Failed { error: OutboundFailure::DialFailure, .. })));
}
