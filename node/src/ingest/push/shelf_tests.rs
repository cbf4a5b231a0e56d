//! What is put on the shelf in any order is found in order.

use super::*;
use crate::ingest::pull::pushed;

const SOON: Duration = Duration::from_secs(20);

fn playlist(sequence: u64, files: &[&str], tail: &str) -> (String, Listing) {
    let files: String = files.iter().map(|file| format!("#EXTINF:2,\n{file}\n")).collect();
    let text = format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n{files}{tail}");
    let listing = pushed::listing(&text, "live/index.m3u8").unwrap();
    (text, listing)
}

fn put(shelf: &Shelf, (text, listing): (String, Listing), now: Instant) -> Result<(), Refusal> {
    shelf.put_playlist("live/index.m3u8", text, listing, now)
}

fn segment(fill: u8) -> Bytes {
    let mut packets = vec![fill; 376];
    (packets[0], packets[188]) = (0x47, 0x47);
    packets.into()
}

#[tokio::test]
async fn reading_waits_for_what_comes_later() {
    let shelf = Shelf::default();
    let generation = shelf.generation("live/index.m3u8", "live/a.ts");
    let read = tokio::time::timeout(SOON, shelf.file("live/a.ts", generation));
    let write = async { shelf.put("live/a.ts", segment(1)) };
    let (body, ()) = tokio::join!(read, write);
    assert_eq!(body.unwrap(), segment(1));
}

#[tokio::test]
async fn other_bytes_under_the_same_name_are_another_generation() {
    let shelf = Shelf::default();
    shelf.put("a.ts", segment(1));
    shelf.put("a.ts", segment(1));
    assert_eq!(shelf.generation("index.m3u8", "a.ts"), 1);
    let now = Instant::now();
    let coming = shelf.expect("a.ts", now).unwrap();
    assert_eq!(shelf.generation("index.m3u8", "a.ts"), 2, "a playlist that overtakes it means the one to come");
    let read = tokio::time::timeout(SOON, shelf.file("a.ts", 2));
    let write = async {
        shelf.put("a.ts", segment(2));
        drop(coming);
    };
    assert_eq!(tokio::join!(read, write).0.unwrap(), segment(2));
}

#[tokio::test]
async fn a_file_that_is_here_is_not_coming_any_more() {
    let (shelf, now) = (Shelf::default(), Instant::now());
    let coming = shelf.expect("live/a.ts", now).unwrap();
    shelf.put("live/a.ts", segment(1));
    put(&shelf, playlist(0, &["a.ts"], ""), now).unwrap();
    assert_eq!(shelf.generation("live/index.m3u8", "live/a.ts"), 1, "the playlist means what was put a moment before");
    drop(coming);
}

#[tokio::test]
async fn a_playlist_is_read_once_and_again_when_it_changes() {
    let (shelf, now) = (Shelf::default(), Instant::now());
    put(&shelf, playlist(0, &["a.ts"], ""), now).unwrap();
    let first = shelf.playlist("live/index.m3u8", SOON).await.unwrap();
    let (next, ()) = tokio::join!(shelf.playlist("live/index.m3u8", SOON), async {
        put(&shelf, playlist(0, &["a.ts", "b.ts"], ""), now).unwrap();
    });
    assert!(next.unwrap().len() > first.len());
    let same = shelf.playlist("live/index.m3u8", Duration::from_millis(1)).await;
    assert!(same.unwrap().contains("b.ts"), "without news, what there is");
    assert_eq!(shelf.playlist("none.m3u8", Duration::from_millis(1)).await, None);
}

#[test]
fn another_encoder_is_refused_until_the_first_is_silent_or_has_ended() {
    let (shelf, now) = (Shelf::default(), Instant::now());
    put(&shelf, playlist(7, &["7.ts", "8.ts"], ""), now).unwrap();
    assert_eq!(put(&shelf, playlist(0, &["0.ts"], ""), now), Err(Refusal::AnotherEncoder));
    put(&shelf, playlist(7, &["7.ts"], ""), now).unwrap();
    put(&shelf, playlist(8, &["8.ts", "9.ts"], ""), now).unwrap();
    assert_eq!(put(&shelf, playlist(8, &["x.ts", "y.ts", "z.ts"], ""), now), Err(Refusal::AnotherEncoder));
    put(&shelf, playlist(0, &["0.ts"], ""), now + Duration::from_millis(2500)).unwrap();
    put(&shelf, playlist(0, &["0.ts", "1.ts"], "#EXT-X-ENDLIST\n"), now).unwrap();
    put(&shelf, playlist(0, &["x.ts"], ""), now).unwrap();
}

