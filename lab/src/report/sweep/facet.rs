//! Which cells stand in one figure.

use crate::sweep::{CellResults, SweepResults, VariedAxis};

/// Figures of one measure at most: what is more stands in the table.
const MOST: usize = 12;

/// Cells that differ in two directions only, or in one.
pub(super) struct Facet<'a> {
    /// What they share that other facets have otherwise; empty if there is only one.
    pub(super) title: String,
    /// The cell at each place: rows of `down`, one where nothing varies in that direction, columns of `across`.
    pub(super) cells: Vec<Vec<Option<&'a CellResults>>>,
}

/// How the cells of a sweep are laid out.
pub(super) struct Layout<'a> {
    /// From left to right.
    pub(super) across: &'a VariedAxis,
    /// From top to bottom; `None` where one axis alone has several values.
    pub(super) down: Option<&'a VariedAxis>,
    pub(super) facets: Vec<Facet<'a>>,
    /// Facets that are not shown.
    pub(super) more: usize,
}

impl<'a> Layout<'a> {
    /// The layout of `results`; `None` where nothing varies.
    pub(super) fn of(results: &'a SweepResults) -> Option<Self> {
        let mut varied: Vec<_> = results
            .axes
            .iter()
            .filter(|axis| axis.values.len() > 1)
            .collect();
        // Numbers make curves, and of those the longest the best; the rest as the file has them.
        varied.sort_by_key(|axis| std::cmp::Reverse((numbers(axis).is_some(), axis.values.len())));
        let across = *varied.first()?;
        let down = varied.get(1).copied();
        let others = varied.get(2..).unwrap_or_default();
        let mut titles: Vec<String> = Vec::new();
        for cell in &results.cells {
            let title = title(others, cell);
            if !titles.contains(&title) {
                titles.push(title);
            }
        }
        let more = titles.len().saturating_sub(MOST);
        titles.truncate(MOST);
        let facets = titles.into_iter().map(|name| {
            let mine = results
                .cells
                .iter()
                .filter(|cell| title(others, cell) == name);
            Facet {
                cells: grid(across, down, mine),
                title: name,
            }
        });
        Some(Self {
            across,
            down,
            facets: facets.collect(),
            more,
        })
    }
}

fn title(axes: &[&VariedAxis], cell: &CellResults) -> String {
    let values = axes
        .iter()
        .map(|axis| format!("{} {}", axis.name(), axis.value(&cell.settings)));
    values.collect::<Vec<_>>().join(", ")
}

fn grid<'a>(
    across: &VariedAxis,
    down: Option<&VariedAxis>,
    cells: impl Iterator<Item = &'a CellResults>,
) -> Vec<Vec<Option<&'a CellResults>>> {
    let rows = down.map_or(1, |axis| axis.values.len());
    let mut grid = vec![vec![None; across.values.len()]; rows];
    let place = |axis: &VariedAxis, cell: &CellResults| {
        let value = axis.value(&cell.settings);
        axis.values.iter().position(|known| *known == value)
    };
    for cell in cells {
        let row = down.map_or(Some(0), |axis| place(axis, cell));
        if let (Some(row), Some(column)) = (row, place(across, cell)) {
            grid[row][column] = Some(cell);
        }
    }
    grid
}

/// The values of `axis` as numbers, if all of them are.
pub(super) fn numbers(axis: &VariedAxis) -> Option<Vec<f64>> {
    axis.values
        .iter()
        .map(|value| value.parse().ok().filter(|it: &f64| it.is_finite()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tests::results_of;

    #[test]
    fn every_cell_has_its_place_in_one_facet() {
        let results = results_of(&[
            ("strategy", &["a", "b"]),
            ("cpus", &["1", "2", "4"]),
            ("wait", &["x", "y"]),
        ]);
        let layout = Layout::of(&results).expect("something varies");
        assert_eq!(layout.across.name(), "cpus");
        assert_eq!(
            layout.down.map(VariedAxis::name).as_deref(),
            Some("strategy")
        );
        let titles: Vec<_> = layout
            .facets
            .iter()
            .map(|facet| facet.title.as_str())
            .collect();
        assert_eq!((titles, layout.more), (vec!["wait x", "wait y"], 0));
        for facet in &layout.facets {
            for (row, cells) in facet.cells.iter().enumerate() {
                for (column, cell) in cells.iter().enumerate() {
                    let settings = &cell.expect("a full grid").settings;
                    assert_eq!(settings["cpus"], layout.across.values[column]);
                    assert_eq!(settings["strategy"], ["a", "b"][row]);
                }
            }
        }
    }

    #[test]
    fn what_does_not_vary_has_no_figure() {
        assert!(Layout::of(&results_of(&[])).is_none());
        assert!(Layout::of(&results_of(&[("cpus", &["2"])])).is_none());
        let one = results_of(&[("cpus", &["1", "2"])]);
        assert!(Layout::of(&one).expect("one axis").down.is_none());
        let values: Vec<_> = (0..40).map(|value| value.to_string()).collect();
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let many = results_of(&[
            ("seed", &values),
            ("cpus", &["1", "2"]),
            ("batch", &values[..20]),
        ]);
        let layout = Layout::of(&many).expect("three axes");
        assert_eq!((layout.facets.len(), layout.more), (2, 0));
    }
}
