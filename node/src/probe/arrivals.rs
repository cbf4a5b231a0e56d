//! What a session does with what arrives: playlists, segments and failures.

use std::time::Duration;

use super::{
    download::Delivery,
    fetch::{FetchError, Page},
    player::Player,
    playlist::{MediaPlaylist, Multivariant, Playlist, PlaylistError, Segment},
    programme::{Join, Update},
    report::Variant,
    session::{SECOND, Session, wall_clock},
    tally::Arrival,
    variables::Variables,
};

/// However short the target duration. A choice of this project.
const SHORTEST_RELOAD: Duration = Duration::from_millis(100);
/// hls.js 1.7: `errorRetry.maxNumRetry` of `fragLoadPolicy`.
const SEGMENT_RETRIES: u32 = 6;
/// hls.js does not repeat a request that was answered 404; once is allowed here, for a listing that outran its segment.
const MISSING_RETRIES: u32 = 1;

impl Session {
    /// A playlist arrived that was asked for at `asked`, or did not. `Err` says why the session cannot go on.
    pub(super) fn playlist_came(&mut self, asked: Duration, page: Result<Page, FetchError>) -> Result<(), String> {
        let no_variables = Variables::default();
        let imports = self.chosen.as_ref().map_or(&no_variables, |chosen| &chosen.variables);
        let read = page.and_then(|page| Ok(Playlist::read(&page.body, &page.address, imports)?));
        match read {
            Ok(Playlist::Media(playlist)) => {
                self.life.answered();
                self.take_playlist(asked, playlist);
                Ok(())
            }
            Ok(Playlist::Multivariant(_)) if self.chosen.is_some() => {
                Err(format!("{}: a variant's playlist lists variants again", self.source))
            }
            Ok(Playlist::Multivariant(multivariant)) => {
                self.life.answered();
                self.choose(multivariant);
                Ok(())
            }
            // at first sight a wrong address is more likely than a server that is not ready; an empty body is the latter
            Err(FetchError::Playlist(error)) if self.programme.is_unknown() && error != PlaylistError::Empty => {
                Err(format!("{}: {error}", self.source))
            }
            Err(error) => {
                let target = self.target();
                let now = self.now();
                self.count(&error, "playlist");
                self.tally.retry();
                self.reloads.failed(now, target);
                Ok(())
            }
        }
    }

    fn choose(&mut self, multivariant: Multivariant) {
        let Some(variant) = multivariant.choose(self.args.bandwidth) else {
            return;
        };
        tracing::debug!(bandwidth = variant.bandwidth, "chose a variant");
        if variant.separate_audio {
            self.tally.note("the variant names an audio group; only the variant's own playlist is fetched");
        }
        self.source = variant.url.clone();
        self.tally.variant = Some(Variant { bandwidth: variant.bandwidth, resolution: variant.resolution });
        self.chosen = Some(multivariant);
        self.reloads.succeeded(Duration::ZERO);
    }

    fn take_playlist(&mut self, asked: Duration, playlist: MediaPlaylist) {
        // RFC 8216bis §6.3.4, measured from when the load began
        let wait = if self.programme.is_changed_by(&playlist) { playlist.target } else { playlist.target / 2 };
        self.reloads.succeeded(if playlist.ended { Duration::MAX } else { asked + wait.max(SHORTEST_RELOAD) });
        if playlist.segments.last().is_some_and(|last| last.capture.is_none()) {
            self.tally.note("the playlist has no EXT-X-PROGRAM-DATE-TIME: lag cannot be measured");
        }
        let now = self.now();
        let start = self.chosen.as_ref().and_then(|chosen| chosen.start);
        match self.programme.update(now, playlist, start) {
            Update::Begins { offset } => self.player = Player::starting_at(offset),
            Update::Restarts { lost } => {
                tracing::warn!(?lost, "the server numbers its segments anew");
                self.tally.restarts += 1;
                self.continuity.restart();
                if !lost.is_zero() {
                    self.player.skip(now, lost);
                }
            }
            Update::Outdated => tracing::debug!("passed over an old copy of the playlist"),
            Update::Continues => {}
        }
    }

    /// `segment` arrived, or did not. `Err` says why the session cannot go on.
    pub(super) fn segment_came(
        &mut self,
        segment: &Segment,
        outcome: Result<Delivery, FetchError>,
    ) -> Result<(), String> {
        let now = self.now();
        match outcome {
            Ok(delivery) => {
                self.life.answered();
                self.fetches.succeeded(Duration::ZERO);
                self.append(now, segment, delivery);
                Ok(())
            }
            Err(error @ FetchError::Dump(_)) => Err(error.to_string()),
            Err(error) => {
                self.count(&error, "segment");
                self.fetches.failed(now, self.target());
                let retries = if error.is_missing() { MISSING_RETRIES } else { SEGMENT_RETRIES };
                if self.fetches.failures() <= retries {
                    self.tally.retry();
                } else {
                    self.fetches.succeeded(Duration::ZERO);
                    self.lose(now, segment);
                }
                Ok(())
            }
        }
    }

    fn append(&mut self, now: Duration, segment: &Segment, delivery: Delivery) {
        let new = self.programme.is_new(segment);
        let join = self.programme.arrived(segment);
        self.init = delivery.init;
        match join {
            // the server numbered anew while this was on its way
            None => return,
            Some(Join::Continues) => {}
            Some(Join::Starts) => self.continuity.restart(),
            Some(Join::Breaks) => {
                self.tally.discontinuities += 1;
                self.continuity.restart();
            }
        }
        if let Some(fault) = delivery.analysis.fault {
            tracing::warn!(sequence = segment.sequence, "{fault}");
            self.tally.error(&FetchError::NotMedia(fault));
        }
        if segment.opaque {
            self.tally.note("segments are encrypted as a whole: counted and timed, their timestamps not checked");
        }
        self.player.advance(now);
        let advance = self.continuity.accept(delivery.analysis.span, segment.duration);
        let captured = segment.capture.map(|capture| capture + segment.duration.as_secs_f64());
        self.tally.segment(Arrival {
            sequence: segment.sequence,
            container: delivery.analysis.container,
            bytes: delivery.bytes,
            media: advance.duration,
            first_byte: delivery.first_byte,
            whole: delivery.whole,
            after_capture: captured.filter(|_| new).map(|captured| wall_clock() - captured),
            waited: self.player.waiting(),
        });
        let capture = segment.capture.map(|capture| capture - advance.lead);
        self.player.append(now, advance.duration, capture);
    }

    fn lose(&mut self, now: Duration, segment: &Segment) {
        if self.programme.lost(segment) {
            tracing::warn!(sequence = segment.sequence, "going on without a segment");
            self.continuity.restart();
            self.player.skip(now, segment.duration);
        }
    }

    fn count(&mut self, error: &FetchError, what: &str) {
        self.tally.error(error);
        if self.life.failed(error.to_string()) {
            // no query: it may carry a token
            let host = self.source.host_str().unwrap_or_default();
            tracing::warn!(host, path = self.source.path(), "{what}: {error}; trying again");
        } else {
            tracing::debug!("{what}: {error}; trying again");
        }
    }

    fn target(&self) -> Duration {
        self.programme.target().unwrap_or(SECOND)
    }
}
