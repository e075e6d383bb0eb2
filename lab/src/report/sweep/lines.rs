//! A measure over numbers, a curve for each value of the other direction.

use super::super::grid::Frame;
use super::super::markup::Markup;
use super::super::scale::Scale;
use super::facet::{Facet, Layout, numbers};
use crate::sweep::Metric;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 250.0;
const FRAME: Frame = Frame {
    left: 64.0,
    right: WIDTH - 14.0,
    top: 10.0,
    bottom: HEIGHT - 38.0,
};
const CLASSES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
/// Values that are further apart than this have a logarithmic axis.
const WIDE: f64 = 8.0;
/// What the name of a column takes.
const NAME: f64 = 28.0;
/// Lines of the grid, and their labels.
const TICKS: u32 = 4;

/// The curves of `metric` over `facet`; `None` where the columns are no numbers, or nothing was measured. `range` is that
/// of all facets, so that they can be held against each other.
pub(super) fn curves(
    layout: &Layout<'_>,
    facet: &Facet<'_>,
    metric: Metric,
    range: (f64, f64),
) -> Option<Markup> {
    let numbers = numbers(layout.across)?;
    let x = Axis::of(numbers.iter().copied(), (FRAME.left, FRAME.right))?;
    let y = Axis::of([range.0, range.1].into_iter(), (FRAME.bottom, FRAME.top))?;
    let mut figure = Markup::new();
    figure
        .raw("<figure><figcaption>")
        .element("b", metric.title())
        .raw("<span class=\"keys\">");
    for (row, cells) in facet.cells.iter().enumerate() {
        if let Some(down) = layout.down.filter(|_| cells.iter().any(Option::is_some)) {
            figure
                .raw("<span class=\"key ")
                .raw(CLASSES[row % CLASSES.len()]);
            figure.raw("\">").text(&down.values[row]).raw("</span> ");
        }
    }
    figure
        .raw("</span></figcaption><svg viewBox=\"0 0 ")
        .text(WIDTH)
        .raw(" ")
        .text(HEIGHT);
    figure.raw("\" role=\"img\" aria-label=\"").text(format!(
        "{} by {}",
        metric.title(),
        layout.across.name()
    ));
    figure.raw("\">");
    draw_grid(&mut figure, layout, &numbers, metric, &x, &y);
    let mut drawn = false;
    for (row, cells) in facet.cells.iter().enumerate() {
        let points = numbers.iter().zip(cells);
        let mut points: Vec<_> = points
            .filter_map(|(number, cell)| Some((*number, metric.of((*cell)?)?)))
            .collect();
        points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        drawn |= !points.is_empty();
        draw(&mut figure, CLASSES[row % CLASSES.len()], &points, &x, &y);
    }
    figure.raw("</svg></figure>\n");
    drawn.then_some(figure)
}

/// Numbers laid over places, logarithmically where they are far apart.
struct Axis {
    scale: Scale,
    least: f64,
    most: f64,
    is_log: bool,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, to: (f64, f64)) -> Option<Self> {
        let (least, most) = values.filter(|value| value.is_finite()).fold(
            (f64::INFINITY, f64::NEG_INFINITY),
            |(least, most), value| (least.min(value), most.max(value)),
        );
        if least > most {
            return None;
        }
        let is_log = least > 0.0 && most / least > WIDE;
        // Something to lay out even where all are the same.
        let most = if least < most {
            most
        } else {
            least + least.abs().max(1.0)
        };
        let from = if is_log {
            (least.ln(), most.ln())
        } else {
            (least, most)
        };
        Some(Self {
            scale: Scale { from, to },
            least,
            most,
            is_log,
        })
    }

    fn place(&self, value: f64) -> f64 {
        self.scale
            .place(if self.is_log { value.ln() } else { value })
    }

    /// Numbers at even distances from the least to the greatest.
    fn ticks(&self) -> impl Iterator<Item = f64> + '_ {
        (0..=TICKS).map(|tick| {
            let share = f64::from(tick) / f64::from(TICKS);
            match self.is_log {
                true => self.least * (self.most / self.least).powf(share),
                false => self.least + (self.most - self.least) * share,
            }
        })
    }
}

fn draw_grid(
    svg: &mut Markup,
    layout: &Layout<'_>,
    numbers: &[f64],
    metric: Metric,
    x: &Axis,
    y: &Axis,
) {
    svg.raw("<g class=\"grid\">");
    for value in y.ticks() {
        FRAME.level(svg, y.place(value), Some(metric.text(Some(value))));
    }
    let mut last = f64::NEG_INFINITY;
    for (number, label) in numbers.iter().zip(&layout.across.values) {
        let at = x.place(*number);
        // Names that would lie over each other are left out.
        let has_room = (at - last).abs() >= NAME;
        FRAME.column(svg, at, has_room.then_some(label));
        last = if has_room { at } else { last };
    }
    FRAME.name(svg, layout.across.name());
    svg.raw("</g>");
}

fn draw(svg: &mut Markup, class: &'static str, points: &[(f64, f64)], x: &Axis, y: &Axis) {
    svg.raw("<g class=\"curve ").raw(class).raw("\">");
    if points.len() > 1 {
        svg.raw("<path d=\"");
        for (index, (across, up)) in points.iter().enumerate() {
            svg.raw(if index == 0 { "M" } else { "L" })
                .text(x.place(*across))
                .raw(" ")
                .text(y.place(*up));
        }
        svg.raw("\"/>");
    }
    for (across, up) in points {
        svg.raw("<circle cx=\"")
            .text(x.place(*across))
            .raw("\" cy=\"")
            .text(y.place(*up))
            .raw("\" r=\"3\"/>");
    }
    svg.raw("</g>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::results_of;

    #[test]
    fn curves_are_drawn_over_numbers_and_stay_in_their_frame() {
        let results = results_of(&[("batch", &["512", "1", "8"]), ("wait", &["<x>", "y"])]);
        let layout = Layout::of(&results).expect("it varies");
        let range = (1_000.0, 9_000.0);
        let svg = curves(&layout, &layout.facets[0], Metric::WindowMedian, range)
            .expect("curves")
            .into_text();
        assert!(
            svg.contains("&lt;x&gt;") && !svg.contains("NaN") && !svg.contains("inf"),
            "{svg}"
        );
        assert_eq!(
            (
                svg.matches("<circle").count(),
                svg.matches("class=\"curve").count()
            ),
            (6, 2)
        );
        let (_, path) = svg
            .split_once("class=\"curve s0\"><path d=\"M")
            .expect("a curve");
        let (path, _) = path.split_once('"').expect("its end");
        let x: Vec<f64> = path
            .split('L')
            .map(|point| {
                point
                    .split(' ')
                    .next()
                    .expect("x")
                    .parse()
                    .expect("a number")
            })
            .collect();
        assert!(
            x.is_sorted() && x.iter().all(|x| (FRAME.left..=FRAME.right).contains(x)),
            "{path}"
        );
        let words = results_of(&[("wait", &["x", "y"])]);
        let layout = Layout::of(&words).expect("it varies");
        assert!(curves(&layout, &layout.facets[0], Metric::WindowMedian, range).is_none());
    }
}
