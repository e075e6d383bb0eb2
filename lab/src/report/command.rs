//! `underfoot report`: what it was asked for, and where it goes.

use super::page::page;
use super::sweep::sweep_page;
use super::table::{csv, to_json};
use super::target::prepare;
use super::text::text;
use super::trace::trace;
use crate::atomic_file::AtomicFile;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::output::print;
use crate::rundir::StoredRun;
use crate::sweep::{self, SweepResults, is_sweep};
use std::path::{Path, PathBuf};

/// What a report is called in the directory of its run.
pub const REPORT_HTML: &str = "report.html";

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportFormat {
    /// A page that stands alone.
    #[default]
    Html,
    /// Plain text for mail.
    Markdown,
    /// A line for each histogram.
    Csv,
    /// Percentiles and curves, schema `underfoot.report/1`.
    Json,
    /// The longest stalls, for Perfetto.
    Trace,
}

/// What `report` was asked for.
#[derive(Clone, Debug, Default)]
pub struct ReportRequest {
    /// The runs.
    pub runs: Vec<PathBuf>,
    /// How it is written.
    pub format: ReportFormat,
    /// Where one report on all of them goes; `-` is standard output. Without it a page goes into the directory of each
    /// run, and everything else to standard output.
    pub out: Option<PathBuf>,
    /// Whether a file that is no report is replaced.
    pub force: bool,
}

/// Why no report was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A sweep has no stalls of its own.
    #[error("{} is a sweep, and a trace is of runs: name run directories in it", .path.display())]
    NoTrace {
        /// Which.
        path: PathBuf,
    },
    /// A sweep and something else.
    #[error("{} is a sweep, which has a page of its own: name it alone", .path.display())]
    SweepAmongOthers {
        /// Which.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("{} exists and is no report: name another place with --out, or give --force", .path.display())]
    NotAReport {
        /// Where.
        path: PathBuf,
    },
    /// There is no directory to leave it in.
    #[error("{} is a file, not a run directory: say with --out where its report goes", .path.display())]
    NoDirectory {
        /// What was named.
        path: PathBuf,
    },
}

/// Writes the reports that were asked for: all of them, or none where one of the runs or places is no good.
///
/// # Errors
/// [`Error`].
pub fn report_command(request: &ReportRequest) -> Result<ExitStatus, Error> {
    if let Some(sweep) = request.runs.iter().find(|path| is_sweep(path)) {
        return report_on_sweep(sweep, request);
    }
    let runs = request.runs.iter();
    let runs = runs.map(|path| StoredRun::read(path)?.with_longest_stalls());
    let runs: Vec<_> = runs.collect::<Result<_, _>>()?;
    match request.out.as_deref() {
        Some(out) if out != Path::new("-") => {
            let file = prepare(out, request.force)?;
            write(file, out, &render(request.format, &runs))?;
        }
        None if request.format == ReportFormat::Html => beside_each(&runs, request.force)?,
        _ => print(&render(request.format, &runs))?,
    }
    Ok(ExitStatus::Sound)
}

/// A sweep stands by itself: its page, or its cells as CSV or JSON.
fn report_on_sweep(path: &Path, request: &ReportRequest) -> Result<ExitStatus, Error> {
    if request.runs.len() > 1 {
        let path = path.to_owned();
        return Err(ReportError::SweepAmongOthers { path }.into());
    }
    let results = SweepResults::read(path)?;
    let text = match request.format {
        ReportFormat::Html => sweep_page(&results),
        ReportFormat::Markdown => sweep::markdown(&results),
        ReportFormat::Csv => sweep::csv(&results),
        ReportFormat::Json => sweep::to_json(&results),
        ReportFormat::Trace => {
            let path = path.to_owned();
            return Err(ReportError::NoTrace { path }.into());
        }
    };
    let beside = path.join(REPORT_HTML);
    let place = match &request.out {
        Some(out) if out == Path::new("-") => None,
        Some(out) => Some(out.as_path()),
        None => Some(beside.as_path()).filter(|_| request.format == ReportFormat::Html),
    };
    match place {
        Some(place) => write(prepare(place, request.force)?, place, &text)?,
        None => print(&text)?,
    }
    Ok(ExitStatus::Sound)
}

