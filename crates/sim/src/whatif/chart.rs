//! Columns of the ledger side by side, as inline SVG: what stands in them before and after, and by
//! how much that differs.

use crate::page::{Axis, escape};
use crate::reliability::stats::Estimate;
use std::fmt::Write as _;

/// In the units of the view box; the page scales it.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 160.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 40.0;
const ROW: f64 = 30.0;
const BAR: f64 = 11.0;

/// A name, what it was and what it is, and both in words.
pub struct Pair {
    pub name: String,
    pub before: f64,
    pub after: f64,
    pub said: String,
}

/// A name, a difference, and it in words.
pub struct Change {
    pub name: String,
    pub difference: Estimate,
    pub said: String,
}

fn x_at(axis: &Axis, value: f64) -> f64 {
    let share = ((value - axis.from) / (axis.to - axis.from)).clamp(0.0, 1.0);
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

fn frame(about: &str, rows: usize, axis: &Axis) -> String {
    let height = TOP + BOTTOM + ROW * rows as f64;
    let bottom = height - BOTTOM;
    let mut svg = format!(
        "<div class=\"chart\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(about)
    );
    for (value, text) in &axis.ticks {
        let x = x_at(axis, *value);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>",
            bottom + 15.0
        );
    }
    let _ = write!(
        svg,
        "<text class=\"label middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        height - 6.0,
        escape(&axis.label)
    );
    svg
}

fn name(svg: &mut String, row: usize, name: &str, said: &str) {
    let y = TOP + ROW * (row as f64 + 0.5) + 4.0;
    let _ = write!(
        svg,
        "<text class=\"end\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>\
         <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
        LEFT - 8.0,
        escape(name),
        WIDTH - RIGHT + 10.0,
        escape(said)
    );
}

/// Two bars a row.
pub fn bars(about: &str, label: &str, pairs: &[Pair]) -> String {
    let most = pairs.iter().map(|pair| pair.before.max(pair.after)).fold(0.0, f64::max);
    let axis = Axis::from_zero(label, most, 6);
    let mut svg = frame(about, pairs.len(), &axis);
    for (row, pair) in pairs.iter().enumerate() {
        name(&mut svg, row, &pair.name, &pair.said);
        for (colour, value) in [pair.before, pair.after].into_iter().enumerate() {
            let y = TOP + ROW * row as f64 + ROW / 2.0 - BAR + BAR * colour as f64;
            let width = x_at(&axis, value) - LEFT;
            let _ = write!(
                svg,
                "<rect class=\"bar fill-{colour}\" x=\"{LEFT}\" y=\"{y:.1}\" \
                 width=\"{width:.1}\" height=\"{:.1}\"/>",
                BAR - 1.0
            );
        }
    }
    svg.push_str("</svg></div>\n");
    svg
}

/// A dot a row, with its interval, on both sides of 0.
pub fn differences(about: &str, label: &str, changes: &[Change]) -> String {
    let low = changes.iter().map(|change| change.difference.low).fold(0.0, f64::min);
    let high = changes.iter().map(|change| change.difference.high).fold(0.0, f64::max);
    let axis = Axis::around(label, low, high, 6);
    let mut svg = frame(about, changes.len(), &axis);
    let (zero, bottom) = (x_at(&axis, 0.0), TOP + ROW * changes.len() as f64);
    let _ = write!(
        svg,
        "<line class=\"zero\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>"
    );
    for (row, change) in changes.iter().enumerate() {
        name(&mut svg, row, &change.name, &change.said);
        let Estimate { value, low, high } = change.difference;
        let y = TOP + ROW * (row as f64 + 0.5);
        let [at, low, high] = [value, low, high].map(|value| x_at(&axis, value));
        let (up, down) = (y - 4.0, y + 4.0);
        let _ = write!(
            svg,
            "<path class=\"error series-0\" d=\"M{low:.1} {y:.1}L{high:.1} {y:.1}M{low:.1} \
             {up:.1}L{low:.1} {down:.1}M{high:.1} {up:.1}L{high:.1} {down:.1}\"/>\
             <circle class=\"dot series-0\" cx=\"{at:.1}\" cy=\"{y:.1}\" r=\"4\"/>"
        );
    }
    svg.push_str("</svg></div>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values() {
        let pair = Pair { name: "a<b".into(), before: 5.0, after: 10.0, said: "5 → 10".into() };
        let svg = bars("about", "hours", &[pair]);
        let of = |share: f64| format!("width=\"{:.1}\"", share * (WIDTH - LEFT - RIGHT));
        assert!(svg.contains(&of(0.5)) && svg.contains(&of(1.0)), "{svg}");
        assert!(svg.contains("a&lt;b"));
    }

    #[test]
    fn a_difference_stands_on_its_side_of_zero() {
        let difference = Estimate { value: -5.0, low: -8.0, high: -2.0 };
        let change = Change { name: "lost".into(), difference, said: "-5".into() };
        let svg = differences("about", "hours", &[change]);
        let after = |mark: &str| -> f64 {
            let rest = &svg[svg.find(mark).unwrap() + mark.len()..];
            rest.split('"').next().unwrap().parse().unwrap()
        };
        assert!(after("cx=\"") < after("class=\"zero\" x1=\""), "{svg}");
    }
}
