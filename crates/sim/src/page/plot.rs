//! Line plots as inline SVG, without scripts. Colours come from the page's style sheet by class
//! (`series-0`, …), so that it can be read on light and on dark.

use std::fmt::Write as _;

/// Sizes in the units of the view box; the page scales it.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 40.0;
/// As many lines as can be told apart.
pub const SERIES_MAX: usize = 6;

/// How a value becomes a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Log,
}

#[derive(Clone, Debug)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Between two round numbers that hold `low` and `high`, which need not be near 0.
    pub fn around(label: &str, low: f64, high: f64, count: usize) -> Axis {
        let step = nice_step(((high - low) / count as f64).max(high.abs() * 1e-6));
        let (first, last) =
            ((low / step).floor(), (high / step).ceil().max((low / step).floor() + 1.0));
        let ticks = (0..=(last - first) as usize).map(|index| {
            let value = (first + index as f64) * step;
            (value, number(value, step))
        });
        Axis {
            label: label.to_string(),
            scale: Scale::Linear,
            from: first * step,
            to: last * step,
            ticks: ticks.collect(),
        }
    }

    /// From 0 to a round number that is not below `most`.
    pub fn from_zero(label: &str, most: f64, count: usize) -> Axis {
        let step = nice_step(most / count as f64);
        let steps = (most / step).ceil().max(1.0) as usize;
        let ticks = (0..=steps).map(|index| {
            let value = index as f64 * step;
            (value, if index == 0 { "0".to_string() } else { number(value, step) })
        });
        Axis {
            label: label.to_string(),
            scale: Scale::Linear,
            from: 0.0,
            to: steps as f64 * step,
            ticks: ticks.collect(),
        }
    }

    /// Where a value stands, from 0 to 1; what lies outside stands at the edge.
    fn place(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(self.from).ln(),
        };
        let (from, to) = (place(self.from), place(self.to));
        if to > from { ((place(value) - from) / (to - from)).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// 1, 2 or 5 times a power of ten, not below `step`.
fn nice_step(step: f64) -> f64 {
    if step <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * 0.9999);
    factor.unwrap_or(10.0) * power
}

