//! `underfoot claims`.

use super::answer::Claim;
use super::conduct::{Conductor, Runner, Stop};
use super::directory::ClaimsDir;
use super::experiments::plan;
use super::format::{self, Format};
use super::listing;
use super::plan::{Plan, PlannedRun};
use super::question::{Question, question};
use crate::atomic_file::WriteError;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::host_limits::HostLimits;
use crate::json_target::JsonTarget;
use crate::output::print;
use crate::signals;
use crate::units::Seed;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What `claims` was asked for.
#[derive(Clone, Debug, Default)]
pub struct ClaimsRequest {
    /// Which questions; none lists them all.
    pub ids: Vec<String>,
    /// Where the runs go; without it, to a new directory under `runs/`.
    pub out: Option<PathBuf>,
    /// Where the JSON goes as well; `-` is standard output.
    pub json: Option<PathBuf>,
    /// What is written to standard output.
    pub format: Format,
    /// The seed of every run.
    pub seed: Option<String>,
}

/// Lists the questions, or lets `run` do the runs of those asked for and says what they answer.
///
/// # Errors
/// [`Error`]; then nothing is left behind.
pub fn claims_command(request: &ClaimsRequest, run: Runner<'_>) -> Result<ExitStatus, Error> {
    if request.ids.is_empty() {
        return list(request);
    }
    let questions = questions(&request.ids)?;
    let seed = request.seed.as_deref().map(seed).transpose()?;
    let json = prepare(request)?;
    let _signals = signals::hold()?;
    let claims = answer(&questions, request.out.as_deref(), seed, run)?;
    tell(&claims, request.format, json)?;
    Ok(status(&claims))
}

fn list(request: &ClaimsRequest) -> Result<ExitStatus, Error> {
    if let Some(target) = prepare(request)? {
        let alone = target.is_stdout();
        target.commit(&listing::json())?;
        if alone {
            return Ok(ExitStatus::Sound);
        }
    }
    print(&match request.format {
        Format::Json => listing::json(),
        Format::Text => listing::text(),
        Format::Ktap => listing::ktap(),
    })?;
    Ok(ExitStatus::Sound)
}

fn prepare(request: &ClaimsRequest) -> Result<Option<JsonTarget>, Error> {
    request.json.as_deref().map(JsonTarget::prepare).transpose()
}

/// The questions called `ids`, each once.
fn questions(ids: &[String]) -> Result<Vec<&'static Question>, Error> {
    let mut questions: Vec<&'static Question> = Vec::new();
    for id in ids.iter().flat_map(|ids| ids.split(',')) {
        let asked = question(id)?;
        if !questions.contains(&asked) {
            questions.push(asked);
        }
    }
    Ok(questions)
}

fn seed(text: &str) -> Result<Seed, Error> {
    use crate::settings::{ExperimentError, Key, Origin};
    text.parse().map_err(|source| {
        Error::Experiment(ExperimentError::Value {
            origin: Origin::Flag(Key::Seed),
            source: Box::new(source),
        })
    })
}

fn answer(
    questions: &[&'static Question],
    out: Option<&Path>,
    seed: Option<Seed>,
    run: Runner<'_>,
) -> Result<Vec<Claim>, Error> {
    if questions.iter().all(|question| plan(question.id).is_none()) {
        let claims = questions.iter().copied().map(Claim::without_experiment);
        return Ok(claims.collect());
    }
    let limits = HostLimits::detect()?;
    let directory = ClaimsDir::begin(out, Path::new(""), SystemTime::now()).map_err(out_error)?;
    let mut conductor = Conductor {
        limits: &limits,
        seed,
        run,
        progress: &mut progress,
    };
    let mut claims = Vec::new();
    let mut interrupted = false;
    for question in questions.iter().copied() {
        let Some(plan) = plan(question.id) else {
            claims.push(Claim::without_experiment(question));
            continue;
        };
        let place = directory.question(question.id).map_err(out_error)?;
        let runs = if interrupted {
            Err(Stop::Interrupted)
        } else {
            conductor.conduct(plan, &place)
        };
        claims.push(match runs {
            Ok(runs) => Claim::of_runs(question, plan, &runs, place),
            Err(stop) => {
                interrupted |= matches!(stop, Stop::Interrupted);
                Claim::stopped(question, plan, stop, place)
            }
        });
    }
    if let Some(error) = lacking_for_all(&mut claims) {
        return Err(error);
    }
    directory
        .write_answers(&format::json(&claims))
        .map_err(out_error)?;
    Ok(claims)
}

/// What the host lacks, if that kept every experiment from being run.
fn lacking_for_all(claims: &mut [Claim]) -> Option<Error> {
    let mut planned = claims.iter().filter(|claim| claim.criterion.is_some());
    if planned.any(|claim| claim.lacking.is_none()) {
        return None;
    }
    claims.iter_mut().find_map(|claim| claim.lacking.take())
}

fn out_error(source: WriteError) -> Error {
    Error::Results {
        flag: "--out",
        source,
    }
}

/// Which run this is, on a terminal; how far it is says the run itself.
fn progress(plan: &Plan, run: &PlannedRun, index: usize) {
    if std::io::stderr().is_terminal() {
        eprintln!(
            "{} {}/{}: {}",
            plan.id,
            index + 1,
            plan.runs.len(),
            run.name
        );
    }
}

/// Tells people and programs; people on standard error where a program reads standard output.
fn tell(claims: &[Claim], format: Format, json: Option<JsonTarget>) -> Result<(), Error> {
    let text = match format {
        Format::Text => format::text(claims),
        Format::Json => format::json(claims),
        Format::Ktap => format::ktap(claims),
    };
    let taken = json.as_ref().is_some_and(JsonTarget::is_stdout);
    // Files first: the text goes to somebody who may have gone away.
    json.map(|json| json.commit(&format::json(claims)))
        .transpose()?;
    if !taken {
        return print(&text);
    }
    if format != Format::Json {
        eprint!("{text}");
    }
    Ok(())
}

fn status(claims: &[Claim]) -> ExitStatus {
    let mut invalid = claims.iter().filter(|claim| !claim.is_valid()).peekable();
    if invalid.peek().is_none() {
        ExitStatus::Sound
    } else if invalid.all(|claim| claim.lacking.is_some()) {
        ExitStatus::Unsupported
    } else {
        ExitStatus::Failed
    }
}

#[cfg(test)]
mod tests;
