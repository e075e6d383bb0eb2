//! `underfoot sweep`: what it was asked for, and what it says.

use super::conduct::{Conducted, Conductor};
use super::directory::{check_place, place_of, write_text};
use super::file::SweepFile;
use super::merge::merge;
use super::results::{SWEEP_JSON, to_json};
use super::shard::Shard;
use super::table::summary;
use super::{Plan, SweepDir, SweepResults};
use crate::claims::conduct::Runner;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::host_limits::HostLimits;
use crate::output::print;
use crate::progress::Progress;
use crate::rundir::RUNS;
use crate::signals;
use crate::summary::SCREEN;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// Cells that could not be run, each told in a line.
const TOLD: usize = 3;

/// What `sweep` was asked for.
#[derive(Clone, Debug)]
pub enum SweepRequest {
    /// To run a sweep, or to go on with one.
    Run {
        /// The sweep file.
        file: PathBuf,
        /// Where its runs lie; by default `runs/NAME`, after the file.
        out: Option<PathBuf>,
        /// Which part, as `I/N`; by default that of the task of a Slurm array, or all.
        shard: Option<String>,
        /// Whether runs that did not end well are done again.
        again: bool,
        /// Whether to say what would be run, and run nothing.
        dry_run: bool,
    },
    /// To put shards together.
    Merge {
        /// Their places.
        from: Vec<PathBuf>,
        /// Where all runs are to lie.
        out: PathBuf,
    },
}

/// Does it, and says what came of it.
///
/// # Errors
/// [`Error`]; runs that were done stay.
pub fn sweep_command(request: &SweepRequest, run: Runner<'_>) -> Result<ExitStatus, Error> {
    match request {
        SweepRequest::Run {
            file,
            out,
            shard,
            again,
            dry_run,
        } => {
            let shard = understand(shard.as_deref())?;
            let limits = HostLimits::detect()?;
            let plan = Plan::new(SweepFile::read(file)?, &limits)?;
            if *dry_run {
                let place = place_of(out.as_deref(), Path::new(""), &plan);
                return print(&preview(&plan, shard, &limits, &place)?).map(|()| ExitStatus::Sound);
            }
            let directory = SweepDir::begin(out.as_deref(), Path::new(""), &plan, shard)?;
            let conducted = {
                let _signals = signals::hold()?;
                let progress = Progress::new();
                let mut told = |done, of, cell: &str| progress.count(done, of, cell);
                let conductor = Conductor {
                    plan: &plan,
                    shard,
                    directory: &directory,
                    again: *again,
                    limits: &limits,
                };
                conductor.conduct(run, &mut told)?
            };
            tell(directory.place(), Some(&conducted), shard)
        }
        SweepRequest::Merge { from, out } => {
            merge(from, out)?;
            tell(out, None, Shard::WHOLE)
        }
    }
}

fn understand(shard: Option<&str>) -> Result<Shard, Error> {
    let flag = |flag| move |source| Error::Flag { flag, source };
    match shard {
        Some(text) => text.parse().map_err(flag("--shard")),
        None => Ok(Shard::of_slurm(|name| std::env::var(name).ok())
            .map_err(flag("the shard of this Slurm task"))?
            .unwrap_or(Shard::WHOLE)),
    }
}

/// What would be run in `place`, in order, and how long that takes at the least.
fn preview(plan: &Plan, shard: Shard, limits: &HostLimits, place: &Path) -> Result<String, Error> {
    check_place(place, plan)?;
    let order = plan.order().into_iter().enumerate();
    let mine = order
        .filter(|(place, _)| shard.has(*place))
        .map(|(_, run)| run);
    let (mut ns, mut runs, mut done) = (0u64, 0, 0);
    let mut text = String::new();
    for run in mine {
        let name = plan.name(run);
        if place.join(RUNS).join(&name).symlink_metadata().is_ok() {
            done += 1;
            continue;
        }
        let experiment = plan.experiment(run, limits)?;
        ns = ns.saturating_add(experiment.warmup.ns() + experiment.duration.ns());
        runs += 1;
        text.push_str(&format!("{name}  {}\n", plan.cells[run.cell].text()));
    }
    for (cell, reason) in &plan.skipped {
        text.push_str(&format!("left out  {}: {reason}\n", cell.text()));
    }
    let cells = plan.cells.len();
    let time = crate::human::time(ns);
    Ok(text
        + &format!(
            "{runs} runs of {cells} cells, shard {shard}, {done} done before: {time} at the least, into {}\n",
            place.display()
        ))
}

