//! Answering neighbours: pull-ahead, loops, limits.

use std::time::Duration;

use bytes::Bytes;
use starling_proto::wire::{ChunkRequest, ChunkStatus, Feedback, Kind, Status, path_digest};
use starling_proto::{ChunkNumber, Config, Epoch, Input, Output, RequestId};

use crate::rig::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_existing_chunk_is_answered_at_once_and_a_future_one_when_it_is_here() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    rig.hold(0);
    let (now_id, out) = rig.ask(id(2), Kind::Next, 0);
    assert_eq!(answered(&out, now_id), Some((ChunkStatus::Chunk, Some(0))));
    rig.pass(SECOND);
    let (later, out) = rig.ask(id(2), Kind::Next, 4);
    assert_eq!(answered(&out, later), None);
    assert_eq!(answered(&rig.hold(5), later), None, "another substream's chunk");
    assert_eq!(answered(&rig.hold(4), later), Some((ChunkStatus::Chunk, Some(4))));
}

#[test]
fn a_request_for_an_older_chunk_gets_the_first_one_held() {
    let mut rig = Rig::viewer(true);
    rig.announce(9);
    rig.hold(9 * CHUNKS);
    let (asked, out) = rig.ask(id(2), Kind::Next, 4);
    assert_eq!(answered(&out, asked), Some((ChunkStatus::Chunk, Some(9 * CHUNKS))));
}

#[test]
fn a_repair_is_answered_at_once_or_not_at_all() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    rig.hold(1);
    let (held, out) = rig.ask(id(2), Kind::Get, 1);
    assert_eq!(answered(&out, held), Some((ChunkStatus::Chunk, Some(1))));
    for number in [0, 99, u64::MAX] {
        let (missing, out) = rig.ask(id(2), Kind::Get, number);
        assert_eq!(answered(&out, missing), Some((ChunkStatus::Unknown, None)));
    }
}

#[test]
fn an_ancestor_that_asks_is_told_of_the_loop() {
    let mut rig = Rig::viewer(true);
    let out = rig.meet(id(2), status(1, 0, 1_000_000));
    let mut out = [out, rig.announce(0)].concat();
    out.extend(plain(rig.pass(SECOND / 10)));
    let (open, _, _, number) = requests(&out).into_iter().find(|r| r.1 == id(2) && r.2 == Kind::Next).unwrap();
    // Somebody further up waits with us already.
    let (waiting, out) = rig.ask(id(3), Kind::Next, number + u64::from(SUBSTREAMS));
    assert_eq!(answered(&out, waiting), None);
    let out = rig.respond(open, number, vec![id(2).tag(), id(3).tag()]);
    assert_eq!(answered(&out, waiting), Some((ChunkStatus::Loop, None)), "it became our ancestor while it waited");
    for ancestor in [id(2), id(3)] {
        let (asked, out) = rig.ask(ancestor, Kind::Next, number + u64::from(SUBSTREAMS));
        assert_eq!(answered(&out, asked), Some((ChunkStatus::Loop, None)));
    }
}

#[test]
fn what_is_cancelled_or_held_too_long_is_answered_empty() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    let (first, out) = rig.ask(id(2), Kind::Next, 0);
    assert_eq!(answered(&out, first), None);
    let cancel = |from, number| cancelled(from, number, false, None);
    assert_eq!(answered(&rig.feed(cancel(id(3), 0)), first), None, "another's cancel");
    assert_eq!(answered(&rig.feed(cancel(id(2), 0)), first), Some((ChunkStatus::Empty, None)));
    let (second, _) = rig.ask(id(2), Kind::Next, u64::MAX);
    let timeout = viewer().park_timeout;
    assert_eq!(answered(&plain(rig.pass(timeout - SECOND / 10)), second), None);
    assert_eq!(answered(&plain(rig.pass(SECOND / 5)), second), Some((ChunkStatus::Empty, None)));
}

