//! A broadcast through everything that happens to one: viewers come late and go without a word, the hint server dies and
//! comes back, the broadcaster is restarted. Whoever is left notices nothing.

use starling_tests::fleet::{
    Broadcast, BroadcastOptions, Common, Fleet, HintServer, SEGMENTS_FOR_PLAYERS, WatchOptions, http,
};

use crate::{
    seats::{self, Seat},
    stage::{self, Address, PATIENCE, eventually},
};

const VIEWERS: usize = 6;

/// Enough that every viewer met its neighbours and several segments went around: 4 s of the stream.
const A_WHILE: u64 = 550_000;

/// Segments listed after the restart before it counts as played: a player is three to four segments behind the last one.
const PLAYED_BEYOND: usize = 6;

#[tokio::test]
async fn viewers_play_on_whatever_happens_to_the_others() {
    let _machine = stage::alone().await;
    let fleet = stage::fleet();
    let hint_at = Address::free();
    let broadcast_at = Address::free();
    let mut hint_server = start_hint_server(&fleet, &hint_at).await;
    let mut broadcast = start_broadcast(&fleet, &broadcast_at, &hint_server.hint).await;
    let link = broadcast.link.clone();
    broadcast.on_air(SEGMENTS_FOR_PLAYERS, PATIENCE).await.unwrap();

    let punctual = (1..VIEWERS).map(viewer);
    let mut seats = Seat::take_all(&fleet, &link, punctual, &[]).await;
    seats::receive_more(&seats, A_WHILE).await;
    seats.push(Seat::take(&fleet, &link, viewer(VIEWERS), &[]).await);
    seats::receive_more(&seats, A_WHILE).await;
    let before = seats::received(&seats).await;

    let mut victim = seats.remove(1);
    victim.measured().await.assert_smooth();
    victim.viewer.program.kill().await.unwrap();
    let before: Vec<_> = before.into_iter().enumerate().filter_map(|(at, r)| (at != 1).then_some(r)).collect();
    seats::receive_more(&seats, A_WHILE).await;

    hint_server.program.kill().await.unwrap();
    hint_server_is(false, &seats).await;
    seats::receive_more(&seats, A_WHILE).await;
    hint_server = start_hint_server(&fleet, &hint_at).await;
    hint_server_is(true, &seats).await;
    let share = seats::viewers_share(&before, &seats::received(&seats).await);

    a_segment_is_just_out(&broadcast).await;
    stage::ends(&mut broadcast.program).await;
    broadcast = start_broadcast(&fleet, &broadcast_at, &hint_server.hint).await;
    assert_eq!(broadcast.link, link, "a restarted broadcast is found under the link people have");
    everyone_is_beyond_the_restart(&seats).await;

    for measured in seats::measured(&mut seats).await {
        measured.assert_smooth();
        assert_eq!(measured.json["discontinuities"], 1, "{}: one restart, one seam", measured.who);
    }
    assert!(share > 0.5, "most bytes should come from other viewers, {share:.2} did");
    stage::all_end([&mut broadcast.program, &mut hint_server.program]).await;
    seats::leave(&mut seats).await;
    stage::nobody_panicked(&fleet);
}

async fn start_hint_server(fleet: &Fleet, address: &Address) -> HintServer {
    fleet.hint_server(&address.of("hint-server")).await.unwrap()
}

async fn start_broadcast(fleet: &Fleet, address: &Address, hint: &str) -> Broadcast {
    let options = BroadcastOptions {
        common: address.of("broadcaster"),
        hints: vec![hint.to_owned()],
        bitrate: Some("1100k".to_owned()),
        segment_seconds: Some(2),
        ..BroadcastOptions::default()
    };
    fleet.broadcast("test", &options).await.unwrap()
}

fn viewer(number: usize) -> WatchOptions {
    WatchOptions { common: Common::named(format!("viewer-{number}")), ..WatchOptions::default() }
}

/// Waits until every viewer says that a hint server answers, or that none does.
async fn hint_server_is(there: bool, seats: &[Seat]) {
    for seat in seats {
        let what = format!("{} knows that a hint server answers: {there}", seat.viewer.program.name());
        eventually(&what, async || {
            let stats = seat.stats().await;
            if stats.hint_server == there { Ok(()) } else { Err(format!("{stats:?}")) }
        })
        .await;
    }
}

/// Waits for the next segment. A restart loses what was not out yet, up to a whole segment, which players would have to have
/// buffered beyond what the restart itself takes; this is the moment at which that is nothing.
async fn a_segment_is_just_out(broadcast: &Broadcast) {
    let listed = async || http::body(&broadcast.hls).await.unwrap();
    let before = listed().await;
    eventually("another segment", async || {
        let now = listed().await;
        if now == before { Err(now) } else { Ok(()) }
    })
    .await;
}

/// Waits until every viewer's playlist tells of the restart and its player must have played past it.
async fn everyone_is_beyond_the_restart(seats: &[Seat]) {
    for seat in seats {
        let what = format!("{} is beyond the restart", seat.viewer.program.name());
        eventually(&what, async || {
            let playlist = http::body(&seat.viewer.playlist).await.unwrap();
            let beyond =
                playlist.rsplit_once("#EXT-X-DISCONTINUITY\n").map(|(_, after)| after.matches("#EXTINF").count());
            if beyond >= Some(PLAYED_BEYOND) { Ok(()) } else { Err(playlist) }
        })
        .await;
    }
}
