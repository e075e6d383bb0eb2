//! A measure over two directions: a table whose cells have the more colour the worse they are.

use super::super::markup::Markup;
use super::facet::{Facet, Layout};
use crate::sweep::Metric;

/// The classes of the shades, from the best to the worst.
const SHADES: [&str; 8] = ["h0", "h1", "h2", "h3", "h4", "h5", "h6", "h7"];

/// The heat map of `metric` over `facet`, shaded from `least` to `most`; both more than 0 for a logarithmic scale.
pub(super) fn heat_map(
    layout: &Layout<'_>,
    facet: &Facet<'_>,
    metric: Metric,
    range: (f64, f64),
) -> Markup {
    let mut table = Markup::new();
    table.raw("<div class=\"scroll\"><table class=\"heat\"><thead><tr><th>");
    if let Some(down) = layout.down {
        table.text(down.name()).raw(" ↓ ");
    }
    table.text(layout.across.name()).raw(" →</th>");
    for value in &layout.across.values {
        table.element("th", value);
    }
    table.raw("</tr></thead><tbody>");
    for (row, cells) in facet.cells.iter().enumerate() {
        let name = layout.down.map_or("", |down| down.values[row].as_str());
        table.raw("<tr>").element("th", name);
        for cell in cells {
            let value = cell.and_then(|cell| metric.of(cell));
            table
                .raw("<td class=\"")
                .raw(value.map_or("none", |value| shade(metric, value, range)));
            table.raw("\">").text(metric.text(value)).raw("</td>");
        }
        table.raw("</tr>");
    }
    table.raw("</tbody></table></div>\n");
    table
}

/// The shade of `value`: the last of [`SHADES`] is the worst end of the range.
fn shade(metric: Metric, value: f64, (least, most): (f64, f64)) -> &'static str {
    let share = match least > 0.0 {
        true => (value / least).ln() / (most / least).ln(),
        false => (value - least) / (most - least),
    };
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let worse = if metric.is_better_low() {
        share
    } else {
        1.0 - share
    };
    SHADES[((worse * SHADES.len() as f64) as usize).min(SHADES.len() - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_has_most_colour_on_a_logarithmic_scale() {
        for (metric, value, range, expected) in [
            (Metric::WindowTail, 10.0, (10.0, 1_000.0), "h0"),
            (Metric::WindowTail, 110.0, (10.0, 1_000.0), "h4"),
            (Metric::WindowTail, 1_000.0, (10.0, 1_000.0), "h7"),
            (Metric::Pages, 1_000.0, (10.0, 1_000.0), "h0"),
            (Metric::Pages, 10.0, (10.0, 1_000.0), "h7"),
            (Metric::Operations, 0.5, (0.0, 1.0), "h4"),
            (Metric::WindowTail, 10.0, (10.0, 10.0), "h0"),
            (Metric::WindowTail, f64::NAN, (10.0, 20.0), "h0"),
        ] {
            assert_eq!(
                shade(metric, value, range),
                expected,
                "{metric:?} {value} {range:?}"
            );
        }
    }
}