#[test]
fn a_new_epoch_answers_what_was_held_and_forgets_the_old_numbers() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    rig.hold(0);
    let (held, _) = rig.ask(id(2), Kind::Next, 1);
    let out = rig.feed(Input::CatalogueHeld { catalogue: catalogue(Epoch(2), true) });
    assert_eq!(answered(&out, held), Some((ChunkStatus::Empty, None)));
    let (old, out) = rig.ask(id(2), Kind::Get, 0);
    assert_eq!(answered(&out, old), Some((ChunkStatus::Unknown, None)));
    let out = rig.feed(Input::CatalogueHeld { catalogue: catalogue(Epoch(1), true) });
    assert!(out.iter().all(|o| !matches!(o, Output::Subscribe { .. })), "an older catalogue changes nothing");
    let fresh = RequestId(1000);
    let out = rig.feed(Input::Requested { from: id(2), id: fresh, request: request(Kind::Get, Epoch(2), 0) });
    assert_eq!(answered(&out, fresh), Some((ChunkStatus::Unknown, None)));
    rig.feed(Input::Announced { announcement: announcement(Epoch(2), 0, rig.now) });
    let checked =
        Input::Checked { rendition: RENDITION, epoch: Epoch(2), number: ChunkNumber(0), from: None, genuine: true };
    rig.feed(checked);
    let fresh = RequestId(1001);
    let out = rig.feed(Input::Requested { from: id(2), id: fresh, request: request(Kind::Get, Epoch(2), 0) });
    assert_eq!(answered(&out, fresh), Some((ChunkStatus::Chunk, Some(0))));
}

#[test]
fn uploads_keep_to_the_limit() {
    let limit = 2_000_000;
    let mut rig = Rig::grown_up(Config { upload_limit_bps: Some(limit), ..viewer() }, true);
    let mut sent = Vec::new();
    for round in 0..20 {
        rig.announce(round);
        for number in round * CHUNKS..(round + 1) * CHUNKS {
            let at = rig.now;
            sent.extend(rig.hold(number).into_iter().map(|o| (at, o)));
            for asker in 2..8 {
                let (_, out) = rig.ask(id(asker), Kind::Get, number);
                let (_, more) = rig.ask(id(asker), Kind::Next, number);
                sent.extend(out.into_iter().chain(more).map(|o| (at, o)));
            }
        }
        sent.extend(rig.pass(2 * SECOND));
    }
    let chunk = |o: &Output| matches!(o, Output::Answer { header, .. } if header.status == ChunkStatus::Chunk);
    let times: Vec<u64> = sent.iter().filter(|(_, o)| chunk(o)).map(|(at, _)| at.0).collect();
    assert!(times.len() > 100, "only {} chunks sent", times.len());
    for (i, from) in times.iter().enumerate() {
        for (j, to) in times.iter().enumerate().skip(i) {
            let bits = (j - i + 1) as f64 * f64::from(LEN) * 8.0;
            let allowed = (to - from) as f64 / 1e6 * limit as f64 + f64::from(LEN) * 8.0;
            assert!(bits <= allowed * 1.001, "{bits} bits between {from} and {to}, allowed {allowed}");
        }
    }
}

#[test]
fn nothing_is_served_with_upload_off() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    for number in 0..CHUNKS {
        rig.hold(number);
    }
    let (waiting, _) = rig.ask(id(2), Kind::Next, CHUNKS);
    let queued: Vec<_> = (0..CHUNKS).map(|n| rig.ask(id(4 + n as u8), Kind::Next, n)).collect();
    let unanswered: Vec<_> = queued.iter().filter(|(id, out)| answered(out, *id).is_none()).map(|q| q.0).collect();
    assert!(unanswered.len() > 3);
    let mut out = rig.feed(Input::UploadSet { enabled: false });
    for number in 0..CHUNKS {
        for kind in [Kind::Next, Kind::Get] {
            let (refused, out) = rig.ask(id(3), kind, number);
            assert_eq!(answered(&out, refused), Some((ChunkStatus::Refused, None)));
        }
    }
    out.extend(plain(rig.pass(5 * SECOND)));
    for id in unanswered.into_iter().chain([waiting]) {
        assert_eq!(answered(&out, id), Some((ChunkStatus::Refused, None)), "queued or held when upload went off");
    }
    rig.feed(Input::UploadSet { enabled: true });
    let (again, out) = rig.ask(id(3), Kind::Get, 0);
    assert_eq!(answered(&out, again), Some((ChunkStatus::Chunk, Some(0))), "served again at once");
}

#[test]
fn there_are_never_more_children_than_slots() {
    let mut rig = Rig::grown_up(Config { upload_limit_bps: Some(1_300_000), ..viewer() }, true);
    rig.announce(0);
    // A quarter of 1.28 Mbit/s each: three fit into 85 % of 1.3 Mbit/s and leave what receiving costs.
    let refused = refused_of_many(&mut rig, 2, 3);
    assert_eq!((rig.peer.child_count(), refused), (3, 35));
}

