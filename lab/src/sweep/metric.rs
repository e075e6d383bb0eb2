//! The figures by which cells are held against each other.

use super::CellResults;
use crate::human;
use crate::rundir::Histograms;

/// One figure of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Half of all windows were no longer, in ns.
    WindowMedian,
    /// 99.9 % of all windows were no longer, in ns.
    WindowTail,
    /// 99.9 % of all stalls of the guest's accesses were no longer while pages moved, in ns.
    StallTail,
    /// The same in the control.
    ControlStallTail,
    /// Pages moved per second.
    Pages,
    /// Operations per second while pages moved, over those of the control.
    Operations,
}

impl Metric {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::WindowMedian,
        Self::WindowTail,
        Self::StallTail,
        Self::ControlStallTail,
        Self::Pages,
        Self::Operations,
    ];

    /// What it is called in JSON and CSV, with its unit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WindowMedian => "window_p50_ns",
            Self::WindowTail => "window_p99_9_ns",
            Self::StallTail => "stall_p99_9_ns",
            Self::ControlStallTail => "control_stall_p99_9_ns",
            Self::Pages => "pages_per_s",
            Self::Operations => "operations_moving_over_control",
        }
    }

    /// What people read.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::WindowMedian => "window p50",
            Self::WindowTail => "window p99.9",
            Self::StallTail => "stall p99.9",
            Self::ControlStallTail => "stall p99.9, control",
            Self::Pages => "pages/s",
            Self::Operations => "operations, moving/control",
        }
    }

    /// Its heading where there is little room.
    #[must_use]
    pub const fn heading(self) -> &'static str {
        match self {
            Self::WindowMedian => "win p50",
            Self::WindowTail => "p99.9",
            Self::StallTail => "stall p99.9",
            Self::ControlStallTail => "control",
            Self::Pages => "pages/s",
            Self::Operations => "ops ratio",
        }
    }

    /// Whether less of it is better.
    #[must_use]
    pub const fn is_better_low(self) -> bool {
        !matches!(self, Self::Pages | Self::Operations)
    }

    /// Its value; `None` where nothing was measured.
    #[must_use]
    pub fn of(self, cell: &CellResults) -> Option<f64> {
        let percentile = |histograms: &Histograms, name: &str, parts| {
            let ns = histograms.get(name)?.percentile(parts)?;
            Some(ns as f64)
        };
        match self {
            Self::WindowMedian => percentile(&cell.moving, "window", 5_000),
            Self::WindowTail => percentile(&cell.moving, "window", 9_990),
            Self::StallTail => percentile(&cell.moving, "guest.stall", 9_990),
            Self::ControlStallTail => percentile(&cell.control, "guest.stall", 9_990),
            Self::Pages => cell.pages_per_s,
            Self::Operations => cell.operations_ratio,
        }
    }

    /// `value` of it, for people; `-` where there is none.
    #[must_use]
    pub fn text(self, value: Option<f64>) -> String {
        match (self, value) {
            (_, None) => "-".to_owned(),
            (Self::Pages, Some(rate)) => human::short_count(rate as u64),
            (Self::Operations, Some(ratio)) => format!("{ratio:.2}"),
            (_, Some(ns)) => human::time(ns as u64),
        }
    }
}
