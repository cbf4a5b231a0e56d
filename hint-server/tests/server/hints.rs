//! Real viewers against a real server in this process.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::support::{PATIENCE, Running, STREAM, Viewer, binary, request};
use bytes::Bytes;
use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};
use starling_proto::wire::{HintRequest, MAX_CONTROL_LEN, Message, Role, Roster, Signed, Statement};

#[tokio::test]
async fn thirty_viewers_of_two_regions_are_told_of_their_own() {
    let server = Running::new(|_| {}).await;
    let viewers: Vec<Viewer> = (0..30).map(|i| Viewer::new(&server.addresses[i % 2])).collect();
    let region = |i: usize| if i < 20 { "eu-west" } else { "NA-east" };
    for (i, viewer) in viewers.iter().enumerate() {
        let answer = viewer.ask(request(region(i))).await;
        assert_eq!((answer.error, answer.audience), (None, i as u32 + 1));
        assert_eq!(answer.place, region(i).to_lowercase());
    }
    let europeans: BTreeSet<_> = viewers[..20].iter().map(Viewer::name).collect();
    for (i, viewer) in viewers.iter().enumerate() {
        let hints = viewer.ask(request(region(i))).await.hints;
        let inside = hints.iter().filter(|hint| europeans.contains(&hint.peer) == (i < 20)).count();
        assert!((12..=16).contains(&hints.len()), "{} hints", hints.len());
        // Nine others are in the small region; the rest of a dozen must come from outside.
        assert!(inside >= 8 && inside < hints.len(), "viewer {i}: {inside} of {} inside", hints.len());
        assert!(hints.iter().all(|hint| hint.peer != viewer.name() && !hint.addrs.is_empty()));
    }
    server.until("/api/status", "\"viewers\":30").await;
    assert_eq!(server.status().await["streams"][0]["regions"][0]["region"], "eu-west");
}

#[tokio::test]
async fn who_somebody_is_comes_from_the_connection() {
    let server = Running::new(|_| {}).await;
    let (honest, liar) = (Viewer::new(&server.addresses[0]), Viewer::new(&server.addresses[1]));
    let claims = vec![
        binary(&format!("/ip4/127.0.0.1/tcp/4001/p2p/{}", honest.peer)),
        binary("/ip4/198.51.100.1/tcp/4002"),
        binary("/ip4/127.0.0.1/tcp/4003"),
    ];
    liar.ask(HintRequest { addrs: claims, ..request("eu") }).await;
    let hints = honest.ask(request("eu")).await.hints;
    assert_eq!(hints.iter().map(|hint| hint.peer).collect::<Vec<_>>(), [liar.name()]);
    let seen = [binary("/ip4/127.0.0.1/tcp/4003"), binary("/ip4/127.0.0.1/tcp/4002")];
    assert_eq!(hints[0].addrs, seen, "neither under a stranger's name nor at an address it wasn't seen at");
}

#[tokio::test]
async fn a_server_under_another_name_is_not_talked_to() {
    let server = Running::new(|_| {}).await;
    let mut address: Multiaddr = server.addresses[0].parse().expect("printed");
    address.pop();
    let address = address.with(Protocol::P2p(PeerId::from(libp2p::identity::Keypair::generate_ed25519().public())));
    let failed = Viewer::new(&address.to_string()).say(request("eu").encode()).await;
    assert!(failed.is_err());
}

#[tokio::test]
async fn rosters_are_signed_by_the_server() {
    let server = Running::new(|_| {}).await;
    let viewer = Viewer::new(&server.addresses[0]);
    let answer = viewer.ask(request("eu")).await;
    let signed = Signed::decode(&answer.roster).expect("an envelope");
    let roster = Roster::parse(&signed.payload).expect("a roster");
    assert_eq!(roster.members.iter().map(|member| member.peer).collect::<Vec<_>>(), [viewer.name()]);
    let key = libp2p::identity::ed25519::PublicKey::try_from_bytes(&roster.issuer.0).expect("a key");
    assert!(key.verify(&Signed::signed_bytes::<Roster>(&STREAM, &signed.payload), &signed.signature));
    let peer = PeerId::from(libp2p::identity::PublicKey::from(key));
    assert!(server.addresses[0].ends_with(&peer.to_string()), "the issuer is the server");
}

#[tokio::test]
async fn garbage_is_refused_and_harms_nobody() {
    let server = Running::new(|_| {}).await;
    let (rude, polite) = (Viewer::with_frames(&server.addresses[0], 1 << 20), Viewer::new(&server.addresses[0]));
    for garbage in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 3_000], &[0xbf; 64], &[0x9b, 0xff, 0xff]] {
        let answer = rude.say(Bytes::copy_from_slice(garbage)).await.expect("told what is wrong");
        let error = starling_proto::wire::HintResponse::decode(&answer).expect("a response").error;
        assert!(error.is_some_and(|error| error.contains("not a request")));
    }
    assert!(rude.say(Bytes::from(vec![0; MAX_CONTROL_LEN + 1])).await.is_err(), "too long to be read");
    assert_eq!(polite.ask(request("eu")).await.error, None);
    assert_eq!(rude.ask(request("eu")).await.hints.len(), 1, "even the rude one may behave");
    server.until("/metrics", "starling_hint_malformed_total 5\n").await;
}

#[tokio::test]
async fn another_version_is_told_so() {
    let server = Running::new(|_| {}).await;
    let answer = Viewer::new(&server.addresses[0]).ask(HintRequest { versions: vec![99], ..request("") }).await;
    assert!(answer.error.is_some_and(|error| error.contains("protocol version")));
}

#[tokio::test]
async fn the_silent_are_forgotten() {
    let server = Running::new(|config| config.refresh = Duration::from_millis(200)).await;
    let viewer = Viewer::new(&server.addresses[0]);
    viewer.ask(request("eu")).await;
    server.until("/api/status", "\"expired\":1").await;
    assert_eq!(server.status().await["viewers"], 0);
}

#[tokio::test]
async fn a_lost_viewer_is_not_proposed() {
    let server = Running::new(|_| {}).await;
    let lost = Viewer::new(&server.addresses[1]);
    lost.ask(request("eu")).await;
    let stays = Viewer::new(&server.addresses[0]);
    assert_eq!(stays.ask(request("eu")).await.hints.len(), 1);
    drop(lost);
    let unproposed = async { while !stays.ask(request("eu")).await.hints.is_empty() {} };
    tokio::time::timeout(PATIENCE, unproposed).await.expect("its connection closed");
}

#[tokio::test]
async fn a_full_server_says_so_and_a_source_is_not_a_viewer() {
    let server = Running::new(|config| config.viewers_max = 2).await;
    let source = Viewer::new(&server.addresses[0]);
    let answer = source.ask(HintRequest { role: Role::Source, ..request("") }).await;
    assert_eq!((answer.audience, answer.hints.len()), (0, 0));
    let (first, second) = (Viewer::new(&server.addresses[0]), Viewer::new(&server.addresses[1]));
    assert!(first.ask(request("")).await.hints.is_empty(), "the broadcaster is not proposed");
    let refused = second.ask(request("")).await;
    assert!(refused.error.is_some_and(|error| error.contains("full")));
    assert_eq!(source.ask(HintRequest { role: Role::Source, ..request("") }).await.hints.len(), 1);
}