#[test]
fn a_restart_under_the_same_names_is_one() {
    let (shelf, now) = (Shelf::default(), Instant::now());
    shelf.put("live/0.ts", segment(1));
    put(&shelf, playlist(0, &["0.ts"], ""), now).unwrap();
    shelf.put("live/0.ts", segment(2));
    assert_eq!(put(&shelf, playlist(0, &["0.ts"], ""), now), Err(Refusal::AnotherEncoder));
    put(&shelf, playlist(0, &["0.ts"], ""), now + Duration::from_secs(3)).unwrap();
}

#[tokio::test]
async fn after_a_restart_old_files_are_not_taken_for_new_ones() {
    let (shelf, now) = (Shelf::default(), Instant::now());
    shelf.put("live/0.ts", segment(1));
    put(&shelf, playlist(0, &["0.ts"], "#EXT-X-ENDLIST\n"), now).unwrap();
    assert_eq!(shelf.file("live/0.ts", shelf.generation("live/index.m3u8", "live/0.ts")).await, segment(1));
    // The new run's playlist comes before its segment, and before that is even announced.
    put(&shelf, playlist(0, &["0.ts", "1.ts"], ""), now).unwrap();
    let next = shelf.generation("live/index.m3u8", "live/0.ts");
    assert_eq!(next, 1, "the list goes on; nothing says that it is another run");
    put(&shelf, playlist(7, &["7.ts"], "#EXT-X-ENDLIST\n"), now).unwrap();
    put(&shelf, playlist(0, &["0.ts"], ""), now).unwrap();
    let next = shelf.generation("live/index.m3u8", "live/0.ts");
    assert_eq!(next, 2);
    let early = tokio::time::timeout(Duration::from_millis(20), shelf.file("live/0.ts", next)).await;
    assert!(early.is_err(), "that is the old one");
    // A picture that is made the same way each time has the same bytes.
    shelf.put("live/0.ts", segment(1));
    assert_eq!(shelf.file("live/0.ts", next).await, segment(1));
    put(&shelf, playlist(0, &["0.ts", "1.ts"], ""), now).unwrap();
    assert_eq!(shelf.generation("live/index.m3u8", "live/0.ts"), next);
}

#[test]
fn a_file_comes_once_at_a_time_unless_its_request_is_silent() {
    let (shelf, now) = (Shelf::default(), Instant::now());
    let first = shelf.expect("a.ts", now).unwrap();
    assert_eq!(shelf.expect("a.ts", now).unwrap_err(), Refusal::AnotherEncoder);
    let second = shelf.expect("a.ts", now + TAKEOVER_AFTER).unwrap();
    assert_eq!(first.heard(now), Err(Refusal::TakenOver));
    drop(first);
    second.heard(now).unwrap();
    drop(second);
    shelf.expect("a.ts", now).unwrap();
}

#[tokio::test]
async fn the_shelf_stays_small() {
    let shelf = Shelf::default();
    for n in 0..FILES_MAX + 10 {
        shelf.put(&format!("{n}.ts"), segment(n as u8));
    }
    assert_eq!(shelf.lock().files.len(), FILES_MAX);
    for n in 100..200 {
        shelf.file(&format!("{n}.ts"), 1).await;
    }
    let kept = shelf.lock().files.values().filter(|file| file.read && file.body.is_some()).count();
    assert_eq!(kept, READ_MAX);
    let large = Bytes::from(vec![0x47; BYTES_MAX / 4 + 1]);
    for n in 0..5 {
        shelf.put(&format!("large-{n}.ts"), large.clone());
    }
    let inner = shelf.lock();
    assert!(inner.bytes <= BYTES_MAX);
    assert_eq!(inner.bytes, inner.files.values().filter_map(|file| file.body.as_ref()).map(Bytes::len).sum::<usize>());
}

#[test]
fn playlists_and_media_are_told_from_other_things() {
    assert!(pushed::listing("<html>", "a.m3u8").unwrap_err().contains("<html>"));
    assert!(pushed::listing("", "a.m3u8").is_err());
    assert!(pushed::not_media(b"<!DOCTYPE html>1").is_some());
    assert!(pushed::not_media(b"").is_some());
    assert!(pushed::not_media(b"not media").is_some());
    assert_eq!(pushed::not_media(&segment(3)), None);
    assert_eq!(pushed::not_media(&[0x9c; 160]), None, "it may be encrypted");
    let (_, listing) = playlist(3, &["../up.ts", "http://other/x.ts"], "");
    assert_eq!(listing.segments[0].1, "up.ts");
}
