//! Ending together: one switch, and futures that resolve when it is thrown.

use tokio::sync::watch;

/// Resolves when the switch is thrown, or is gone.
pub(crate) async fn signalled(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}
