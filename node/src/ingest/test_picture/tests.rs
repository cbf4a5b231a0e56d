use std::io::Write;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::timeout;

use super::*;

const SEGMENT: Duration = Duration::from_millis(200);
/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(40);

/// What is logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn warnings(&self) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches("the system clock was set").count()
    }
}

async fn next(events: &mut mpsc::Receiver<Ingested>) -> Segment {
    loop {
        match timeout(SOON, events.recv()).await.expect("in time").expect("it goes on") {
            Ingested::Segment(segment) => return *segment,
            Ingested::Shape(_) | Ingested::Part(_) | Ingested::Ended => {}
        }
    }
}

#[tokio::test]
async fn the_picture_follows_a_clock_that_is_set_and_keeps_its_pace() {
    let log = Log::default();
    let sink = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || sink.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let set_by = Arc::new(AtomicI64::new(0));
    let off = set_by.clone();
    let clocks = move || {
        let now = clock::read();
        Reading { wall: now.wall.shifted(off.load(Ordering::Relaxed)), ..now }
    };
    let options = Options { title: "Test".into(), bitrates_bps: vec![300_000], segment: SEGMENT, part: None };
    let (sender, mut events) = mpsc::channel(1);
    tokio::spawn(run_by(clocks, options, sender));
    let began = Instant::now();
    let mut before = next(&mut events).await;
    let mut all = 1;
    for (times, jump_s) in [3, -3, 7200, -7200, 0].into_iter().enumerate() {
        set_by.store(jump_s * 1_000_000, Ordering::Relaxed);
        // The segments under way when the clock is set still have the old time.
        loop {
            let segment = next(&mut events).await;
            all += 1;
            assert_eq!(segment.number, before.number + 1, "none is lost");
            assert!(!segment.discontinuity, "the media goes on as it was");
            let step = segment.start.seconds_since(before.start) - SEGMENT.as_secs_f64();
            before = segment;
            if step.abs() > 0.4 {
                break;
            }
            assert!(step.abs() < 0.001, "a segment lasts as long as it says: {step}");
        }
        let age = clock::read().wall.seconds_since(before.start) + jump_s as f64;
        assert!((0.0..SOON.as_secs_f64()).contains(&age), "captured {age} s ago by the clock that was set");
        assert_eq!(log.warnings(), times + 1, "one warning for each time it is set");
    }
    assert!(began.elapsed() >= SEGMENT * all, "no segment comes before its time");
}
