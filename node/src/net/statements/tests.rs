use libp2p::identity::Keypair;
use starling_proto::Config;

use super::*;
use crate::hls::samples;
use crate::media::Media;
use crate::net::Setup;

/// A viewer, and the broadcaster whose statements it takes.
struct Told {
    viewer: Driver,
    key: Keypair,
}

impl Told {
    async fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let broadcaster = identity::of(&key).unwrap();
        let stream = statement::stream_id(&broadcaster, "Test");
        let setup = Setup {
            key: Keypair::generate_ed25519(),
            stream,
            name: "Test".into(),
            stream_key: identity::public_key(&key.public().to_peer_id()).unwrap(),
            config: Config::viewer(stream, broadcaster),
            listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()],
            source: Vec::new(),
            hints: Vec::new(),
            media: Arc::new(Media::new(Duration::from_secs(60), 1 << 20)),
            origin: None,
        };
        let (viewer, _) = Driver::new(setup).await.unwrap();
        Self { viewer, key }
    }

    fn catalogue(&mut self, epoch: u64) {
        let signed = statement::sign(&self.key, &self.viewer.stream, &samples::catalogue(epoch)).unwrap();
        self.viewer.take_catalogue(&signed).unwrap();
    }

    fn announcement(&mut self, epoch: u64, number: u64) {
        let signed = statement::sign(&self.key, &self.viewer.stream, &samples::announcement(epoch, number)).unwrap();
        self.viewer.take_announcements(&[signed]).unwrap();
    }

    /// What players are offered, by epoch and number.
    fn listed(&self) -> Vec<(u64, u64)> {
        let listing = self.viewer.media.listing(RenditionId(0));
        listing.iter().map(|listed| (listed.announcement.epoch.0, listed.announcement.segment.0)).collect()
    }

    /// What the machine was told since, in order.
    fn inputs(&mut self) -> Vec<String> {
        let told = self.viewer.inputs.drain(..).map(|input| {
            if let Input::CatalogueHeld { catalogue } = input {
                format!("catalogue {}", catalogue.epoch)
            } else if let Input::Announced { announcement } = input {
                format!("segment {} of {}", announcement.segment, announcement.epoch)
            } else {
                format!("{input:?}")
            }
        });
        told.collect()
    }
}

#[tokio::test]
async fn what_is_ahead_of_its_catalogue_is_offered_and_fetched_when_that_is_here() {
    let mut told = Told::new().await;
    told.catalogue(1);
    told.announcement(1, 7);
    assert_eq!(told.inputs(), ["catalogue 1", "segment 7 of 1"]);

    told.announcement(2, 0);
    told.announcement(2, 1);
    assert_eq!(told.listed(), [(1, 7)], "nobody would fetch it yet");
    assert!(told.inputs().is_empty());

    told.catalogue(2);
    assert_eq!(told.listed(), [(1, 7), (2, 0), (2, 1)]);
    assert_eq!(told.inputs(), ["catalogue 2", "segment 0 of 2", "segment 1 of 2"]);
    assert!(told.viewer.early.is_empty());
}

#[tokio::test]
async fn a_start_that_was_over_before_its_catalogue_came_is_forgotten() {
    let mut told = Told::new().await;
    told.announcement(2, 0);
    told.announcement(4, 1);
    told.announcement(3, 0);
    told.announcement(4, 0);
    told.announcement(4, 1);
    told.catalogue(3);
    assert_eq!(told.inputs(), ["catalogue 3"]);
    told.catalogue(4);
    assert_eq!(told.inputs(), ["catalogue 4", "segment 0 of 4", "segment 1 of 4"], "once each, and in order");
    assert_eq!(told.listed(), [(4, 0), (4, 1)]);
}

#[tokio::test]
async fn what_waits_for_a_catalogue_is_bounded() {
    let mut told = Told::new().await;
    (0..EARLY_MAX as u64 + 10).for_each(|number| told.announcement(1, number));
    let kept: Vec<_> = told.viewer.early.iter().map(|(announcement, _)| announcement.segment.0).collect();
    assert_eq!(kept, (10..EARLY_MAX as u64 + 10).collect::<Vec<_>>(), "the newest");
}
