//! Percentile curves as SVG, in the manner of HdrHistogram's plots: nines to the right, latency upwards, both
//! logarithmic.

use super::grid::Frame;
use super::markup::Markup;
use super::scale::{Scale, decade_label, decades, nines};
use crate::histogram::Histogram;
use crate::human;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 264.0;
const FRAME: Frame = Frame {
    left: 56.0,
    right: WIDTH - 14.0,
    top: 10.0,
    bottom: HEIGHT - 38.0,
};
/// Steps that are closer than this to the one before are not drawn.
const LEAST_STEP: f64 = 0.7;
/// Beyond the last value, so that it is seen: a third of a nine.
const TAIL: f64 = 0.3;
/// More nines than any run has values for.
const MOST_NINES: f64 = 12.0;
/// Percentiles that have a dot with its value: in ten-thousandths.
const DOTS: [(u16, &str); 5] = [
    (5_000, "p50"),
    (9_000, "p90"),
    (9_900, "p99"),
    (9_990, "p99.9"),
    (9_999, "p99.99"),
];

/// One curve.
#[derive(Clone, Copy, Debug)]
pub(super) struct Curve<'a> {
    /// What it is.
    pub label: &'a str,
    /// The class that gives it its colour.
    pub class: &'static str,
    /// What it shows; must have values to be drawn.
    pub histogram: &'a Histogram,
}

