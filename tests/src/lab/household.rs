//! Traffic of a viewer's household beside the stream: an upload over the kernel's TCP from the viewer's host, and at the same
//! time the same one from a twin, a host on an idle link of the same kind. What the first gets in parts of the second says
//! whether the viewer's node yields.

use std::{
    fmt,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::net::sockopt::set_tcp_congestion;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{figures::ratio, network::Host};

/// Both uploads, and where they lead.
pub(super) struct Uploads {
    pub(super) elsewhere: Host,
    beside: Upload,
    alone: Upload,
}

/// A connection that takes what it gets.
struct Upload {
    received: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

/// What was seen of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Household {
    /// While the uploads ran, seconds since 1970.
    pub upload: Range<f64>,
    /// One entry a second.
    pub seconds: Vec<Second>,
}

/// Bytes since the run began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Seconds since 1970.
    pub wall: f64,
    /// Received of the upload beside the viewer.
    pub beside: u64,
    /// Of the one on the idle link.
    pub alone: u64,
    /// IP packets the viewer's host sent for the stream: all but the upload.
    pub relayed: u64,
}

/// The figures, for the report. Rates in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// What the upload gets on an idle link.
    pub household_alone_bps: f64,
    /// What it gets beside the viewer.
    pub household_beside_bps: f64,
    /// The second in parts of the first.
    pub household_ratio: Option<f64>,
    /// The same of the first ten seconds, while the viewer's node finds out.
    pub household_ratio_at_first: Option<f64>,
    /// And of the last third of the time, when it may have got used to it.
    pub household_ratio_last_third: Option<f64>,
    /// What the viewer's host sends for the stream before the upload begins.
    pub relayed_before_bps: f64,
    /// And during it.
    pub relayed_beside_bps: f64,
    /// And when it is over.
    pub relayed_after_bps: f64,
    /// How long it takes then until the viewer's host sends half as much as before; `None`: longer than was measured.
    pub relaying_again_seconds: Option<f64>,
}

const PORT: u16 = 9000;
/// Bytes written or read at once.
const PIECE: usize = 64 << 10;
/// A second is too short to tell what is sent: chunks come in bursts.
const AGAIN_OVER: f64 = 5.0;
/// A receiver that gets nothing looks so often whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Uploads {
    /// Begins both, under this congestion control (a name the kernel knows).
    ///
    /// # Errors
    /// If a connection can't be had or the kernel doesn't know that control.
    pub(super) async fn begin(viewer: Host, twin: Host, elsewhere: Host, congestion: &str) -> Result<Self> {
        let beside = Upload::begin(viewer, elsewhere.clone(), PORT, congestion.to_owned());
        let alone = Upload::begin(twin, elsewhere.clone(), PORT + 1, congestion.to_owned());
        let (beside, alone) = tokio::try_join!(beside, alone)?;
        Ok(Self { elsewhere, beside, alone })
    }

    /// What was received, beside the viewer and alone.
    pub(super) fn received(&self) -> (u64, u64) {
        (self.beside.received.load(Relaxed), self.alone.received.load(Relaxed))
    }

    /// Ends both.
    pub(super) fn end(&self) {
        self.beside.over.store(true, Relaxed);
        self.alone.over.store(true, Relaxed);
    }
}

impl Upload {
    async fn begin(from: Host, to: Host, port: u16, congestion: String) -> Result<Self> {
        let connect = move || -> Result<_> {
            let listener = to.namespace.enter(move || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))??;
            let sender = from.namespace.enter(move || TcpStream::connect((to.address, port)))??;
            set_tcp_congestion(&sender, &congestion)
                .with_context(|| format!("the kernel has no congestion control {congestion:?}"))?;
            Ok((sender, listener.accept()?.0))
        };
        let (sender, receiver) = spawn_blocking(connect).await?.context("a household's upload")?;
        receiver.set_read_timeout(Some(LOOK_EVERY))?;
        let upload = Self { received: Arc::default(), over: Arc::default() };
        let (count, over) = (Arc::clone(&upload.received), Arc::clone(&upload.over));
        thread::spawn(move || send(sender));
        thread::spawn(move || receive(receiver, &count, &over));
        Ok(upload)
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        self.end();
    }
}

fn send(mut to: TcpStream) {
    let piece = [0; PIECE];
    while to.write_all(&piece).is_ok() {}
}

/// Closes the connection in the end, which resets it for the sender: what still waits there isn't sent any more.
fn receive(mut from: TcpStream, count: &AtomicU64, over: &AtomicBool) {
    let mut piece = [0; PIECE];
    while !over.load(Relaxed) {
        match from.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => drop(count.fetch_add(length as u64, Relaxed)),
            Err(_) => {} // nothing came
        }
    }
}

