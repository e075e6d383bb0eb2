//! The command `underfoot`: reads the command line, does what the library says, and tells the exit
//! status.

mod cli;

use clap::{CommandFactory, Parser};
use cli::{Cli, Verb};
use std::path::Path;
use std::process::ExitCode;
use underfoot::claims::command::claims_command;
use underfoot::command::run_command;
use underfoot::compare::compare_command;
use underfoot::error::{Error, chain};
use underfoot::exit::ExitStatus;
use underfoot::interval_json::IntervalLines;
use underfoot::list::Choices;
use underfoot::on_kvm::run_on_kvm;
use underfoot::output::print;
use underfoot::progress::Progress;
use underfoot::report::report_command;
use underfoot::run::{Interval, IntervalRecord, ProcessStart};
use underfoot::sweep::sweep_command;
use underfoot::torture::torture_command;
use underfoot::{doctor, guest, tool};

fn main() -> ExitCode {
    let process_start = ProcessStart::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    match execute(cli.verb, process_start) {
        Ok(status) => status.into(),
        Err(error) if error.is_broken_pipe() => ExitStatus::Sound.into(),
        Err(error) => {
            eprintln!("{}: {}", tool::NAME, chain(&error));
            error.status().into()
        }
    }
}

/// Help and versions are no errors; whatever else clap says is wrong usage.
fn usage(error: &clap::Error) -> ExitCode {
    let text = error.render();
    if !error.use_stderr() {
        // Nobody is left to tell where this fails.
        let _ = print(&text.to_string());
        return ExitStatus::Sound.into();
    }
    eprint!("{text}");
    if !text.to_string().contains("Usage:") {
        eprintln!("\n{}", Cli::command().render_usage());
    }
    ExitStatus::Usage.into()
}

fn execute(verb: Verb, process_start: ProcessStart) -> Result<ExitStatus, Error> {
    match verb {
        Verb::Run(args) => {
            let shown = args.shows_console();
            let request = args.into_request();
            let every = request.interval()?;
            run_command(request, |experiment, console| {
                let progress = Progress::new();
                let mut lines =
                    every.map(|every| (every, IntervalLines::start(|line| drop(print(line)))));
                let mut tell;
                let interval = match &mut lines {
                    None => None,
                    Some((every, lines)) => {
                        tell = |record: &IntervalRecord| lines.tell(record);
                        let every = *every;
                        Some(Interval {
                            every,
                            told: &mut tell,
                        })
                    }
                };
                let mut update = |stage, ns| progress.update(experiment, stage, ns);
                let record = run_on_kvm(
                    experiment,
                    console,
                    shown,
                    process_start,
                    &mut update,
                    interval,
                );
                match lines.map_or(0, |(_, lines)| lines.finish()) {
                    0 => {}
                    dropped => eprintln!(
                        "{}: {dropped} lines of --interval were dropped, as nobody read those before them",
                        tool::NAME
                    ),
                }
                record
            })
        }
        Verb::Claims(args) => claims_command(&args.into_request(), &mut |experiment, console| {
            // Of the process's start only the first run would know anything.
            let (progress, start) = (Progress::new(), ProcessStart::of_later_run());
            let mut told = |stage, ns| progress.update(experiment, stage, ns);
            run_on_kvm(experiment, console, false, start, &mut told, None)
        }),
        Verb::Torture(args) => torture_command(&args.into_request(), &mut |experiment, console| {
            let start = ProcessStart::of_later_run();
            run_on_kvm(experiment, console, false, start, &mut |_, _| (), None)
        }),
        Verb::Sweep(args) => sweep_command(&args.into_request(), &mut |experiment, console| {
            let start = ProcessStart::of_later_run();
            run_on_kvm(experiment, console, false, start, &mut |_, _| (), None)
        }),
        Verb::Compare(args) => compare_command(&args.into_request()),
        Verb::Report(args) => report_command(&args.into_request()),
        Verb::Doctor { json } => {
            let diagnosis = doctor::diagnose(Path::new("/"));
            print(&if json {
                diagnosis.to_json()
            } else {
                diagnosis.to_text()
            })?;
            Ok(if diagnosis.ready {
                ExitStatus::Sound
            } else {
                ExitStatus::Unsupported
            })
        }
        Verb::List { json } => {
            let choices = Choices::all();
            let text = if json {
                choices.to_json()
            } else {
                choices.to_text()
            };
            print(&text).map(|()| ExitStatus::Sound)
        }
        Verb::Guest { export } => guest::export(&export).map(|()| ExitStatus::Sound),
    }
}
