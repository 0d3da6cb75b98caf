//! Columns of the ledger side by side, as inline SVG: what stands in them before and after, and by
//! how much that differs.

use crate::page::{Axis, escape};
use crate::reliability::stats::Estimate;
use std::fmt::Write as _;

/// In the units of the view box; the page scales it.
const WIDTH: f64 = 900.0;
const LEFT: f64 = 110.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 40.0;
const ROW: f64 = 30.0;
const BAR: f64 = 11.0;
/// Of what stands at the right; no font of the page is wider on average.
const CHARACTER: f64 = 6.8;

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

/// An axis, and where it ends: what is said at the right of it has room.
struct Across {
    axis: Axis,
    right: f64,
}

impl Across {
    fn of<'s>(axis: Axis, said: impl Iterator<Item = &'s str>) -> Across {
        let longest = said.map(|said| said.chars().count()).max().unwrap_or(0);
        let room = (10.0 + CHARACTER * longest as f64).min(WIDTH / 2.0);
        Across { axis, right: WIDTH - room }
    }

    fn x_at(&self, value: f64) -> f64 {
        let Axis { from, to, .. } = self.axis;
        LEFT + ((value - from) / (to - from)).clamp(0.0, 1.0) * (self.right - LEFT)
    }
}

fn frame(about: &str, rows: usize, across: &Across) -> String {
    let height = TOP + BOTTOM + ROW * rows as f64;
    let bottom = height - BOTTOM;
    let mut svg = format!(
        "<div class=\"chart\"><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(about)
    );
    for (value, text) in &across.axis.ticks {
        let x = across.x_at(*value);
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
        f64::midpoint(LEFT, across.right),
        height - 6.0,
        escape(&across.axis.label)
    );
    svg
}

fn name(svg: &mut String, across: &Across, row: usize, name: &str, said: &str) {
    let y = TOP + ROW * (row as f64 + 0.5) + 4.0;
    let _ = write!(
        svg,
        "<text class=\"end\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>\
         <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
        LEFT - 8.0,
        escape(name),
        across.right + 10.0,
        escape(said)
    );
}

/// Two bars a row.
pub fn bars(about: &str, label: &str, pairs: &[Pair]) -> String {
    let most = pairs.iter().map(|pair| pair.before.max(pair.after)).fold(0.0, f64::max);
    let said = pairs.iter().map(|pair| pair.said.as_str());
    let across = Across::of(Axis::from_zero(label, most, 6), said);
    let mut svg = frame(about, pairs.len(), &across);
    for (row, pair) in pairs.iter().enumerate() {
        name(&mut svg, &across, row, &pair.name, &pair.said);
        for (colour, value) in [pair.before, pair.after].into_iter().enumerate() {
            let y = TOP + ROW * row as f64 + ROW / 2.0 - BAR + BAR * colour as f64;
            let width = across.x_at(value) - LEFT;
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
    let said = changes.iter().map(|change| change.said.as_str());
    let across = Across::of(Axis::around(label, low, high, 6), said);
    let mut svg = frame(about, changes.len(), &across);
    let (zero, bottom) = (across.x_at(0.0), TOP + ROW * changes.len() as f64);
    let _ = write!(
        svg,
        "<line class=\"zero\" x1=\"{zero:.1}\" x2=\"{zero:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/>"
    );
    for (row, change) in changes.iter().enumerate() {
        name(&mut svg, &across, row, &change.name, &change.said);
        let Estimate { value, low, high } = change.difference;
        let y = TOP + ROW * (row as f64 + 0.5);
        let [at, low, high] = [value, low, high].map(|value| across.x_at(value));
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
        let right = WIDTH - 10.0 - 6.0 * CHARACTER;
        let of = |share: f64| format!("width=\"{:.1}\"", share * (right - LEFT));
        assert!(svg.contains(&of(0.5)) && svg.contains(&of(1.0)), "{svg}");
        assert!(svg.contains("a&lt;b"));
        assert!(
            svg.contains(&format!("x=\"{:.1}\"", right + 10.0)),
            "what is said has its room: {svg}"
        );
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