impl Household {
    /// The figures of the window; `None` if there was no upload in it.
    pub fn figures(&self, window: &Range<f64>) -> Option<Figures> {
        let Range { start, end } = self.upload;
        let at_first = start..end.min(start + 10.0);
        let last_third = end - (end - start) / 3.0..end;
        let alone = |during: &Range<f64>| self.bps(during, |second| second.alone);
        let beside = |during: &Range<f64>| self.bps(during, |second| second.beside);
        let relayed = |during: Range<f64>| self.bps(&during, |second| second.relayed);
        let share = |during: &Range<f64>| ratio(beside(during), alone(during));
        (end > start && window.start <= start && end <= window.end).then(|| Figures {
            household_alone_bps: alone(&self.upload),
            household_beside_bps: beside(&self.upload),
            household_ratio: share(&self.upload),
            household_ratio_at_first: share(&at_first),
            household_ratio_last_third: share(&last_third),
            relayed_before_bps: relayed(window.start..start),
            relayed_beside_bps: relayed(start..end),
            relayed_after_bps: relayed(end..window.end),
            relaying_again_seconds: self.relaying_again(end, window.end, relayed(window.start..start) / 2.0),
        })
    }

    /// How long after `over` this rate is sent again, taken over [`AGAIN_OVER`].
    fn relaying_again(&self, over: f64, until: f64, bps: f64) -> Option<f64> {
        let walls = self.seconds.iter().map(|second| second.wall);
        let again = walls.filter(|wall| (over..until - AGAIN_OVER).contains(wall)).find(|wall| {
            let window = *wall..wall + AGAIN_OVER;
            self.bps(&window, |second| second.relayed) >= bps
        });
        again.map(|wall| wall - over)
    }

    /// Over time: seconds from `begin` on, and rates since the second before.
    pub(super) fn rates(&self, begin: f64, of: impl Fn(&Second) -> u64) -> Vec<(f64, f64)> {
        let pairs = self.seconds.windows(2);
        let rate = |pair: &[Second]| {
            let bytes = of(&pair[1]).saturating_sub(of(&pair[0]));
            (pair[1].wall - begin, bytes as f64 * 8.0 / (pair[1].wall - pair[0].wall).max(0.1))
        };
        pairs.map(rate).collect()
    }

    fn bps(&self, during: &Range<f64>, of: impl Fn(&Second) -> u64) -> f64 {
        let mut inside = self.seconds.iter().filter(|second| during.contains(&second.wall));
        let Some(first) = inside.next() else { return 0.0 };
        let last = inside.next_back().unwrap_or(first);
        ratio((of(last) - of(first)) as f64 * 8.0, last.wall - first.wall).unwrap_or(0.0)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0));
        write!(
            f,
            "household's upload {:.2} Mbit/s of {:.2} alone: {} (first 10 s {}, last third {}); relayed {:.2} Mbit/s before, {:.2} beside, {:.2} after, half as before {}",
            self.household_beside_bps / 1e6,
            self.household_alone_bps / 1e6,
            percent(self.household_ratio),
            percent(self.household_ratio_at_first),
            percent(self.household_ratio_last_third),
            self.relayed_before_bps / 1e6,
            self.relayed_beside_bps / 1e6,
            self.relayed_after_bps / 1e6,
            self.relaying_again_seconds.map_or("not again".to_owned(), |seconds| format!("after {seconds:.0} s"))
        )
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Relays 4 Mbit/s before and after, 1 beside an upload of 4 Mbit/s that would have 5 alone, from second 108 to 112.
    pub(in crate::lab) fn household() -> Household {
        let mut at = Second { wall: 100.0, ..Second::default() };
        let mut seconds = Vec::new();
        while at.wall < 120.0 {
            at.wall += 1.0;
            if (108.0..112.0).contains(&(at.wall - 0.5)) {
                (at.beside, at.alone, at.relayed) = (at.beside + 500_000, at.alone + 625_000, at.relayed + 125_000);
            } else {
                at.relayed += 500_000;
            }
            seconds.push(at);
        }
        Household { upload: 107.9..112.1, seconds }
    }

    #[test]
    fn an_upload_is_compared_with_its_twin_and_what_the_viewer_sent() {
        let mut figures = household().figures(&(103.0..120.5)).unwrap();
        figures.relaying_again_seconds = figures.relaying_again_seconds.map(|seconds| (seconds * 10.0).round() / 10.0);
        let expected = Figures {
            household_alone_bps: 5e6,
            household_beside_bps: 4e6,
            household_ratio: Some(0.8),
            household_ratio_at_first: Some(0.8),
            household_ratio_last_third: Some(0.8),
            relayed_before_bps: 4e6,
            relayed_beside_bps: 1e6,
            relayed_after_bps: 4e6,
            relaying_again_seconds: Some(0.9),
        };
        assert_eq!(figures, expected);
        assert!(figures.to_string().contains("80.0 %"), "{figures}");
        assert_eq!(Household::default().figures(&(103.0..118.0)), None);
    }
}
