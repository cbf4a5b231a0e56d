//! The page of a run: one HTML file that needs nothing else, with what happened over time and who fed whom.

mod chart;
mod tree;

use std::collections::BTreeMap;

use self::chart::{Chart, Series};
use super::{
    figures::{Measured, Side, percentile, ratio},
    household::Second,
    record::Audience,
    report::Report,
};

/// Offload is taken over this many seconds: single seconds jump with segments.
const OFFLOAD_SECONDS: usize = 10;

const HEAD: &str = "<!doctype html>
<html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>
<style>
body { font: 14px/1.4 system-ui, sans-serif; max-width: 980px; margin: 2em auto; padding: 0 1em; color: #222; background: #fff }
svg { width: 100%; height: auto; display: block; margin: .3em 0 1.4em }
svg text { font: 11px system-ui, sans-serif; fill: #555 }
h2 { font-size: 1.05em; margin: 1.2em 0 0 }
pre { background: #f4f4f4; padding: 1em; overflow: auto }
</style>
";

/// The page as HTML.
pub fn render(measured: &Measured, report: &Report) -> String {
    let title = escape(&format!("{} · {} viewers · seed {}", report.scenario, report.viewers, report.seed));
    let mut page = format!("{HEAD}<title>{title}</title><h1>{title}</h1><pre>{}</pre>", escape(&report.to_string()));
    for chart in charts(measured) {
        page.push_str(&chart.svg());
    }
    page.push_str("<h2>Who feeds whom at the end, coloured by hops from the origin</h2>");
    page.push_str(&tree::svg(measured));
    page.push_str("</html>\n");
    page
}

fn charts(measured: &Measured) -> Vec<Chart> {
    let begin = measured.window.start;
    let seconds = &measured.record.seconds;
    let from = seconds.first().map_or(begin, |second| second.wall);
    let until = seconds.last().map_or(measured.window.end, |second| second.wall);
    let events = measured.record.events.iter().map(|(wall, what)| (wall - begin, what.clone())).collect::<Vec<_>>();
    let chart = |title, unit, series| Chart {
        title,
        unit,
        series,
        from: from - begin,
        until: until - begin,
        events: events.clone(),
    };
    let mbps = |of: &dyn Fn(&super::record::Second) -> u64| -> Vec<(f64, f64)> {
        let pairs = seconds.windows(2);
        pairs
            .map(|pair| (pair[1].wall - begin, of(&pair[1]) as f64 * 8e-6 / (pair[1].wall - pair[0].wall).max(0.1)))
            .collect()
    };
    let offload = seconds.chunks(OFFLOAD_SECONDS).filter_map(|chunk| {
        let (first, last) = (chunk.first()?.wall, chunk.last()?.wall);
        Some((last - begin, measured.offload(&(first..last))?.max(0.0) * 100.0))
    });
    let viewers = measured.side(Audience::Viewers);
    let direct = measured.side(Audience::Direct);
    let starts = |side: &Side<'_>| -> Vec<(f64, f64)> {
        side.startups().map(|(watched, seconds)| (watched.joined_at - begin, seconds)).collect()
    };
    let stalled = seconds.iter().map(|second| (second.wall - begin, second.stalled as f64)).collect();
    let present = seconds.iter().map(|second| (second.wall - begin, second.present as f64)).collect();
    let look = |of: &dyn Fn(&super::record::Look) -> Option<f64>| -> Vec<(f64, f64)> {
        measured.record.looks.iter().filter_map(|look| Some((look.wall - begin, of(look)? * 100.0))).collect()
    };
    let believed = look(&|look| ratio(look.limits_bps as f64, look.links_bps));
    let lost = look(&|look| ratio(look.lost as f64, look.substreams as f64));
    let mut charts = vec![
        chart("Offload", "%", vec![Series::line("viewers", "#1a7f37", offload.collect())]),
        chart(
            "What the origin sends viewers",
            "Mbit/s",
            vec![
                Series::line("HTTP", "#cf222e", mbps(&|second| second.viewers.tcp)),
                Series::line("libp2p", "#0969da", mbps(&|second| second.viewers.udp)),
                Series::line("of both, to those just joined", "#bf8700", mbps(&|second| second.joiners)),
            ],
        ),
        chart(
            "Lag at the playhead",
            "s",
            vec![
                Series::line("p95", "#cf222e", lag(&viewers, 95, begin)),
                Series::line("p50", "#0969da", lag(&viewers, 50, begin)),
                Series::line("direct p50", "#8c959f", lag(&direct, 50, begin)),
            ],
        ),
        chart(
            "From the first request to the picture, by the time of joining",
            "s",
            vec![
                Series::dots("viewers", "#0969da", starts(&viewers)),
                Series::dots("direct", "#8c959f", starts(&direct)),
            ],
        ),
        chart(
            "Viewers whose picture stands still",
            "",
            vec![Series::line("stalled", "#cf222e", stalled), Series::line("there", "#8c959f", present)],
        ),
        chart(
            "What nodes tell",
            "%",
            vec![
                Series::line("of their uplinks they believe in", "#0969da", believed),
                Series::line("of substreams have no path to the origin", "#cf222e", lost),
            ],
        ),
    ];
    let household = &measured.record.household;
    if !household.seconds.is_empty() {
        let mbps = |of: &dyn Fn(&Second) -> u64| {
            let rates = household.rates(begin, of).into_iter();
            rates.map(|(at, bps)| (at, bps / 1e6)).collect()
        };
        charts.push(chart(
            "The household's upload",
            "Mbit/s",
            vec![
                Series::line("beside the viewer", "#0969da", mbps(&|second| second.beside)),
                Series::line("on an idle link", "#8c959f", mbps(&|second| second.alone)),
                Series::line("what the viewer's host sends for the stream", "#1a7f37", mbps(&|second| second.relayed)),
            ],
        ));
    }
    charts
}

/// By whole seconds, over all players.
fn lag(side: &Side<'_>, percent: usize, begin: f64) -> Vec<(f64, f64)> {
    let mut seconds: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for sample in side.all_samples() {
        if let Some(lag) = sample.lag {
            seconds.entry((sample.wall - begin).floor() as i64).or_default().push(lag);
        }
    }
    seconds.into_iter().filter_map(|(second, lags)| Some((second as f64, percentile(lags, percent)?))).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::figures::tests::measured;

    #[test]
    fn a_page_needs_nothing_else_and_shows_everything() {
        let mut measured = measured();
        measured.record.household = crate::lab::household::tests::household();
        measured.record.events.push((108.0, "partition <x>".into()));
        let page = render(&measured, &Report::new(&measured));
        for needed in
            ["Offload", "Lag at the playhead", "stands still", "household", "partition &lt;x&gt;", "Who feeds whom"]
        {
            assert!(page.contains(needed), "{needed}");
        }
        assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("NaN"), "{page}");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    }
}
