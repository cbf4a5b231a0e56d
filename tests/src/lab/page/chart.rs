//! Lines and dots over time as SVG.

use std::fmt::Write as _;

use super::escape;

/// Something over time.
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) unit: &'static str,
    pub(super) series: Vec<Series>,
    /// Seconds, from the begin of the measurement.
    pub(super) from: f64,
    pub(super) until: f64,
    /// Marked by a line across.
    pub(super) events: Vec<(f64, String)>,
}

/// One thing in a chart.
pub(super) struct Series {
    name: &'static str,
    colour: &'static str,
    points: Vec<(f64, f64)>,
    dots: bool,
}

const WIDTH: f64 = 940.0;
const HEIGHT: f64 = 180.0;
const LEFT: f64 = 46.0;
const BOTTOM: f64 = 20.0;
const TOP: f64 = 18.0;

impl Series {
    pub(super) fn line(name: &'static str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { name, colour, points, dots: false }
    }

    pub(super) fn dots(name: &'static str, colour: &'static str, points: Vec<(f64, f64)>) -> Self {
        Self { dots: true, ..Self::line(name, colour, points) }
    }
}

impl Chart {
    pub(super) fn svg(&self) -> String {
        let values = self.series.iter().flat_map(|series| &series.points).map(|(_, value)| *value);
        let step = round(values.fold(0.0, f64::max).max(1e-3) / 4.0);
        let top = step
            * (self.series.iter().flat_map(|series| &series.points).map(|(_, value)| value / step))
                .fold(1.0, f64::max)
                .ceil();
        let span = (self.until - self.from).max(1.0);
        let x = |at: f64| LEFT + (at - self.from) / span * (WIDTH - LEFT);
        let y = |value: f64| TOP + (1.0 - value / top) * (HEIGHT - TOP - BOTTOM);
        let mut svg = format!("<h2>{}</h2><svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>", escape(self.title));
        for line in 0..=(top / step).round() as u32 {
            let value = step * f64::from(line);
            let at = y(value);
            let _ = write!(svg, "<line x1='{LEFT}' x2='{WIDTH}' y1='{at:.1}' y2='{at:.1}' stroke='#ddd'/>");
            let _ = write!(
                svg,
                "<text x='{:.0}' y='{:.1}' text-anchor='end'>{}</text>",
                LEFT - 4.0,
                at + 4.0,
                number(value)
            );
        }
        let _ = write!(svg, "<text x='0' y='11'>{}</text>", escape(self.unit));
        let tick = round(span / 8.0);
        let mut at = (self.from / tick).ceil() * tick;
        while at <= self.until {
            let _ = write!(svg, "<text x='{:.1}' y='{HEIGHT}' text-anchor='middle'>{} s</text>", x(at), number(at));
            at += tick;
        }
        for (at, what) in &self.events {
            let (x, foot) = (x(*at), HEIGHT - BOTTOM);
            let _ = write!(
                svg,
                "<line x1='{x:.1}' x2='{x:.1}' y1='{TOP}' y2='{foot}' stroke='#d4a72c' stroke-dasharray='2 3'>"
            );
            let _ = write!(svg, "<title>{at:.0} s: {}</title></line>", escape(what));
        }
        let mut legend = LEFT;
        for series in &self.series {
            let colour = series.colour;
            let _ = write!(svg, "<text x='{legend:.0}' y='11' style='fill:{colour}'>{}</text>", escape(series.name));
            legend += 20.0 + 6.5 * series.name.len() as f64;
            let points = series.points.iter().filter(|(at, value)| at.is_finite() && value.is_finite());
            let points = points.map(|(at, value)| (x(*at), y(*value)));
            if series.dots {
                for (x, y) in points {
                    let _ = write!(svg, "<circle cx='{x:.1}' cy='{y:.1}' r='2.5' fill='{colour}' fill-opacity='.7'/>");
                }
            } else {
                let line: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                let _ = write!(
                    svg,
                    "<polyline fill='none' stroke='{colour}' stroke-width='1.4' points='{}'/>",
                    line.join(" ")
                );
            }
        }
        svg.push_str("</svg>");
        svg
    }
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn round(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let leading = value / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|step| leading <= *step + 1e-9).unwrap_or(10.0)
}

fn number(value: f64) -> String {
    if value.fract().abs() < 1e-9 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}").trim_end_matches('0').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        let rounded: Vec<String> = [0.03, 0.7, 1.0, 3.4, 24.0, 99.0].map(|value| number(round(value))).into();
        assert_eq!(rounded, ["0.05", "1", "1", "5", "50", "100"]);
    }
}
