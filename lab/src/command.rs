//! `underfoot run` around the run itself: what must be right before, and what is written after.

use crate::error::Error;
use crate::exit::ExitStatus;
use crate::experiment::{Experiment, span};
use crate::host_limits::HostLimits;
use crate::json::RunJson;
use crate::json_target::JsonTarget;
use crate::output::print;
use crate::record::{Ending, RunRecord};
use crate::rundir::RunDir;
use crate::settings::{ExperimentError, Settings};
use crate::signals;
use crate::summary::{SCREEN, summary};
use crate::units::Span;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What `run` was asked for.
#[derive(Clone, Debug, Default)]
pub struct RunRequest {
    /// The flags that describe the experiment.
    pub settings: Settings,
    /// An experiment file under the flags.
    pub experiment: Option<PathBuf>,
    /// Where the results go; without it, to a new directory under `runs/`.
    pub out: Option<PathBuf>,
    /// Where the JSON goes as well; `-` is standard output.
    pub json: Option<PathBuf>,
    /// How often a line of JSON on standard output tells what goes on.
    pub interval: Option<String>,
}

/// The shortest interval: reading every histogram takes a while.
const LEAST_INTERVAL: Span = Span::from_ms(100);
const MOST_INTERVAL: Span = Span::from_ms(3_600_000);

impl RunRequest {
    /// How often to tell what goes on, if at all.
    ///
    /// # Errors
    /// [`Error::Flag`].
    pub fn interval(&self) -> Result<Option<Duration>, Error> {
        let flag = "--interval";
        let Some(text) = &self.interval else {
            return Ok(None);
        };
        let parsed = span(text, LEAST_INTERVAL, MOST_INTERVAL, "such as 1s");
        let every = parsed.map_err(|source| Error::Flag { flag, source })?;
        if self.json.as_deref() == Some(Path::new("-")) {
            return Err(Error::Experiment(ExperimentError::Unsound {
                combination: format!("--interval {text}, --json -"),
                reason: "both write to standard output: name a file for one of them, such as --json run.json",
            }));
        }
        Ok(Some(every.duration()))
    }
}

/// Checks the request, makes sure of the places for its results, lets `run` do the work and writes
/// what it measured. `run` is given the experiment and the file for the guest's console.
///
/// A run that failed has results too; they are written, and say so.
///
/// # Errors
/// [`Error`]; then nothing is left behind.
pub fn run_command(
    mut request: RunRequest,
    run: impl FnOnce(&Experiment, &Path) -> Result<RunRecord, Error>,
) -> Result<ExitStatus, Error> {
    if let Some(file) = &request.experiment {
        request.settings.read_file(file)?;
    }
    let experiment = Experiment::resolve(&request.settings, &HostLimits::detect()?)?;
    let json = request
        .json
        .as_deref()
        .map(JsonTarget::prepare)
        .transpose()?;
    let _signals = signals::hold()?;
    let now = SystemTime::now();
    let directory = RunDir::begin(request.out.as_deref(), Path::new(""), now, experiment.seed)
        .map_err(out_error)?;
    let record = run(&experiment, &directory.console_path())?;
    let directory = directory.commit(&record).map_err(out_error);
    let told = report(&record, directory.as_deref().ok(), json);
    directory?;
    match told {
        // Whoever read the summary has gone away: that says nothing about the run.
        Err(error) if !error.is_broken_pipe() => Err(error),
        _ => Ok(ExitStatus::of_run(&record)),
    }
}

fn out_error(source: crate::atomic_file::WriteError) -> Error {
    Error::Results {
        flag: "--out",
        source,
    }
}

/// Tells people and programs; people on standard error where a program reads standard output.
fn report(
    record: &RunRecord,
    directory: Option<&Path>,
    json: Option<JsonTarget>,
) -> Result<(), Error> {
    let stdout = json.as_ref().is_some_and(JsonTarget::is_stdout);
    let screen = if stdout {
        std::io::stderr().is_terminal()
    } else {
        std::io::stdout().is_terminal()
    };
    let text = summary(record, directory, screen.then_some(SCREEN));
    // Files first: the summary goes to somebody who may have gone away.
    let committed = json.map(|json| json.commit(&RunJson::from(record).to_text()));
    let printed = if stdout {
        eprint!("{text}");
        Ok(())
    } else {
        print(&text)
    };
    for complaint in complaints(record) {
        eprintln!("{}: {complaint}", crate::tool::NAME);
    }
    committed.transpose()?;
    printed
}

