//! What a session does with what arrives: playlists, segments and failures.

use std::time::Duration;

use super::{
    Choice,
    download::Delivery,
    fetch::FetchError,
    player::Player,
    playlist::{MediaPlaylist, Multivariant, Playlist, PlaylistError, Segment},
    programme::{Join, Update},
    report::Variant,
    requests::Loaded,
    session::{SECOND, Session, wall_clock},
    tally::Arrival,
    variables::Variables,
};

/// However short the target duration. A choice of this project.
const SHORTEST_RELOAD: Duration = Duration::from_millis(100);
/// A playlist that brought something new is loaded again at once with a request that the server holds, but after no less
/// than this share of a part target: a server that does not hold it is not to be flooded. A guess.
const SHORTEST_PART_RELOAD: u32 = 4;
/// hls.js 1.7: `errorRetry.maxNumRetry` of `fragLoadPolicy`.
const SEGMENT_RETRIES: u32 = 6;
/// hls.js does not repeat a request that was answered 404; once is allowed here, for a listing that outran its segment.
const MISSING_RETRIES: u32 = 1;

impl Session {
    /// A playlist arrived, or did not. `Err` says why the session cannot go on.
    pub(super) fn playlist_came(&mut self, loaded: Loaded) -> Result<(), String> {
        let Loaded { asked, page, directed } = loaded;
        let no_variables = Variables::default();
        let imports = self.chosen.as_ref().map_or(&no_variables, |chosen| &chosen.variables);
        let known = self.programme.playlist();
        let read = page.and_then(|page| Ok(Playlist::read_after(known, &page.body, &page.address, imports)?));
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
                self.playlist_failed(&error, directed);
                Ok(())
            }
        }
    }

    /// As in hls.js, a request with delivery directives is followed by one without: at once if the server took too long
    /// or sent a delta update that does not fit, else as any failure.
    fn playlist_failed(&mut self, error: &FetchError, directed: bool) {
        let (now, target) = (self.now(), self.target());
        self.count(error, "playlist");
        self.tally.retry();
        let misled = matches!(error, FetchError::Timeout | FetchError::Playlist(PlaylistError::Delta));
        if directed && misled {
            self.reloads.succeeded(now);
        } else {
            self.reloads.failed(now, target);
        }
        self.may_block = false;
        self.may_skip = false;
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

    fn take_playlist(&mut self, asked: Duration, mut playlist: MediaPlaylist) {
        if self.args.low_latency == Choice::Off {
            playlist.low_latency = None;
        }
        let changed = self.programme.is_changed_by(&playlist);
        self.pace_reloads(asked, &playlist, changed);
        if !playlist.parts_add_up() {
            self.tally.note("the parts of a segment do not add up to its length");
        }
        if playlist.segments.last().is_some_and(|last| last.capture.is_none()) {
            self.tally.note("the playlist has no EXT-X-PROGRAM-DATE-TIME: lag cannot be measured");
        }
        let now = self.now();
        let start = self.chosen.as_ref().and_then(|chosen| chosen.start);
        let by_parts = playlist.low_latency.is_some();
        match self.programme.update(now, playlist, start) {
            Update::Begins { offset } if by_parts => self.player = Player::starting_at(offset).starting_at_once(),
            Update::Begins { offset } => self.player = Player::starting_at(offset),
            Update::Restarts { lost } => {
                tracing::warn!(?lost, "the server numbers its segments anew");
                self.tally.restarts += 1;
                self.continuity.restart();
                if !(lost + self.programme.lead_in()).is_zero() {
                    self.skip_to_rejoin(now, lost);
                }
            }
            Update::Outdated => tracing::debug!("passed over an old copy of the playlist"),
            Update::Continues => {}
        }
        if changed {
            self.jump(now);
        }
    }

    /// When to load the playlist again: RFC 8216bis §6.3.4, measured from when the load began; §6.3.8 if the server holds
    /// the request until there is something new.
    fn pace_reloads(&mut self, asked: Duration, playlist: &MediaPlaylist, changed: bool) {
        let advanced = self.programme.is_advanced_by(playlist);
        let wait = match &playlist.low_latency {
            Some(low_latency) if advanced => low_latency.part_target / SHORTEST_PART_RELOAD,
            None if changed => playlist.target.max(SHORTEST_RELOAD),
            Some(_) | None => (playlist.target / 2).max(SHORTEST_RELOAD),
        };
        self.reloads.succeeded(if playlist.ended { Duration::MAX } else { asked + wait });
        self.may_block = advanced;
        self.may_skip = true;
        self.known_at = asked;
    }

    /// Moves on to the hold-back if the playhead is farther from the end than `--max-latency` allows.
    fn jump(&mut self, now: Duration) {
        self.player.advance(now);
        let farthest = self.args.max_latency.filter(|_| self.player.account().startup.is_some());
        let Some(jump) = farthest.and_then(|farthest| self.programme.jump(self.player.buffered(), farthest)) else {
            return;
        };
        tracing::info!(skipped = ?jump.skipped, "too far behind, moving on");
        self.player.jump(now, jump.by, jump.skipped);
        if jump.breaks {
            self.continuity.restart();
            self.fetch_is_stale = true;
        }
    }

    /// A segment or part arrived, or did not; perhaps one that is not listed yet.
    pub(super) fn media_came(
        &mut self,
        segment: &Segment,
        outcome: Result<Delivery, FetchError>,
    ) -> Result<(), String> {
        if self.preload.under_way() != Some(segment) {
            return self.segment_came(segment, outcome);
        }
        match outcome {
            Ok(delivery) => {
                self.life.answered();
                self.preload.ended(Some(Delivery { hinted: true, ..delivery }));
                Ok(())
            }
            Err(error @ FetchError::Dump(_)) => Err(error.to_string()),
            Err(error) => {
                self.count(&error, "hinted part");
                self.preload.ended(None);
                Ok(())
            }
        }
    }

    /// `segment` arrived, or did not. `Err` says why the session cannot go on.
    fn segment_came(&mut self, segment: &Segment, outcome: Result<Delivery, FetchError>) -> Result<(), String> {
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
        let so_far = self.programme.so_far(segment);
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
        // of a segment that was begun in parts only the rest is new
        let span = delivery.analysis.span.map(|span| span.after(so_far));
        let advance = self.continuity.accept(span, segment.duration.saturating_sub(so_far));
        let captured = segment.capture.map(|capture| capture + segment.duration.as_secs_f64());
        self.tally.segment(Arrival {
            sequence: segment.sequence,
            part: segment.part.map(|part| part.index),
            hinted: delivery.hinted,
            container: delivery.analysis.container,
            bytes: delivery.bytes,
            media: advance.duration + so_far,
            first_byte: delivery.first_byte,
            whole: delivery.whole,
            after_capture: captured.filter(|_| new).map(|captured| wall_clock() - captured),
            waited: self.player.waiting(),
        });
        let capture = segment.capture.map(|capture| capture + so_far.as_secs_f64() - advance.lead);
        self.player.append(now, advance.duration, capture);
    }

    fn lose(&mut self, now: Duration, segment: &Segment) {
        if segment.part.is_some() {
            if self.programme.forgo_parts(segment) {
                tracing::warn!(sequence = segment.sequence, "a part cannot be had, going on with the whole segment");
            }
            return;
        }
        let so_far = self.programme.so_far(segment);
        if self.programme.lost(segment) {
            tracing::warn!(sequence = segment.sequence, "going on without a segment");
            self.continuity.restart();
            self.player.skip(now, segment.duration.saturating_sub(so_far));
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
