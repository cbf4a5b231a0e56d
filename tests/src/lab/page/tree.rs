//! Who feeds whom, as a picture.

use std::{collections::HashMap, fmt::Write as _};

use super::{super::figures::Measured, super::seat::Watched, escape};

/// By hops from the origin: near ones dark. Who has no path is red.
const COLOURS: [&str; 8] = ["#0a3069", "#0969da", "#218bff", "#54aeff", "#80ccff", "#b6e3ff", "#ddf4ff", "#eaeef2"];
const LOST: &str = "#cf222e";
const WIDTH: f64 = 940.0;
const ROW: f64 = 74.0;
const RADIUS_MAX: f64 = 13.0;

struct Spot {
    x: f64,
    y: f64,
}

/// Viewers that were there at the end, in rows by their mean depth over substreams, lines from parents to children as
/// thick as the substreams they carry.
pub(super) fn svg(measured: &Measured) -> String {
    let nodes: Vec<&Watched> = measured.nodes().filter(|node| measured.ended_with.contains(&node.host)).collect();
    let mut rows: Vec<Vec<&Watched>> = Vec::new();
    for node in &nodes {
        let row = depth(node).unwrap_or(COLOURS.len() + 1).min(COLOURS.len() + 1);
        rows.resize_with(rows.len().max(row + 1), Vec::new);
        rows[row].push(node);
    }
    let full = rows.iter().filter(|row| !row.is_empty());
    let mut spots: HashMap<&str, Spot> = HashMap::new();
    let mut places = Vec::new();
    for (line, row) in full.enumerate() {
        for (place, node) in row.iter().enumerate() {
            let x = WIDTH * (place as f64 + 0.5) / row.len() as f64;
            let y = 70.0 + ROW * line as f64;
            spots.insert(&node.stats.peer, Spot { x, y });
            places.push((*node, x, y));
        }
    }
    let origin = Spot { x: WIDTH / 2.0, y: 18.0 };
    let height = places.iter().map(|(_, _, y)| *y).fold(70.0, f64::max) + 30.0;
    let mut svg = format!("<svg viewBox='0 0 {WIDTH} {height}' role='img'>");
    for (node, x, y) in &places {
        for (parent, substreams) in parents(node) {
            // Who isn't a viewer is the broadcaster.
            let from = spots.get(parent).unwrap_or(&origin);
            let _ = write!(
                svg,
                "<line x1='{:.0}' y1='{:.0}' x2='{x:.0}' y2='{y:.0}' stroke='#57606a' stroke-opacity='.35' stroke-width='{:.1}'/>",
                from.x,
                from.y,
                0.5 * substreams as f64
            );
        }
    }
    let _ = write!(svg, "<rect x='{:.0}' y='8' width='120' height='20' rx='4' fill='#1a7f37'/>", origin.x - 60.0);
    let _ = write!(svg, "<text x='{:.0}' y='22' text-anchor='middle' style='fill:#fff'>broadcaster</text>", origin.x);
    for (node, x, y) in &places {
        let colour = depth(node).map_or(LOST, |depth| COLOURS[depth.min(COLOURS.len() - 1)]);
        let up = measured.attachments.get(node.number).map_or(0.0, |attachment| attachment.up_bps);
        let radius = (4.0 + (up / 1e6).sqrt() * 3.0).min(RADIUS_MAX);
        let told = escape(&format!("seat {}, up {:.2} Mbit/s, depths {:?}", node.number, up / 1e6, node.stats.depths));
        let _ = write!(
            svg,
            "<circle cx='{x:.0}' cy='{y:.0}' r='{radius:.1}' fill='{colour}' stroke='#24292f'><title>{told}</title></circle>"
        );
        let _ =
            write!(svg, "<text x='{x:.0}' y='{:.0}' text-anchor='middle'>{}</text>", y + radius + 11.0, node.number);
    }
    svg.push_str("</svg>");
    svg
}

fn depth(node: &Watched) -> Option<usize> {
    let known: Vec<f64> = node.stats.depths.iter().flatten().map(|depth| f64::from(*depth)).collect();
    (!known.is_empty()).then(|| (known.iter().sum::<f64>() / known.len() as f64).round() as usize)
}

fn parents(node: &Watched) -> Vec<(&str, usize)> {
    let mut parents: Vec<(&str, usize)> = Vec::new();
    for parent in node.stats.parents.iter().flatten() {
        match parents.iter_mut().find(|(known, _)| known == parent) {
            Some((_, substreams)) => *substreams += 1,
            None => parents.push((parent, 1)),
        }
    }
    parents
}