/// A figure of `curves` under the title `name`; `None` where none of them has a value.
pub(super) fn figure(name: &str, curves: &[Curve<'_>]) -> Option<Markup> {
    let drawn: Vec<Curve<'_>> = curves
        .iter()
        .copied()
        .filter(|curve| curve.histogram.count() > 0)
        .collect();
    let axes = Axes::of(&drawn)?;
    let mut figure = Markup::new();
    figure
        .raw("<figure><figcaption>")
        .element("b", name)
        .raw("<span class=\"keys\">");
    for curve in &drawn {
        figure
            .raw("<span class=\"key ")
            .raw(curve.class)
            .raw("\">")
            .text(curve.label);
        figure
            .raw(" <small>")
            .text(human::short_count(curve.histogram.count()))
            .raw("</small></span> ");
    }
    figure
        .raw("</span></figcaption><svg viewBox=\"0 0 ")
        .text(WIDTH)
        .raw(" ")
        .text(HEIGHT);
    figure
        .raw("\" role=\"img\" aria-label=\"")
        .text(format!("{name}: latency by percentile"))
        .raw("\">");
    axes.draw(&mut figure);
    for curve in &drawn {
        axes.draw_curve(&mut figure, curve);
    }
    figure.raw("</svg></figure>\n");
    Some(figure)
}

#[derive(Clone, Copy, Debug)]
struct Axes {
    nines: f64,
    decades: (u32, u32),
    x: Scale,
    y: Scale,
}

impl Axes {
    /// Those that hold all of `curves`; `None` without one.
    fn of(curves: &[Curve<'_>]) -> Option<Self> {
        let least = curves
            .iter()
            .filter_map(|curve| curve.histogram.min())
            .min()?;
        let most = curves
            .iter()
            .filter_map(|curve| curve.histogram.max())
            .max()?;
        let count = curves.iter().map(|curve| curve.histogram.count()).max()?;
        let nines = (count as f64).log10().clamp(1.0, MOST_NINES) + TAIL;
        let decades = decades(least, most);
        let y = (f64::from(decades.0), f64::from(decades.1));
        Some(Self {
            nines,
            decades,
            x: Scale {
                from: (0.0, nines),
                to: (FRAME.left, FRAME.right),
            },
            y: Scale {
                from: y,
                to: (FRAME.bottom, FRAME.top),
            },
        })
    }

    fn draw(&self, svg: &mut Markup) {
        svg.raw("<g class=\"grid\">");
        for exponent in self.decades.0..=self.decades.1 {
            // With many decades, every other one is named.
            let is_named = self.decades.1 - self.decades.0 <= 9 || exponent % 2 == 0;
            let y = self.y.place(f64::from(exponent));
            FRAME.level(svg, y, is_named.then(|| decade_label(exponent)));
        }
        for (nines, label) in nines(self.nines as u32) {
            FRAME.column(svg, self.x.place(nines), Some(label));
        }
        FRAME.name(svg, "percentile, %");
        svg.raw("</g>");
    }

    /// Stairs: between two percentiles nothing is known to be lower than the value at the upper one.
    fn draw_curve(&self, svg: &mut Markup, curve: &Curve<'_>) {
        let histogram = curve.histogram;
        let all = histogram.count() as f64;
        let (mut below, mut last) = (0.0, None);
        svg.raw("<g class=\"curve ")
            .raw(curve.class)
            .raw("\"><path d=\"");
        for (_, high, count) in histogram.spans() {
            let from = self.x.place(nines_at(below, all));
            below += count as f64;
            let y = self.y.place((high.max(1) as f64).log10());
            let is_last = below >= all;
            match last {
                None => svg.raw("M").text(from).raw(" ").text(y),
                Some((x, at)) if !is_last && from - x < LEAST_STEP && at - y < LEAST_STEP => {
                    continue;
                }
                Some(_) => svg.raw("H").text(from).raw("V").text(y),
            };
            last = Some((from, y));
        }
        let end = self.x.place(all.log10() + TAIL);
        svg.raw("H").text(end).raw("\"/>");
        self.draw_dots(svg, curve);
        svg.raw("</g>");
    }

    fn draw_dots(&self, svg: &mut Markup, curve: &Curve<'_>) {
        let all = curve.histogram.count() as f64;
        for (parts, name) in DOTS {
            let beyond = all * (1.0 - f64::from(parts) / 1e4);
            let Some(ns) = curve.histogram.percentile(parts).filter(|_| beyond >= 1.0) else {
                continue;
            };
            let x = self.x.place(nines_at(all - beyond, all));
            let y = self.y.place((ns.max(1) as f64).log10());
            svg.raw("<circle cx=\"")
                .text(x)
                .raw("\" cy=\"")
                .text(y)
                .raw("\" r=\"2.6\"><title>");
            svg.text(curve.label)
                .raw(" ")
                .text(name)
                .raw(": ")
                .text(human::time(ns))
                .raw("</title></circle>");
        }
    }
}

/// How many nines there are at `below` of `all` values: 2 at 99 %.
fn nines_at(below: f64, all: f64) -> f64 {
    (all / (all - below).max(f64::MIN_POSITIVE)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(histogram: &Histogram) -> Option<String> {
        let curve = Curve {
            label: "a<b",
            class: "moving",
            histogram,
        };
        figure("x&y", &[curve]).map(Markup::into_text)
    }

    #[test]
    fn what_has_no_value_has_no_figure() {
        assert!(curve(&Histogram::new()).is_none());
    }

    #[test]
    fn curves_stay_in_their_frame_and_small() {
        let mut many = Histogram::new();
        let mut single = Histogram::new();
        (0..200_000u64).for_each(|index| many.record(index * index));
        single.record(0);
        let mut beyond = Histogram::new();
        (0..200).for_each(|_| beyond.record(u64::MAX));
        for histogram in [&many, &single, &beyond] {
            let svg = curve(histogram).expect("values");
            assert!(
                svg.contains("<b>x&amp;y</b>") && svg.contains("a&lt;b"),
                "{svg}"
            );
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(svg.len() < 16_000, "{} bytes", svg.len());
            let (_, path) = svg.split_once("moving\"><path d=\"M").expect("a curve");
            let (path, _) = path.split_once('"').expect("its end");
            let numbers = path.split(|letter: char| "HV ".contains(letter));
            for number in numbers.map(|number| number.parse::<f64>().expect(path)) {
                assert!((0.0..=WIDTH).contains(&number), "{path}");
            }
        }
    }

    #[test]
    fn nines_are_counted() {
        for (below, nines) in [(0.0, 0.0), (900.0, 1.0), (999.0, 3.0)] {
            assert!((nines_at(below, 1_000.0) - nines).abs() < 1e-9);
        }
    }
}