/// Says what the place holds now, and how the exit status comes about; without `conducted` it was a merge, of which every
/// run counts.
fn tell(place: &Path, conducted: Option<&Conducted>, shard: Shard) -> Result<ExitStatus, Error> {
    let results = SweepResults::read(place)?;
    write_text(&place.join(SWEEP_JSON), &to_json(&results))?;
    let screen = std::io::stdout().is_terminal().then_some(SCREEN);
    let is_mine = |name: &str| conducted.is_none_or(|it| it.mine.contains(name));
    let faults = results.cells.iter().flat_map(|cell| &cell.faults);
    let faults = faults.filter(|(name, _)| is_mine(name)).count();
    let none = Conducted::default();
    let conducted = conducted.unwrap_or(&none);
    let say = |words: String| eprintln!("{}: {words}", crate::tool::NAME);
    if let Some(signal) = conducted.signal {
        let left = conducted.left;
        say(format!(
            "interrupted by signal {signal}, {left} runs of shard {shard} are left: the same command goes on with them"
        ));
    }
    for (cell, why) in conducted.lacking.iter().take(TOLD) {
        say(format!("cell {cell} was not run: {why}"));
    }
    if conducted.lacking.len() > TOLD {
        let more = conducted.lacking.len() - TOLD;
        say(format!("{more} more cells were not run"));
    }
    if faults > 0 {
        say(format!(
            "{faults} runs were not sound: --again does them again"
        ));
    }
    match print(&summary(&results, screen)) {
        // Whoever read it has gone away: that says nothing about the sweep.
        Err(error) if !error.is_broken_pipe() => return Err(error),
        _ => {}
    }
    Ok(match () {
        () if conducted.signal.is_some() || faults > 0 => ExitStatus::Failed,
        () if !conducted.lacking.is_empty() => ExitStatus::Unsupported,
        () => ExitStatus::Sound,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::chain;
    use crate::experiment::Experiment;
    use crate::record::{Ending, RunRecord};
    use crate::test_record::test_record;

    const TEXT: &str = "repeat = 2\n[base]\nduration = '1s'\n[matrix]\nbatch = [1, 32]\n";

    struct Place {
        base: tempfile::TempDir,
    }

    impl Place {
        fn new(text: &str) -> Self {
            let base = tempfile::tempdir().expect("a directory");
            std::fs::write(base.path().join("x.toml"), text).expect("room");
            Self { base }
        }

        fn request(&self, shard: Option<&str>, again: bool) -> SweepRequest {
            SweepRequest::Run {
                file: self.base.path().join("x.toml"),
                out: Some(self.base.path().join("out")),
                shard: shard.map(str::to_owned),
                again,
                dry_run: false,
            }
        }

        /// How many runs it did, and how it ended; `end` says how run number N ends.
        fn sweep(
            &self,
            request: &SweepRequest,
            end: impl Fn(usize) -> Ending,
        ) -> (usize, ExitStatus) {
            let mut runs = 0;
            let mut run = |experiment: &Experiment, console: &Path| -> Result<RunRecord, Error> {
                std::fs::write(console, "hello\n").expect("room");
                let mut record = test_record();
                record.experiment = experiment.clone();
                record.outcome.ending = end(runs);
                runs += 1;
                Ok(record)
            };
            let status = sweep_command(request, &mut run).expect("results");
            (runs, status)
        }

        fn results(&self) -> SweepResults {
            SweepResults::read(&self.base.path().join("out")).expect("results")
        }
    }

    fn done(_: usize) -> Ending {
        Ending::Done
    }

    #[test]
    fn what_was_interrupted_goes_on_without_repeating_or_losing_a_run() {
        let place = Place::new(TEXT);
        let request = place.request(None, false);
        let interrupted = place.sweep(&request, |run| match run {
            1 => Ending::Interrupted { signal: 2 },
            _ => Ending::Done,
        });
        assert_eq!(interrupted, (2, ExitStatus::Failed));
        assert_eq!(place.results().counts(), (1, 0, 3));
        assert_eq!(place.sweep(&request, done), (3, ExitStatus::Sound));
        assert_eq!(place.results().counts(), (4, 0, 0));
        assert_eq!(
            place.sweep(&request, done),
            (0, ExitStatus::Sound),
            "all is done"
        );
    }

    #[test]
    fn runs_that_were_not_sound_stay_until_they_are_done_again() {
        let place = Place::new(TEXT);
        let one_fails = |run| {
            if run == 2 {
                Ending::Watchdog
            } else {
                Ending::Done
            }
        };
        assert_eq!(
            place.sweep(&place.request(None, false), one_fails),
            (4, ExitStatus::Failed)
        );
        assert_eq!(
            place.sweep(&place.request(None, false), done),
            (0, ExitStatus::Failed)
        );
        assert_eq!(place.results().counts(), (3, 1, 0));
        assert_eq!(
            place.sweep(&place.request(None, true), done),
            (1, ExitStatus::Sound)
        );
        assert_eq!(place.results().counts(), (4, 0, 0));
    }

    #[test]
    fn what_is_to_be_done_again_stays_until_there_is_something_better() {
        let place = Place::new(TEXT);
        let all_fail = |_| Ending::Watchdog;
        assert_eq!(place.sweep(&place.request(None, false), all_fail).0, 4);
        let interrupted = |run| match run {
            1 => Ending::Interrupted { signal: 15 },
            _ => Ending::Done,
        };
        assert_eq!(
            place.sweep(&place.request(None, true), interrupted),
            (2, ExitStatus::Failed)
        );
        assert_eq!(place.results().counts(), (1, 3, 0));
        assert_eq!(
            place.sweep(&place.request(None, true), done),
            (3, ExitStatus::Sound)
        );
        let runs = std::fs::read_dir(place.base.path().join("out/runs")).expect("runs");
        assert_eq!(runs.count(), 4, "nothing hidden is left");
    }

    #[test]
    fn a_cell_that_the_host_cannot_run_is_told_and_the_others_are_run() {
        let place = Place::new(TEXT);
        let mut run = |experiment: &Experiment, console: &Path| -> Result<RunRecord, Error> {
            if experiment.batch.get() == 32 {
                return Err(Error::Unsupported("one node".into()));
            }
            std::fs::write(console, "hello\n").expect("room");
            Ok(test_record())
        };
        let status = sweep_command(&place.request(None, false), &mut run).expect("results");
        assert_eq!(status, ExitStatus::Unsupported);
        assert_eq!(place.results().counts(), (2, 0, 2));
    }

    #[test]
    fn shards_do_each_run_once() {
        let place = Place::new(TEXT);
        for part in ["1/3", "3/3", "2/3"] {
            let (runs, _) = place.sweep(&place.request(Some(part), false), done);
            assert!((1..=2).contains(&runs), "{part}: {runs}");
        }
        assert_eq!(place.results().counts(), (4, 0, 0));
        let json = std::fs::read_to_string(place.base.path().join("out").join(SWEEP_JSON))
            .expect("results");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json["schema"], "underfoot.sweep/1");
        assert_eq!(json["complete"], true);
        assert_eq!(json["cells"][1]["settings"]["batch"], "32");
        assert!(json["cells"][1]["histograms"]["window"]["count"].as_u64() > Some(0));
    }

    #[test]
    fn wrong_usage_never_runs() {
        let place = Place::new("[matrix]\nbatch = [1, 513]\n");
        let mut never = |_: &Experiment, _: &Path| -> Result<RunRecord, Error> { panic!("it ran") };
        for (request, part) in [
            (place.request(None, false), "cell batch=513"),
            (place.request(Some("4/3"), false), "--shard"),
        ] {
            let error = sweep_command(&request, &mut never).expect_err(part);
            assert!(chain(&error).contains(part), "{}", chain(&error));
            assert_eq!(error.status(), ExitStatus::Usage);
            assert!(!place.base.path().join("out").exists());
        }
    }

    #[test]
    fn a_preview_runs_nothing() {
        let place = Place::new(TEXT);
        let limits = HostLimits::detect().expect("a host");
        let plan = Plan::new(
            SweepFile::read(&place.base.path().join("x.toml")).expect("a file"),
            &limits,
        )
        .expect("a plan");
        let out = place.base.path().join("out");
        let half = "1/2".parse().expect("a part");
        let text = preview(&plan, half, &limits, &out).expect("sound");
        assert!(
            text.contains(
                "2 runs of 2 cells, shard 1/2, 0 done before: 3.00 s at the least, into "
            ),
            "{text}"
        );
    }
}