#[test]
fn one_more_child_is_taken_on_than_told_of_if_a_known_link_carries_it() {
    // Three fit into 85 % of either, a fourth into 93 % of the second.
    for (limit, reports, children) in [(1_300_000, 30, 3), (1_500_000, 30, 4), (1_500_000, 0, 3)] {
        let mut rig = reported_on(limit, reports);
        let refused = refused_of_many(&mut rig, (reports + 1) * u64::from(SUBSTREAMS), children);
        assert_eq!((rig.peer.child_count(), refused), (children, 38 - children), "{limit} with {reports} reports");
        rig.pass(SECOND);
        let newest = reports * u64::from(SUBSTREAMS);
        let (held, out) = rig.ask(id(2), Kind::Get, newest);
        let told = answers(&[out, plain(rig.pass(SECOND))].concat(), held);
        assert_eq!(told.iter().map(|header| header.free_slots).collect::<Vec<_>>(), [0], "no place is told of");
    }
}

/// As [`status`] has it, with so many hops below it in each substream.
fn feeding(hops: u8, uplink_bps: u64) -> Status {
    let mut told = status(3, 0, uplink_bps);
    told.tracks[0].heights = Bytes::from(vec![hops; usize::from(SUBSTREAMS)]);
    told
}

#[test]
fn what_waits_is_sent_in_the_order_of_what_is_below_of_strength_and_of_age() {
    let mut rig = reported_on(20_000_000, 30);
    for (peer, told) in [
        (2, feeding(0, 1_000_000)),
        (3, feeding(0, 4_000_000)),
        (4, feeding(1, 1_000_000)),
        (5, feeding(2, 4_000_000)),
        (6, feeding(255, 0)),
        (7, feeding(20, 0)),
    ] {
        rig.meet(id(peer), told);
    }
    let at = 31 * u64::from(SUBSTREAMS);
    (at / CHUNKS..=at / CHUNKS + 2).for_each(|segment| drop(rig.announce(segment)));
    // One is being sent, the others wait: numbers count from `at`.
    let sent_in_order = |rig: &mut Rig, asked: &[(u8, u64)]| {
        rig.pass(3 * SECOND);
        rig.hold(at);
        let (busy, mut out) = rig.ask(id(9), Kind::Next, at);
        assert_eq!(answered(&out, busy), Some((ChunkStatus::Chunk, Some(at))));
        let ids: Vec<_> = asked.iter().map(|(peer, number)| rig.ask(id(*peer), Kind::Next, at + number).0).collect();
        let mut numbers: Vec<u64> = asked.iter().map(|(_, number)| at + number).collect();
        numbers.sort_unstable();
        numbers.into_iter().for_each(|number| out.extend(rig.hold(number)));
        out.extend(plain(rig.pass(SECOND)));
        let order = out.iter().filter_map(|o| if let Output::Answer { id, .. } = o { Some(*id) } else { None });
        order.filter_map(|id| ids.iter().position(|other| *other == id)).map(|i| asked[i].0).collect::<Vec<_>>()
    };
    assert_eq!(sent_in_order(&mut rig, &[(2, 1), (3, 1), (4, 1), (5, 1)]), [5, 4, 3, 2]);
    // A hop counts as ten chunks, a doubling of the uplink as four.
    assert_eq!(sent_in_order(&mut rig, &[(4, 14), (2, 2)]), [2, 4]);
    assert_eq!(sent_in_order(&mut rig, &[(4, 13), (2, 4)]), [4, 2]);
    assert_eq!(sent_in_order(&mut rig, &[(3, 16), (2, 7)]), [2, 3]);
    assert_eq!(sent_in_order(&mut rig, &[(3, 17), (2, 10)]), [3, 2]);
    assert_eq!(sent_in_order(&mut rig, &[(6, 19), (7, 18)]), [7, 6], "no tree is higher than twenty");
}

