//! What a session asks for next: the playlist, plainly or by RFC 8216bis §6.2.5's delivery directives; and a segment, a
//! part, or a part that is not listed yet.

use std::{future::Future, pin::Pin, time::Duration};

use url::Url;

use super::{
    Choice,
    download::{Delivery, Order, download},
    fetch::{FetchError, Http, Page},
    playlist::Segment,
    programme::Next,
    session::{Pending, Session},
};

/// No segment is fetched while this much media is ahead. hls.js 1.7: `maxBufferLength`.
pub(super) const FORWARD_BUFFER: Duration = Duration::from_secs(30);

/// A playlist that was loaded, or was not.
#[derive(Debug)]
pub(super) struct Loaded {
    /// When it was asked for.
    pub(super) asked: Duration,
    pub(super) page: Result<Page, FetchError>,
    /// The request named a part to wait for, or allowed a delta update.
    pub(super) directed: bool,
}

/// A segment or part that was fetched, or was not.
pub(super) type Fetched = (Segment, Result<Delivery, FetchError>);

impl Session {
    /// Asks for the playlist if it is time.
    pub(super) fn request_playlist(&mut self, now: Duration, reload: &mut Pending<Loaded>) {
        if reload.is_some() || !self.reloads.due(now) {
            return;
        }
        self.life.asks(now);
        let url = self.directed(now);
        *reload = Some(Box::pin(load(self.http.clone(), url.clone(), now, url != self.source)));
    }

    /// The playlist's address with delivery directives, as hls.js makes them: the next part is waited for after a playlist
    /// that brought something new; a delta update will do if what is known is younger than half the skip boundary.
    fn directed(&self, now: Duration) -> Url {
        let mut url = self.source.clone();
        let (Some(playlist), Some(low_latency)) = (self.programme.playlist(), self.programme.low_latency()) else {
            return url;
        };
        if self.may_block {
            let (sequence, part) = playlist.end();
            url.query_pairs_mut()
                .append_pair("_HLS_msn", &sequence.to_string())
                .append_pair("_HLS_part", &part.to_string());
        }
        let age = now.saturating_sub(self.known_at);
        if self.may_skip && low_latency.skip_until.is_some_and(|until| age < until / 2) {
            url.query_pairs_mut().append_pair("_HLS_skip", "YES");
        }
        url
    }

    /// Asks for the next segment or part, or for one that is only hinted at, if it is time for one.
    pub(super) fn request_media(&mut self, now: Duration, fetch: &mut Pending<Fetched>) {
        if std::mem::take(&mut self.fetch_is_stale) {
            *fetch = None;
            self.preload.ended(None);
        }
        if fetch.is_some() && self.preload.under_way().is_none() {
            return;
        }
        if self.player.buffered() >= FORWARD_BUFFER || !self.fetches.due(now) {
            return;
        }
        match self.next_media(now) {
            Some(segment) if self.preload.under_way().is_some_and(|hinted| hinted.is_same_media(&segment)) => {}
            Some(segment) => match self.preload.take(&segment) {
                Some(delivery) => *fetch = Some(Box::pin(std::future::ready((segment, Ok(delivery))))),
                None => *fetch = Some(self.download(now, segment)),
            },
            None => self.request_hint(now, fetch),
        }
    }

    /// Nothing listed is left to fetch: asks for what is hinted at.
    fn request_hint(&mut self, now: Duration, fetch: &mut Pending<Fetched>) {
        let hint = self.programme.hint().filter(|_| self.args.preload_hints == Choice::Auto).cloned();
        if let Some(part) = self.preload.under_way() {
            if hint.as_ref().is_some_and(|hint| hint.is_same_media(part)) {
                return;
            }
            tracing::debug!("a preload hint did not come true");
            self.preload.ended(None);
            *fetch = None;
        }
        if let Some(hint) = hint.filter(|hint| self.preload.begins(hint)) {
            *fetch = Some(self.download(now, hint));
        }
    }

    fn download(&mut self, now: Duration, segment: Segment) -> Pin<Box<dyn Future<Output = Fetched> + Send>> {
        self.life.asks(now);
        let order = Order { segment, init: self.init.clone(), dump: self.dump.clone() };
        Box::pin(download(self.http.clone(), order))
    }

    /// The next listed segment or part to fetch. What will never come is passed over on the way.
    fn next_media(&mut self, now: Duration) -> Option<Segment> {
        loop {
            match self.programme.next() {
                Next::Fetch(segment) => return Some(segment),
                Next::Gap(length) => {
                    self.continuity.restart();
                    self.player.pass_gap(length);
                }
                Next::Undecodable(length) => self.player.skip_on(now, length),
                Next::Skip(lost) => {
                    tracing::warn!(?lost, "fell out of the live window, going on near its end");
                    self.skip_to_rejoin(now, lost);
                    self.fetches.succeeded(now);
                }
                Next::Complete => {
                    self.player.complete(now);
                    return None;
                }
                Next::Wait => return None,
            }
        }
    }

    /// Play goes on at the hold-back from the end; between there and what is buffered, `lost` is missing.
    pub(super) fn skip_to_rejoin(&mut self, now: Duration, lost: Duration) {
        let lead_in = self.programme.lead_in();
        self.continuity.restart();
        self.player.skip(now, lost + lead_in);
        self.player.hide(lead_in);
    }
}

async fn load(http: Http, url: Url, asked: Duration, directed: bool) -> Loaded {
    Loaded { asked, page: http.playlist(url).await, directed }
}
