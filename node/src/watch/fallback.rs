//! When nobody of the mesh can be reached: follow the origin's own playlist, like any player.
//!
//! What comes this way is played and never passed on: no statement proves it. The mesh takes over as soon as a signed
//! catalogue arrives.

use std::sync::Arc;
use std::time::Duration;

use starling_proto::{Epoch, StreamId};
use tokio::sync::mpsc;

use crate::broadcast::publisher::Publisher;
use crate::ingest::pull;
use crate::link::Link;
use crate::media::Media;
use crate::net::Produced;

/// How long the mesh has to show a catalogue: dialling the broadcaster takes a few round trips.
const MESH_PATIENCE: Duration = Duration::from_millis(1200);

/// Follows the origin while there is no signed catalogue; ends when there is one or when told to.
pub(super) async fn run(
    link: Link,
    stream: StreamId,
    media: Arc<Media>,
    produced: mpsc::Sender<Produced>,
    stopped: impl Future<Output = ()> + Send,
) {
    let mut changes = media.changes();
    let signed = async {
        let signed = |media: &Media| media.catalogue().is_some_and(|c| c.epoch > Epoch(0));
        let _ = changes.wait_for(|_| signed(&media)).await;
    };
    let follow = async {
        tokio::time::sleep(MESH_PATIENCE).await;
        tracing::warn!(
            "nobody with this link's key answers: playing from the origin alone until somebody does; if this lasts, the \
             broadcaster is off or the link is wrong: ask for a new one"
        );
        let (events_tx, mut events) = mpsc::channel(8);
        let mut publisher = Publisher::new(None, stream, link.name.clone(), Epoch(0), false);
        let publish = async {
            while let Some(event) = events.recv().await {
                for item in publisher.publish(event).unwrap_or_default() {
                    if produced.send(item).await.is_err() {
                        return;
                    }
                }
            }
        };
        let pulled = pull::run_as_viewer(link.origin.clone(), events_tx, std::future::pending());
        let (pulled, ()) = tokio::join!(pulled, publish);
        if let Err(error) = pulled {
            tracing::warn!(%error, "the origin can't be followed either; waiting for the mesh");
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = signed => {}
        () = follow => {}
        () = stopped => {}
    }
}