#[test]
fn a_viewer_tells_how_many_hops_there_are_below_it() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    let told = |rig: &Rig| rig.peer.hello(rig.clocks()).status.tracks[0].heights.to_vec();
    assert_eq!(told(&rig), [0; 0], "a leaf says nothing of it");
    rig.meet(id(2), feeding(3, 1_000_000));
    rig.meet(id(3), status(3, 0, 1_000_000));
    rig.ask(id(3), Kind::Next, 8);
    assert_eq!(told(&rig), [1, 0, 0, 0]);
    rig.ask(id(2), Kind::Next, 8);
    assert_eq!(told(&rig), [4, 0, 0, 0]);
    rig.feed(cancelled(id(2), 8, true, None));
    assert_eq!(told(&rig), [1, 0, 0, 0]);
    rig.feed(Input::StatusTold { peer: id(3), status: feeding(255, 1_000_000) });
    assert_eq!(told(&rig), [21, 0, 0, 0], "no more is believed than any tree has");
}

/// Lets 38 ask for a place, each for one chunk from `first` on, while there are never more children than `most`; how many were
/// refused.
fn refused_of_many(rig: &mut Rig, first: u64, most: usize) -> usize {
    let mut refused = 0;
    for asker in 2..40 {
        let (asked, out) = rig.ask(id(asker), Kind::Next, first + u64::from(asker - 2));
        refused += usize::from(answered(&out, asked).is_some_and(|a| a.0 == ChunkStatus::Refused));
        assert!(rig.peer.child_count() <= most);
    }
    refused
}

/// A viewer with this uplink, of which a child reported so often.
fn reported_on(limit: u64, reports: u64) -> Rig {
    let mut rig = Rig::grown_up(Config { upload_limit_bps: Some(limit), ..viewer() }, true);
    for number in (0..=reports).map(|n| n * u64::from(SUBSTREAMS)) {
        if number.is_multiple_of(CHUNKS) {
            rig.announce(number / CHUNKS);
        }
        rig.hold(number);
        if reports > 0 {
            rig.ask(id(2), Kind::Next, number);
            rig.pass(SECOND);
        }
    }
    rig
}

#[test]
fn a_stronger_child_displaces_a_weaker_after_its_tenure_and_only_there() {
    let mut rig = Rig::grown_up(Config { upload_limit_bps: Some(900_000), ..viewer() }, true);
    rig.announce(0);
    rig.meet(id(2), status(3, 0, 1_000_000));
    rig.meet(id(3), status(3, 0, 9_000_000));
    let (weak, _) = rig.ask(id(2), Kind::Next, 100);
    let (other, _) = rig.ask(id(4), Kind::Next, 101);
    let (early, out) = rig.ask(id(3), Kind::Next, 101);
    assert_eq!(answered(&out, early), Some((ChunkStatus::Refused, None)), "two slots are taken");
    // Empty and asked again, as children do.
    let mut out = plain(rig.pass(viewer().park_timeout + SECOND / 10));
    assert_eq!(answered(&out, weak), Some((ChunkStatus::Empty, None)));
    assert_eq!(answered(&out, other), Some((ChunkStatus::Empty, None)));
    rig.feed(Input::StatusTold { peer: id(2), status: status(3, 0, 1_000_000) });
    let (weak, _) = rig.ask(id(2), Kind::Next, 100);
    let (displaced, _) = rig.ask(id(4), Kind::Next, 101);
    // Peer 4 never said what it uploads, so it is the weakest, in another substream than the newcomer asks for.
    let (strong, more) = rig.ask(id(3), Kind::Next, 102);
    out = more;
    assert_eq!(answered(&out, strong), None, "taken on");
    assert_eq!(answered(&out, weak), None, "not the weakest");
    assert_eq!(answered(&out, displaced), None, "the displaced child keeps what it waits for");
    // It is told with a chunk a moment later, and served until it had time to find another parent.
    rig.pass(2 * SECOND);
    rig.announce(12);
    let out = [rig.hold(101), rig.hold(102), plain(rig.pass(SECOND))].concat();
    let told = |id| answers(&out, id).first().map(|header| (header.status, header.notice));
    assert_eq!(told(displaced), Some((ChunkStatus::Chunk, true)));
    assert_eq!(told(strong), Some((ChunkStatus::Chunk, false)));
    let (meanwhile, out) = rig.ask(id(4), Kind::Next, 105);
    assert_eq!(answered(&out, meanwhile), None, "still held");
    rig.ask(id(3), Kind::Next, 106);
    rig.pass(4 * SECOND);
    let (late, out) = rig.ask(id(4), Kind::Next, 109);
    assert_eq!(answered(&out, late), Some((ChunkStatus::Refused, None)));
    assert_eq!(rig.peer.child_count(), 2);
}

