//! Where a plot lies in its picture, and the lines of its grid with their labels.

use super::markup::Markup;
use std::fmt::Display;

/// Between label and plot.
const GAP: f64 = 6.0;
/// From a line of text to what it stands beside or below.
const HALF_LINE: f64 = 4.0;
const LINE: f64 = 16.0;

/// The edges of a plot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Frame {
    /// A line across the plot at `y`, and its label left of it, if it has one.
    pub fn level(&self, svg: &mut Markup, y: f64, label: Option<impl Display>) {
        svg.raw("<path d=\"M").text(self.left).raw(" ").text(y);
        svg.raw("H").text(self.right).raw("\"/>");
        if let Some(label) = label {
            svg.raw("<text class=\"y\" x=\"").text(self.left - GAP);
            svg.raw("\" y=\"")
                .text(y + HALF_LINE)
                .raw("\">")
                .text(label)
                .raw("</text>");
        }
    }

    /// A line down the plot at `x`, and its label below it, if it has one.
    pub fn column(&self, svg: &mut Markup, x: f64, label: Option<impl Display>) {
        svg.raw("<path d=\"M").text(x).raw(" ").text(self.top);
        svg.raw("V").text(self.bottom).raw("\"/>");
        if let Some(label) = label {
            svg.raw("<text class=\"x\" x=\"").text(x);
            svg.raw("\" y=\"")
                .text(self.bottom + LINE)
                .raw("\">")
                .text(label)
                .raw("</text>");
        }
    }

    /// What the columns are, below their labels.
    pub fn name(&self, svg: &mut Markup, name: impl Display) {
        svg.raw("<text class=\"x\" x=\"")
            .text(f64::midpoint(self.left, self.right));
        svg.raw("\" y=\"")
            .text(self.bottom + 2.0 * LINE)
            .raw("\">")
            .text(name)
            .raw("</text>");
    }
}
