//! When nobody of the mesh can be reached, or nothing is heard of the broadcaster any more: follow the origin's own playlist,
//! like any player.
//!
//! What comes this way is played and never passed on: no statement proves it. The mesh takes over as soon as something
//! signed arrives.
//!
//! Mid-stream the rule is silence. RFC 8216bis §6.2.2 has a live playlist change every one and a half target durations at the
//! latest, and players keep three of them buffered; so one and three quarters without an announcement say that something is
//! wrong, and leave one for reading the playlist and a segment. Viewers don't all ask at once ([`SPREAD`]); they read the
//! playlist at the pace the standard sets any player, and segments only if there are new ones. A broadcaster that waits for
//! its source costs the origin that much and no more. One that serves the first copies itself took the origin along when
//! it died, so then there is nothing to follow.

use std::sync::Arc;
use std::time::{Duration, Instant};

use starling_proto::{Epoch, RenditionId, StreamId};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until};

use crate::broadcast::publisher::Publisher;
use crate::ingest::pull::{self, PullError, Resume};
use crate::link::Link;
use crate::media::Media;
use crate::net::{Heard, Produced};

/// How long the mesh has to show a catalogue: dialling the broadcaster takes a few round trips.
const MESH_PATIENCE: Duration = Duration::from_millis(1200);
/// Silence, in target durations, after which a viewer looks for itself; see above.
const SILENCE: f64 = 1.75;
/// And up to so many later, each viewer by its own draw.
const SPREAD: f64 = 0.5;
/// When to try again to follow an origin that couldn't be followed for half a minute.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Follows the origin for as long as there is no broadcaster.
pub(super) struct Fallback {
    pub(super) link: Link,
    pub(super) stream: StreamId,
    pub(super) media: Arc<Media>,
    pub(super) heard: watch::Receiver<Heard>,
    pub(super) produced: mpsc::Sender<Produced>,
}

impl Fallback {
    /// Runs until `stopped`.
    pub(super) async fn run(mut self, stopped: impl Future<Output = ()> + Send) {
        tokio::select! {
            () = async {
                self.begin().await;
                self.go_on().await;
            } => {}
            () = stopped => {}
        }
    }

    /// Until there is a signed catalogue.
    async fn begin(&self) {
        let mut changes = self.media.changes();
        let signed = changes.wait_for(|_| self.media.catalogue().is_some_and(|c| c.epoch > Epoch(0)));
        let follow = async {
            sleep(MESH_PATIENCE).await;
            tracing::warn!(
                "nobody with this link's key answers: playing from the origin alone until somebody does; if this lasts, \
                 the broadcaster is off or the link is wrong: ask for a new one"
            );
            if let Err(error) = self.pull(Epoch(0), None).await {
                tracing::warn!(%error, "the origin can't be followed either; waiting for the mesh");
            }
            std::future::pending().await
        };
        tokio::select! {
            _ = signed => {}
            () = follow => {}
        }
    }

    /// Mid-stream: bridges every silence.
    async fn go_on(&mut self) {
        let mut bridge = Epoch(0);
        loop {
            let silent = self.silence().await;
            let Some(catalogue) = self.media.catalogue() else { continue };
            tracing::warn!(
                seconds = silent.at.elapsed().as_secs_f64(),
                "nothing is heard of the broadcaster any more: {}",
                if catalogue.serves {
                    "its own server was the origin, so the picture stops until it is back; playing what neighbours have"
                } else {
                    "going on from the origin alone until it is back"
                }
            );
            while self.is_silent_since(&silent) {
                // Between this start of the broadcaster and its next, which will be named after the time.
                bridge = Epoch(bridge.max(catalogue.epoch).0 + 1);
                let mut heard = self.heard.clone();
                let following = heard.borrow_and_update().following.clone();
                let bridged = async {
                    if !catalogue.serves {
                        self.bridge(bridge, &following).await;
                    }
                    std::future::pending().await
                };
                tokio::select! {
                    _ = heard.changed() => {}
                    () = bridged => {}
                }
            }
            if self.heard.borrow().at != silent.at {
                tracing::info!(seconds = silent.at.elapsed().as_secs_f64(), "the broadcaster is heard of again");
            }
        }
    }

    /// Waits until players follow something of which nothing was announced for too long.
    async fn silence(&mut self) -> Heard {
        let patience = SILENCE + SPREAD * rand::random::<f64>();
        loop {
            let heard = self.heard.borrow_and_update().clone();
            let due = self.target(&heard).map(|target| heard.at + target.mul_f64(patience));
            let over = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.heard.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
                // The catalogue may have changed meanwhile: ended, for one.
                () = over => if self.target(&heard).is_some_and(|target| heard.at + target.mul_f64(patience) <= Instant::now()) {
                    return heard;
                },
            }
        }
    }

    /// The longest target duration of what is followed; `None` if nothing need be announced.
    fn target(&self, heard: &Heard) -> Option<Duration> {
        let catalogue = self.media.catalogue().filter(|c| !c.ended)?;
        let targets = heard.following.iter().filter_map(|r| catalogue.rendition(*r)).map(|r| r.target_duration);
        targets.max().map(|seconds| Duration::from_secs(seconds.into()))
    }

    fn is_silent_since(&self, silent: &Heard) -> bool {
        let heard = self.heard.borrow();
        heard.at == silent.at && self.target(&heard).is_some()
    }

    /// Follows the origin from what is here, as long as it lives.
    async fn bridge(&self, epoch: Epoch, following: &[RenditionId]) {
        loop {
            let media = self.media.clone();
            let has =
                move |rendition, uri: &str, offset, number| media.goes_on_from(rendition, (uri, offset), epoch, number);
            let resume = Resume { renditions: following.to_vec(), has: Box::new(has) };
            match self.pull(epoch, Some(resume)).await {
                Ok(()) => return tracing::info!("the origin's playlist has ended"),
                Err(PullError::NotLive { .. }) => return tracing::info!("the origin's playlist had ended before"),
                Err(error) => tracing::info!(%error, "the origin can't be followed either; trying again now and then"),
            }
            sleep(TRY_AGAIN).await;
        }
    }

    /// Follows the origin until it ends.
    async fn pull(&self, epoch: Epoch, resume: Option<Resume>) -> Result<(), PullError> {
        let (events_tx, mut events) = mpsc::channel(8);
        let mut publisher = Publisher::new(None, self.stream, self.link.name.clone(), epoch, false);
        let publish = async {
            while let Some(event) = events.recv().await {
                for item in publisher.publish(event).unwrap_or_default() {
                    if self.produced.send(item).await.is_err() {
                        return;
                    }
                }
            }
        };
        let pulled = pull::run_as_viewer(self.link.origin.clone(), resume, events_tx, std::future::pending());
        tokio::join!(pulled, publish).0
    }
}
