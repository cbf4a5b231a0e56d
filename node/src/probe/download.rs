//! Fetching one segment or part, with its initialisation section if that is new. Bytes are looked at as they pass and not kept.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    fs::{self, File},
    io::AsyncWriteExt,
    time::Instant,
};

use super::{
    fetch::{Body, FetchError, Http},
    fmp4::Track,
    media::{Analyser, Analysis, Container},
    playlist::{Resource, Segment},
};

/// One segment or part to fetch.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) segment: Segment,
    /// The initialisation section fetched last.
    pub(super) init: Option<Init>,
    /// Directory to write bodies into.
    pub(super) dump: Option<Arc<Path>>,
}

/// An initialisation section that was fetched and read.
#[derive(Clone, Debug)]
pub(super) struct Init {
    map: Arc<Resource>,
    track: Option<Track>,
}

/// A segment or part that arrived whole.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) init: Option<Init>,
    pub(super) analysis: Analysis,
    /// It was asked for before it was listed.
    pub(super) hinted: bool,
    /// Length of the segment's body.
    pub(super) bytes: u64,
    /// From the request for the segment to the head of the answer.
    pub(super) first_byte: Duration,
    /// From the request for the segment (or the initialisation section it needed) to its last byte.
    pub(super) whole: Duration,
}

/// Fetches what `order` asks for, and says which segment that was.
pub(super) async fn download(http: Http, order: Order) -> (Segment, Result<Delivery, FetchError>) {
    let outcome = deliver(&http, &order).await;
    (order.segment, outcome)
}

async fn deliver(http: &Http, order: &Order) -> Result<Delivery, FetchError> {
    let Order { segment, init, dump } = order;
    let started = Instant::now();
    let init = match &segment.map {
        None => None,
        Some(map) => match init.as_ref().filter(|init| init.map == *map) {
            Some(known) => Some(known.clone()),
            None => Some(fetch_init(http, map, segment, dump.as_deref()).await?),
        },
    };
    let asked = Instant::now();
    let body = http.media(&segment.resource).await?;
    let first_byte = asked.elapsed();
    let analyser = analyser(segment, init.as_ref().and_then(|init| init.track));
    let name = match segment.part {
        None => format!("{}.bin", segment.sequence),
        Some(part) => format!("{}.{}.bin", segment.sequence, part.index),
    };
    let path = dump.as_ref().map(|dir| dir.join(name));
    let (bytes, analysis) = receive(body, analyser, path).await?;
    Ok(Delivery { init, analysis, hinted: false, bytes, first_byte, whole: started.elapsed() })
}

async fn fetch_init(
    http: &Http,
    map: &Arc<Resource>,
    segment: &Segment,
    dump: Option<&Path>,
) -> Result<Init, FetchError> {
    let body = http.media(map).await?;
    let path = dump.map(|dir| dir.join(format!("init-{}.bin", segment.sequence)));
    let (_, analysis) = receive(body, analyser(segment, None), path).await?;
    if let (Container::Fmp4, Some(fault)) = (analysis.container, analysis.fault) {
        return Err(fault.into());
    }
    Ok(Init { map: Arc::clone(map), track: analysis.track })
}

fn analyser(segment: &Segment, track: Option<Track>) -> Analyser {
    if segment.opaque { Analyser::opaque() } else { Analyser::new(track) }
}

/// Takes a body to its end. A dump appears under its name only when it is whole.
async fn receive(mut body: Body, mut analyser: Analyser, dump: Option<PathBuf>) -> Result<(u64, Analysis), FetchError> {
    let mut bytes = 0;
    let partial = dump.as_ref().map(|path| path.with_extension("part"));
    let mut file = match &partial {
        Some(path) => Some(File::create(path).await?),
        None => None,
    };
    while let Some(chunk) = body.chunk().await? {
        bytes += chunk.len() as u64;
        analyser.push(&chunk);
        if let Some(file) = &mut file {
            file.write_all(&chunk).await?;
        }
    }
    let analysis = analyser.finish()?;
    if let (Some(mut file), Some(partial), Some(path)) = (file, partial, dump) {
        file.flush().await?;
        fs::rename(partial, path).await?;
    }
    Ok((bytes, analysis))
}