/// A tick's number, as exact as the step between two, thousands set apart.
fn number(value: f64, step: f64) -> String {
    let places = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
    if places > 0 {
        return format!("{value:.places$}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// Its number in the legend, which is its colour.
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
    /// `x`, and from where to where in `y` the true value may be. Points that have such a range are
    /// drawn as dots on their line.
    pub errors: Vec<(f64, f64, f64)>,
}

#[derive(Clone, Debug)]
pub struct Plot {
    /// What it shows, for those who cannot see it.
    pub about: String,
    pub width: f64,
    pub height: f64,
    pub x: Axis,
    pub y: Axis,
    /// A span of `x` that is set off, and its name.
    pub band: Option<(f64, f64, String)>,
    pub series: Vec<Series>,
}

impl Plot {
    fn x_at(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (self.width - LEFT - RIGHT)
    }

    fn y_at(&self, value: f64) -> f64 {
        TOP + (1.0 - self.y.place(value)) * (self.height - TOP - BOTTOM)
    }

    pub fn svg(&self) -> String {
        let (width, height) = (self.width, self.height);
        let mut svg = format!(
            "<div class=\"chart\"><svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">",
            escape(&self.about)
        );
        self.draw_band(&mut svg);
        self.draw_axes(&mut svg);
        for series in &self.series {
            self.draw_series(&mut svg, series);
        }
        svg.push_str("</svg></div>\n");
        svg
    }

    fn draw_band(&self, svg: &mut String) {
        let Some((from, to, name)) = &self.band else { return };
        let (left, right) = (self.x_at(*from), self.x_at(*to));
        let _ = write!(
            svg,
            "<rect class=\"band\" x=\"{left:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{:.1}\"/>\
             <text class=\"note\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            right - left,
            self.height - TOP - BOTTOM,
            left,
            TOP - 5.0,
            escape(name)
        );
    }

    fn draw_axes(&self, svg: &mut String) {
        let (left, right) = (LEFT, self.width - RIGHT);
        let bottom = self.height - BOTTOM;
        for (value, text) in &self.y.ticks {
            let y = self.y_at(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{text}</text>",
                left - 6.0,
                y + 4.0
            );
        }
        for (value, text) in &self.x.ticks {
            let x = self.x_at(*value);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{text}</text>",
                bottom + 4.0,
                bottom + 16.0
            );
        }
        let middle = f64::midpoint(TOP, bottom);
        let _ = write!(
            svg,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <text class=\"label middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <text class=\"label middle\" transform=\"translate(13 {middle:.1}) rotate(-90)\">{}\
             </text>",
            f64::midpoint(left, right),
            self.height - 6.0,
            escape(&self.x.label),
            escape(&self.y.label)
        );
    }

    fn draw_series(&self, svg: &mut String, series: &Series) {
        if series.points.is_empty() {
            return;
        }
        let mut path = String::new();
        for (index, &(x, y)) in series.points.iter().enumerate() {
            let letter = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{letter}{:.1} {:.1}", self.x_at(x), self.y_at(y));
        }
        let _ = write!(
            svg,
            "<path class=\"line series-{}\" d=\"{path}\"><title>{}</title></path>",
            series.colour % SERIES_MAX,
            escape(&series.name)
        );
        self.draw_errors(svg, series);
    }

    fn draw_errors(&self, svg: &mut String, series: &Series) {
        const CAP: f64 = 4.0;
        let colour = series.colour % SERIES_MAX;
        for &(x, low, high) in &series.errors {
            let (x, low, high) = (self.x_at(x), self.y_at(low), self.y_at(high));
            let (left, right) = (x - CAP, x + CAP);
            let _ = write!(
                svg,
                "<path class=\"error series-{colour}\" d=\"M{x:.1} {low:.1}L{x:.1} {high:.1}\
                 M{left:.1} {low:.1}L{right:.1} {low:.1}M{left:.1} {high:.1}L{right:.1} {high:.1}\"/>"
            );
        }
        if series.errors.is_empty() {
            return;
        }
        for &(x, y) in &series.points {
            let (x, y) = (self.x_at(x), self.y_at(y));
            let _ = write!(
                svg,
                "<circle class=\"dot series-{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>"
            );
        }
    }
}

/// Text as it may stand in a page.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let axis = Axis::from_zero("jobs", 4583.0, 5);
        assert!((axis.to - 5000.0).abs() < 1e-9);
        let ticks: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(
            ticks,
            ["0", "1\u{202f}000", "2\u{202f}000", "3\u{202f}000", "4\u{202f}000", "5\u{202f}000"]
        );
        assert_eq!(Axis::from_zero("share", 1.0, 5).ticks[1].1, "0.2");
        let small = Axis::from_zero("hours", 0.08, 4);
        let ticks: Vec<&str> = small.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(ticks, ["0", "0.02", "0.04", "0.06", "0.08"]);
        assert!(Axis::from_zero("nothing", 0.0, 5).to > 0.0);
    }

    #[test]
    fn an_axis_that_does_not_begin_at_zero_holds_both_ends() {
        let axis = Axis::around("goodput", 0.8312, 0.8577, 5);
        let ticks: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(ticks, ["0.83", "0.84", "0.85", "0.86"]);
        let flat = Axis::around("nothing", 0.5, 0.5, 5);
        assert!(flat.from <= 0.5 && flat.to > 0.5 && flat.ticks.len() >= 2);
        assert!(Axis::around("zero", 0.0, 0.0, 5).to > 0.0);
    }

    #[test]
    fn places_are_within_the_plot_on_both_scales() {
        let linear = Axis::from_zero("x", 100.0, 5);
        let percent = |axis: &Axis, value| (axis.place(value) * 100.0).round() as i32;
        assert_eq!([-5.0, 0.0, 50.0, 500.0].map(|v| percent(&linear, v)), [0, 0, 50, 100]);
        let log = Axis { scale: Scale::Log, from: 1.0, to: 10_000.0, ..linear };
        assert_eq!([0.0, 1.0, 100.0, 10_000.0].map(|v| percent(&log, v)), [0, 0, 50, 100]);
    }

    #[test]
    fn a_plot_draws_its_points_where_the_axes_say() {
        let plot = Plot {
            about: "a < b".into(),
            width: 176.0,
            height: 158.0,
            x: Axis::from_zero("x", 10.0, 5),
            y: Axis::from_zero("y", 10.0, 5),
            band: Some((0.0, 5.0, "busy".into())),
            series: vec![Series {
                name: "one".into(),
                colour: 0,
                points: vec![(0.0, 0.0), (5.0, 10.0), (10.0, 0.0)],
                errors: vec![(5.0, 5.0, 10.0)],
            }],
        };
        let svg = plot.svg();
        assert!(svg.contains("d=\"M62.0 118.0L112.0 18.0L162.0 118.0\""), "{svg}");
        assert!(svg.contains("d=\"M112.0 68.0L112.0 18.0M108.0 68.0L116.0 68.0"), "{svg}");
        assert!(svg.contains("aria-label=\"a &lt; b\""));
        assert!(svg.contains("class=\"band\" x=\"62.0\" y=\"18\" width=\"50.0\""));
    }
}