/// Why the run is not sound, in full; the summary has room for some of it only.
fn complaints(record: &RunRecord) -> Vec<String> {
    let message = match record.outcome.ending {
        Ending::Failed | Ending::Watchdog => record.outcome.message.as_deref(),
        Ending::Done | Ending::Interrupted { .. } => None,
    };
    let details = record.integrity.details.iter().map(String::as_str);
    let deadlock = record.deadlock().map(|told| format!("deadlocks: {told}"));
    let uncaught = record.uncaught();
    let said = message.into_iter().chain(details).map(str::to_owned);
    said.chain(deadlock).chain(uncaught).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rundir::{CONSOLE_LOG, RUN_JSON};
    use crate::settings::Key;
    use crate::test_record::test_record;

    fn request(base: &Path) -> RunRequest {
        RunRequest {
            out: Some(base.join("out")),
            json: Some(base.join("run.json")),
            ..RunRequest::default()
        }
    }

    fn entries(base: &Path) -> usize {
        base.read_dir().expect("readable").count()
    }

    #[test]
    fn results_go_where_they_were_asked_for() {
        let base = tempfile::tempdir().expect("a directory");
        let status = run_command(request(base.path()), |_, console| {
            std::fs::write(console, "hello\n").expect("room");
            Ok(test_record())
        });
        assert_eq!(status.expect("sound"), ExitStatus::Sound);
        let read = |path: &str| std::fs::read_to_string(base.path().join(path)).expect(path);
        assert_eq!(read("run.json"), read(&format!("out/{RUN_JSON}")));
        assert_eq!(read(&format!("out/{CONSOLE_LOG}")), "hello\n");
        assert_eq!(entries(base.path()), 2);
    }

    #[test]
    fn a_failed_run_has_results_and_a_status() {
        let base = tempfile::tempdir().expect("a directory");
        let status = run_command(request(base.path()), |_, _| {
            let mut record = test_record();
            record.integrity.errors = 1;
            Ok(record)
        });
        assert_eq!(status.expect("written"), ExitStatus::Failed);
        assert_eq!(entries(base.path()), 2);
    }

    #[test]
    fn a_run_that_never_was_leaves_nothing() {
        let base = tempfile::tempdir().expect("a directory");
        let error = run_command(request(base.path()), |_, console| {
            std::fs::write(console, "hello\n").expect("room");
            Err(Error::Unsupported("no KVM".into()))
        });
        assert_eq!(error.expect_err("no run").status(), ExitStatus::Unsupported);
        assert_eq!(entries(base.path()), 0);
    }

    #[test]
    fn wrong_usage_never_runs() {
        let base = tempfile::tempdir().expect("a directory");
        let never = |_: &Experiment, _: &Path| -> Result<RunRecord, Error> { panic!("it ran") };
        let mut wrong = request(base.path());
        wrong.settings.set_flag(Key::Batch, "513");
        let mut exists = request(base.path());
        exists.out = Some(base.path().to_owned());
        let mut nowhere = request(base.path());
        nowhere.json = Some(base.path().join("missing/run.json"));
        for request in [wrong, exists, nowhere] {
            let error = run_command(request, never).expect_err("wrong");
            assert_eq!(error.status(), ExitStatus::Usage, "{error:?}");
            assert_eq!(entries(base.path()), 0);
        }
    }

    #[test]
    fn complaints_are_told_in_full() {
        let mut record = test_record();
        assert!(complaints(&record).is_empty());
        record.outcome.ending = Ending::Failed;
        record.outcome.message = Some("the guest\ndied".into());
        record.integrity.details = vec!["stale frame".into()];
        assert_eq!(complaints(&record), ["the guest\ndied", "stale frame"]);
    }
}
