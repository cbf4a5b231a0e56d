//! What differs between two runs of the same scenarios with the same seeds.

use std::fmt::Write as _;

use serde_json::Value;

use super::tally::confidence;

/// A table of the figures that differ, from two objects of [`super::Table::to_json`].
pub fn compare(before: &Value, after: &Value) -> String {
    let title = |v: &Value| format!("{} · {} viewers", v["name"].as_str().unwrap_or("?"), v["viewers"]);
    let mut text = title(after);
    let Some(figures) = after.as_object() else { return text };
    let changed: Vec<String> = figures.keys().filter_map(|name| row(name, before, after)).collect();
    let _ = match changed.is_empty() {
        true => write!(text, ": no difference"),
        false => {
            write!(text, "\n  {:<24}{:>10}{:>10}  difference ± 95 %\n{}", "", "before", "after", changed.join("\n"))
        }
    };
    text
}

fn row(name: &str, before: &Value, after: &Value) -> Option<String> {
    let values =
        |of: &Value| -> Option<Vec<f64>> { of["runs"].as_array()?.iter().map(|run| run[name].as_f64()).collect() };
    let (a, b) = (values(before)?, values(after)?);
    if a == b || a.len() != b.len() {
        return None;
    }
    // Same seeds, same arrivals and uplinks: the differences vary less than the figures.
    let differences: Vec<f64> = b.iter().zip(&a).map(|(b, a)| b - a).collect();
    let (difference, half) = confidence(&differences);
    let half = half.map_or_else(String::new, |half| format!(" ± {half:.4}"));
    Some(format!("  {name:<24}{:>10.4}{:>10.4}  {difference:+.4}{half}", confidence(&a).0, confidence(&b).0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_differs_is_told() {
        let of = |offload: f64| json!({"name": "x", "viewers": 2, "runs": [{"offload": offload, "depth": 3.0}], "offload": 0, "depth": 0});
        let text = compare(&of(0.5), &of(0.75));
        assert!(text.contains("offload") && text.contains("+0.2500") && !text.contains("depth"), "{text}");
        assert!(compare(&of(0.5), &of(0.5)).contains("no difference"));
    }
}
