//! Shaka Player on a page of its own, as somebody else's web site would play a viewer's playlist.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    http::header::CONTENT_TYPE,
    response::{Html, IntoResponse as _},
    routing::get,
};
use reqwest::Url;
use tokio::{net::TcpListener, task::JoinHandle};

const LIBRARY: &str = "page/node_modules/shaka-player/dist/shaka-player.compiled.js";

/// The page's server. Dropping it ends it.
pub(crate) struct Shaka {
    server: JoinHandle<()>,
    address: String,
}

impl Shaka {
    /// Serves the page on loopback.
    ///
    /// # Errors
    /// If Shaka Player isn't installed, or nothing can listen.
    pub(crate) async fn serve() -> Result<Self> {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(LIBRARY);
        let library = fs::read(&file)
            .with_context(|| format!("{} (was it installed, by `npm ci` in tests/page?)", file.display()))?;
        let script = || async move { ([(CONTENT_TYPE, "text/javascript")], library).into_response() };
        let page = || async { Html(include_str!("shaka.html")) };
        let router = Router::new().route("/", get(page)).route("/shaka.js", get(script));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}/", listener.local_addr()?);
        let server = tokio::spawn(async move {
            let _: Result<(), _> = axum::serve(listener, router).await;
        });
        Ok(Self { server, address })
    }

    /// Where it plays a playlist.
    pub(crate) fn playing(&self, playlist: &str) -> Result<String> {
        Ok(Url::parse_with_params(&self.address, [("playlist", playlist)])?.into())
    }
}

impl Drop for Shaka {
    fn drop(&mut self) {
        self.server.abort();
    }
}