fn render(format: ReportFormat, runs: &[StoredRun]) -> String {
    match format {
        ReportFormat::Html => page(runs),
        ReportFormat::Markdown => text(runs),
        ReportFormat::Csv => csv(runs),
        ReportFormat::Json => to_json(runs),
        ReportFormat::Trace => trace(runs),
    }
}

/// A page into the directory of each run; every place is made sure of before the first is written.
fn beside_each(runs: &[StoredRun], force: bool) -> Result<(), Error> {
    let places = runs.iter().map(|run| {
        if !run.path.is_dir() {
            let path = run.path.clone();
            return Err(Error::Report(ReportError::NoDirectory { path }));
        }
        let place = run.path.join(REPORT_HTML);
        Ok((prepare(&place, force)?, place))
    });
    let places: Vec<_> = places.collect::<Result<_, _>>()?;
    for (run, (file, place)) in runs.iter().zip(places) {
        write(file, &place, &page(std::slice::from_ref(run)))?;
    }
    Ok(())
}

fn write(file: AtomicFile, place: &Path, text: &str) -> Result<(), Error> {
    let flag = "--out";
    file.commit(text.as_bytes())
        .map_err(|source| Error::Results { flag, source })?;
    print(&format!("{}\n", place.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;
    use crate::json::RunJson;
    use crate::rundir::RUN_JSON;
    use crate::test_record::test_record;

    fn run_directory(base: &Path, name: &str) -> PathBuf {
        let directory = base.join(name);
        std::fs::create_dir(&directory).expect("room");
        std::fs::write(
            directory.join(RUN_JSON),
            RunJson::from(&test_record()).to_text(),
        )
        .expect("room");
        directory
    }

    fn request(runs: &[PathBuf]) -> ReportRequest {
        ReportRequest {
            runs: runs.to_vec(),
            ..ReportRequest::default()
        }
    }

    #[test]
    fn each_run_gets_its_page_or_all_get_one() {
        let base = tempfile::tempdir().expect("a directory");
        let runs = ["a", "b"].map(|name| run_directory(base.path(), name));
        for _again in 0..2 {
            report_command(&request(&runs)).expect("two pages");
        }
        for run in &runs {
            let page = std::fs::read_to_string(run.join(REPORT_HTML)).expect("a page");
            assert!(page.contains("<h2>Summary</h2>"));
            assert_eq!(run.read_dir().expect("readable").count(), 2);
        }
        let out = base.path().join("both.html");
        report_command(&ReportRequest {
            out: Some(out.clone()),
            ..request(&runs)
        })
        .expect("one page");
        assert!(
            std::fs::read_to_string(out)
                .expect("a page")
                .contains("<h1>2 runs</h1>")
        );
    }

    #[test]
    fn nothing_is_written_unless_all_can_be() {
        let base = tempfile::tempdir().expect("a directory");
        let [good, taken] = ["good", "taken"].map(|name| run_directory(base.path(), name));
        std::fs::write(taken.join(REPORT_HTML), "my own").expect("room");
        let lone = good.join(RUN_JSON);
        let nowhere = base.path().join("nowhere");
        for (second, part) in [
            (&taken, "--force"),
            (&lone, "--out"),
            (&nowhere, "name a run directory"),
        ] {
            let error = report_command(&request(&[good.clone(), second.clone()])).expect_err(part);
            assert!(chain(&error).contains(part), "{}", chain(&error));
            assert_eq!(error.status(), ExitStatus::Usage);
            assert!(!good.join(REPORT_HTML).exists(), "{part}");
        }
        assert_eq!(
            std::fs::read_to_string(taken.join(REPORT_HTML)).expect("kept"),
            "my own"
        );
        let forced = ReportRequest {
            force: true,
            ..request(std::slice::from_ref(&taken))
        };
        report_command(&forced).expect("told to");
    }
}
