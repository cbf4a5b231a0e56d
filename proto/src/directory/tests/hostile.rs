//! Anything in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Event {
    Asked { who: u32, request: Box<HintRequest>, place: Box<Place> },
    Left(u32),
    Pass(u64),
    Signed,
}

prop_compose! {
    fn any_place()(
        region in "\\PC{0,40}",
        position in proptest::option::of((any::<f32>(), any::<f32>())),
        asn in proptest::option::of(any::<u32>()),
        network in proptest::option::of(0..3u64),
        private in any::<bool>(),
    ) -> Place {
        Place { region, position, asn, network, private }
    }
}

prop_compose! {
    fn any_request()(
        versions in proptest::collection::vec(0..3u16, 0..3),
        stream in 0..3u8,
        source in proptest::bool::weighted(0.1),
        region in prop_oneof![Just("eu".to_owned()), "\\PC{0,40}"],
        uplink_bps in prop_oneof![Just(0), Just(u64::MAX), 0..50_000_000u64],
        renditions in proptest::collection::vec(0..3u16, 0..9),
        addrs in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..12),
        neighbours in any::<u16>(),
        leaving in proptest::bool::weighted(0.1),
    ) -> HintRequest {
        HintRequest {
            versions: [versions, vec![VERSION]].concat(),
            stream: StreamId([stream; 32]),
            role: if source { Role::Source } else { Role::Viewer },
            region,
            uplink_bps,
            renditions: renditions.into_iter().map(RenditionId).collect(),
            addrs: addrs.into_iter().map(Bytes::from).collect(),
            neighbours,
            leaving,
        }
    }
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..12u32, any_request(), any_place()).prop_map(|(who, request, place)| Event::Asked {
            who,
            request: request.into(),
            place: place.into(),
        }),
        1 => (0..12u32).prop_map(Event::Left),
        1 => prop_oneof![0..40_000_000u64, any::<u64>()].prop_map(Event::Pass),
        1 => Just(Event::Signed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is said, in whatever order: no panic, every request answered once, every bound kept.
    #[test]
    fn survives_anything(events in proptest::collection::vec(any_event(), 1..120)) {
        let mut world = World::new(Config { viewers_max: 20, streams_max: 2, ..config() });
        for event in events {
            match event {
                Event::Asked { who, request, place } => {
                    let answer = world.ask(who, *request, *place);
                    prop_assert!(answer.hints.len() <= 16);
                    prop_assert!(answer.hints.iter().all(|hint| hint.peer != peer(who) && hint.addrs.len() <= 8));
                    prop_assert!(answer.place.len() < 64);
                }
                Event::Left(who) => {
                    world.feed(Input::Left { peer: peer(who) });
                }
                Event::Pass(us) => {
                    world.pass(Duration::from_micros(us));
                    world.feed(Input::Tick);
                    let over = world.now.mono == crate::Time::NEVER;
                    prop_assert!(over || world.directory.deadline() > world.now.mono);
                }
                Event::Signed => {
                    let bytes = Bytes::from_static(b"unasked for");
                    world.feed(Input::RosterSigned { stream: StreamId([1; 32]), bytes });
                }
            }
            prop_assert!(world.directory.registrations() <= 20);
            for stream in world.directory.streams() {
                prop_assert_eq!(stream.viewers, stream.regions.iter().map(|region| region.viewers).sum::<usize>());
                prop_assert!(stream.able <= stream.viewers && stream.roster <= 32);
            }
        }
    }
}
