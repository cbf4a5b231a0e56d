//! What the broadcaster produces, and gossipsub, modelled.

use super::*;

/// Peers of gossipsub's mesh that pass a message on: degree four, less the one it came from.
const FANOUT: f64 = 3.0;
/// Each announcement arrives about this often at each peer (research notes, libp2p §8c).
const COPIES: usize = 3;
/// Forwarding costs this at each hop, besides its delay (measured, research notes, libp2p §8c).
const HOP_WORK: Duration = Duration::from_millis(4);
/// Links of the mesh that lead to another region: hints put most into the own one.
const FAR_LINKS: f64 = 0.3;
/// What continues nothing known is kept for the newest so many segments, as the node does for five seconds.
const APART_SEGMENTS: usize = 3;
/// Bytes an announcement carries beside its own: signature, gossipsub's frame and the packet's headers.
const ENVELOPE: usize = 80 + 40;

impl World {
    pub(super) fn produce(&mut self) {
        let all = self.chunks_per_segment as usize;
        let chunk = Duration::from_secs_f64(self.scenario.segment_seconds / all as f64);
        let said = self.said.last().and_then(|said| said.last()).map_or(all, |newest| newest.lengths.len());
        let fresh = if self.scenario.low_latency { PART_CHUNKS.min(all - said % all) } else { all };
        let (chunks, takes) = (said % all + fresh, chunk * fresh as u32);
        self.push(self.now + takes, SOURCE, Event::Produce);
        if said == all {
            self.said.push(Vec::new());
        }
        let announcement = Arc::new(self.announcement(self.said.len() - 1, chunks, chunk));
        self.said.last_mut().into_iter().for_each(|said| said.push(announcement.clone()));
        if !announcement.growing {
            self.gossip(&announcement);
        }
        self.feed(SOURCE, Input::Produced { announcement });
    }

    /// The first so many chunks of a segment, the last of which was just made.
    fn announcement(&self, number: usize, chunks: usize, chunk: Duration) -> Announcement {
        let all = self.chunks_per_segment;
        let len = (self.scenario.bitrate_bps * chunk.as_secs_f64() / 8.0) as u32;
        let duration = chunk * chunks as u32;
        let start = self.clock().wall - duration;
        let part = |begin| {
            let of = PART_CHUNKS.min(chunks - begin);
            let duration_us = (chunk * of as u32).as_micros() as u32;
            Part { chunks: of as u16, duration_us, independent: begin == 0, source: None }
        };
        Announcement {
            parts: (0..chunks).step_by(PART_CHUNKS).filter(|_| self.scenario.low_latency).map(part).collect(),
            growing: chunks < all as usize,
            epoch: EPOCH,
            rendition: RENDITION,
            segment: SegmentNumber(number as u64),
            first_chunk: ChunkNumber(number as u64 * all),
            lengths: vec![len.min(128 * 1024); chunks],
            hashes: Bytes::from(vec![0; HASH_LEN * chunks]),
            start: WallTime(start.0.max(0)),
            duration_us: duration.as_micros() as u64,
            discontinuity: false,
            init: None,
            tags: Vec::new(),
            uri: format!("{number}.m4s"),
            offset: 0,
            announced: self.clock().wall,
        }
    }

    /// Everybody connected and following hears of it after some hops: few after few, most after nearly the most there are.
    fn gossip(&mut self, announcement: &Arc<Announcement>) {
        let size = announcement.encode().len() + ENVELOPE;
        let reached = reach(self.meter.present());
        for who in 1..self.nodes.len() as u32 {
            let node = self.node(who);
            if !node.alive || !node.following || node.connections.is_empty() || self.blocked(SOURCE, who) {
                continue;
            }
            let region = self.node(who).link.region;
            let place = self.rng.unit();
            let hops = 1 + reached.iter().take_while(|share| **share < place).count();
            let mut after = Duration::ZERO;
            for _ in 0..hops {
                let from = if self.rng.unit() < FAR_LINKS {
                    self.rng.below(self.scenario.regions.max(1)) as u8
                } else {
                    region
                };
                after += self.paths.message(from, region, size, &mut self.rng) + HOP_WORK;
            }
            self.meter.control(COPIES * size);
            self.push(self.now + after, who, Event::Hear { segment: announcement.segment.0 as u32 });
        }
    }

    /// A viewer is told of a segment what was said when it had so many chunks.
    pub(super) fn hear(&mut self, who: u32, segment: usize, chunks: usize) {
        let said = self.said.get(segment).and_then(|said| said.iter().rfind(|a| a.lengths.len() <= chunks));
        let Some(announcement) = said.cloned() else { return };
        let node = self.node_mut(who);
        if !node.player.listed(&announcement) {
            return;
        }
        let proven = |(number, _, _): &(ChunkNumber, u32, bool)| announcement.index_of(*number).is_some();
        let chunks: Vec<_> = node.unproven.extract_if(.., |chunk| proven(chunk)).collect();
        self.feed(who, Input::Announced { announcement });
        for (number, from, genuine) in chunks {
            self.got(who, number, Some(from), genuine);
        }
        let heard = self.node(who).player.announced(SegmentNumber(segment as u64));
        let joins = |(of, told): &(u32, Told)| *of as usize == segment && usize::from(told.begin) <= heard;
        let apart = &mut self.node_mut(who).apart;
        apart.retain(|(of, _)| *of as usize + APART_SEGMENTS > segment);
        let joined: Vec<_> = apart.extract_if(.., |apart| joins(apart)).collect();
        for (segment, told) in joined {
            self.hear(who, segment as usize, told.end.into());
        }
    }
}

/// Share of `n` peers reached within one hop, two hops, ….
fn reach(n: usize) -> Vec<f64> {
    let all = n.max(1) as f64;
    let (mut reached, mut fresh, mut shares) = (0.0, 1.0, Vec::new());
    while reached < all && shares.len() < 32 {
        // Copies meet peers that have it already, ever more of them.
        fresh = (fresh * FANOUT * (1.0 - reached / all)).max(1.0).min(all - reached);
        reached += fresh;
        shares.push(reached / all);
    }
    shares
}