#[test]
fn the_source_gives_each_substream_to_so_many_children() {
    for copies in 1..4 {
        let config = Config { source_copies: copies, ..Config::source(STREAM, id(1)) };
        let mut rig = Rig::new(config);
        rig.feed(Input::CatalogueHeld { catalogue: catalogue(EPOCH, true) });
        rig.feed(Input::Produced { announcement: announcement(EPOCH, 0, rig.now) });
        let mut held = vec![0; usize::from(SUBSTREAMS)];
        for asker in 2..12 {
            for s in 0..u64::from(SUBSTREAMS) {
                let (asked, out) = rig.ask(id(asker), Kind::Next, CHUNKS + s);
                match answers(&out, asked).first() {
                    None => held[s as usize] += 1,
                    Some(header) => {
                        assert_eq!(header.status, ChunkStatus::Refused);
                        assert!(!header.instead.is_empty(), "a refusal says who has it");
                    }
                }
            }
        }
        assert_eq!(held, vec![copies; usize::from(SUBSTREAMS)]);
        let out = rig.feed(Input::Produced { announcement: announcement(EPOCH, 1, rig.now) });
        let out = [out, plain(rig.pass(SECOND))].concat();
        let chunks =
            out.iter().filter(|o| matches!(o, Output::Answer { header, .. } if header.status == ChunkStatus::Chunk));
        assert_eq!(chunks.count(), copies * usize::from(SUBSTREAMS));
    }
}

#[test]
fn one_child_cannot_pile_up_answers_without_bound() {
    let mut rig = Rig::grown_up(Config { upload_limit_bps: Some(400_000), ..viewer() }, true);
    rig.announce(0);
    rig.hold(0);
    let open = (0..5000).filter(|_| {
        let (asked, out) = rig.ask(id(2), Kind::Next, 0);
        answered(&out, asked).is_none()
    });
    assert!(open.count() <= 600, "requests held and queued have a bound");
}

#[test]
fn who_leaves_soon_says_nothing_against_the_link_and_who_waited_in_vain_does() {
    // Each asks for a chunk that is here, stays for so long, and leaves without another request.
    let offered = |stays: Duration, told: Option<Feedback>| {
        let mut rig = Rig::grown_up(Config { uplink_assumed_bps: 8_000_000, ..viewer() }, true);
        rig.announce(0);
        rig.hold(0);
        for child in (2..=6).cycle().take(30) {
            rig.ask(id(child), Kind::Next, 0);
            rig.pass(stays);
            rig.feed(cancelled(id(child), 4, true, told.clone()));
            rig.pass(SECOND / 5);
        }
        rig.peer.hello(rig.clocks()).status.uplink_bps
    };
    let soon = offered(SECOND / 5, None);
    assert_eq!(soon, 1_280_000, "as much as it receives, until it is measured");
    let in_vain = offered(SECOND * 3 / 4, None);
    assert!(in_vain < soon / 4, "{in_vain} of {soon}");
    let fast = Feedback { bytes: LEN, spread_us: 32_000, first_us: None };
    let told = offered(SECOND * 3 / 4, Some(fast));
    assert!(told > 5_000_000, "what came is told on leaving, and measures the link: {told}");
}

#[test]
fn while_nobody_knows_what_the_uplink_carries_two_chunks_are_under_way() {
    let mut rig = Rig::grown_up(Config { upload_limit_bps: None, ..viewer() }, true);
    rig.announce(0);
    (0..CHUNKS).for_each(|number| _ = rig.hold(number));
    let sent = |out: &[Output]| {
        let chunk = |o: &&Output| matches!(o, Output::Answer { header, .. } if header.status == ChunkStatus::Chunk);
        out.iter().filter(chunk).count()
    };
    let mut out: Vec<Output> = (0..4).flat_map(|s| rig.ask(id(2 + s as u8), Kind::Next, s).1).collect();
    out.extend(plain(rig.pass(SECOND)));
    assert_eq!(sent(&out), 2);
    // The first of them tells how it came.
    let mut out = rig.ask(id(2), Kind::Next, CHUNKS).1;
    out.extend(plain(rig.pass(SECOND / 4)));
    assert_eq!(sent(&out), 1, "the third");
    let out = plain(rig.pass(3 * SECOND));
    assert_eq!(sent(&out), 1, "the fourth when nobody is waited for any more");
}

#[test]
fn while_nobody_knows_what_the_uplink_carries_one_repair_is_taken_at_a_time() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    (0..CHUNKS).for_each(|number| _ = rig.hold(number));
    let taken = |rig: &mut Rig| {
        let asked: Vec<_> = (0..4).map(|n| rig.ask(id(2 + n as u8), Kind::Get, n)).collect();
        let refused = |(id, out): &&(RequestId, Vec<Output>)| answered(out, *id) == Some((ChunkStatus::Refused, None));
        4 - asked.iter().filter(refused).count()
    };
    assert_eq!(taken(&mut rig), 1);
    rig.pass(2 * SECOND);
    assert_eq!(taken(&mut rig), 1, "the first is forgotten, not reported");
    for number in 0..CHUNKS {
        rig.ask(id(2), Kind::Next, number); // each tells how the one before came
        rig.pass(SECOND / 20);
    }
    assert_eq!(taken(&mut rig), 4);
}

#[test]
fn what_proves_a_chunk_goes_to_those_who_ask_ahead_and_did_not_hear_of_it() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    let mut rides = |kind, informed, number: u64| {
        let asked = RequestId(100 + number + 10 * u64::from(kind == Kind::Get));
        let request = ChunkRequest { informed, ..request(kind, EPOCH, number) };
        rig.pass(4 * SECOND); // nobody reports: what was sent before is forgotten
        let mut out = rig.feed(Input::Requested { from: id(2), id: asked, request });
        out.extend(rig.hold(number));
        out.extend(plain(rig.pass(SECOND / 10)));
        let answer = |o: &Output| {
            let Output::Answer { id: of, header, rides, .. } = o else { return None };
            (*of == asked && header.status == ChunkStatus::Chunk).then_some(*rides)
        };
        out.iter().find_map(answer)
    };
    assert_eq!(rides(Kind::Next, false, 0), Some(true));
    assert_eq!(rides(Kind::Next, true, 1), Some(false));
    assert_eq!(rides(Kind::Get, false, 0), Some(false), "who asks for exactly this chunk has heard of it");
}

#[test]
fn a_path_is_told_to_those_who_know_another_or_none() {
    let mut rig = Rig::viewer(true);
    (0..3).for_each(|segment| _ = rig.announce(segment));
    let told = |rig: &mut Rig, kind, known: Option<&[u32]>, number: u64| {
        let asked = RequestId(100 + number + u64::from(kind == Kind::Get));
        let request = ChunkRequest { path_known: known.map(path_digest), ..request(kind, EPOCH, number) };
        let mut out = rig.feed(Input::Requested { from: id(2), id: asked, request });
        out.extend(rig.hold(number));
        out.extend(plain(rig.pass(SECOND / 10)));
        answers(&out, asked).iter().find(|h| h.status == ChunkStatus::Chunk).map(|h| h.path.clone())
    };
    let own = told(&mut rig, Kind::Next, None, 0).expect("answered");
    assert_eq!(own, [id(1).tag()]);
    assert_eq!(told(&mut rig, Kind::Next, Some(&own), 4), Some(vec![]));
    assert_eq!(told(&mut rig, Kind::Next, Some(&[own[0], 9]), 8).as_ref(), Some(&own), "it was another one");
    assert_eq!(told(&mut rig, Kind::Get, None, 8), Some(vec![]), "a repair has no use for it");
    // We are fed by somebody from now on.
    let mut out = rig.meet(id(5), status(1, 0, 1_000_000));
    out.extend(plain(rig.pass(SECOND / 2)));
    let (open, _, _, number) = *requests(&out).iter().find(|r| r.2 == Kind::Next && r.3 % 4 == 0).expect("asked ahead");
    rig.respond(open, number, vec![id(5).tag(), 7]);
    assert_eq!(told(&mut rig, Kind::Next, Some(&own), 12), Some(vec![own[0], id(5).tag(), 7]));
}

#[test]
fn a_cancel_that_comes_after_the_next_request_takes_back_the_first_only() {
    let mut rig = Rig::viewer(true);
    rig.announce(0);
    let (first, _) = rig.ask(id(2), Kind::Next, 4);
    let (second, _) = rig.ask(id(2), Kind::Next, 4);
    let out = rig.feed(cancelled(id(2), 4, false, None));
    assert_eq!(answered(&out, first), Some((ChunkStatus::Empty, None)));
    assert_eq!(answered(&out, second), None);
    assert_eq!(answered(&rig.hold(4), second), Some((ChunkStatus::Chunk, Some(4))));
}
