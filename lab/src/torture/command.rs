//! `underfoot torture`.

use super::format;
use super::json::TortureJson;
use super::visit::Common;
use super::walk::{Ended, Walk, Walked};
use crate::claims::conduct::Runner;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::experiment::Experiment;
use crate::host_limits::HostLimits;
use crate::json_target::JsonTarget;
use crate::names::{Mover, Named, Variant};
use crate::output::print;
use crate::progress::Progress;
use crate::settings::{ExperimentError, Key, Settings};
use crate::signals;
use crate::tool;
use crate::units::Span;
use std::path::PathBuf;
use std::time::Duration;

/// How long a walk takes by default.
const DURATION: &str = "60s";

/// What `torture` was asked for.
#[derive(Clone, Debug, Default)]
pub struct TortureRequest {
    /// Of these `--duration`, `--seed`, `--cpus`, `--memory` and `--variant`.
    pub settings: Settings,
    /// Where the results of a visit that failed go.
    pub out: Option<PathBuf>,
    /// Where the JSON goes as well; `-` is standard output.
    pub json: Option<PathBuf>,
}

/// Walks the table, lets `run` do the visits, and says what came of them.
///
/// # Errors
/// [`Error`]; then nothing is left behind.
pub fn torture_command(request: &TortureRequest, run: Runner<'_>) -> Result<ExitStatus, Error> {
    let limits = HostLimits::detect()?;
    let (common, duration) = understand(&request.settings, &limits)?;
    let json = request.json.as_deref();
    let json = json.map(JsonTarget::prepare).transpose()?;
    let _signals = signals::hold()?;
    let progress = Progress::new();
    let mut walk = Walk {
        common,
        duration,
        limits: &limits,
        out: request.out.as_deref(),
        progress: &mut |elapsed: Duration| {
            let elapsed = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
            progress.show("torture", duration, elapsed);
        },
    };
    let walked = walk.walk(run)?;
    drop(progress);
    let status = status(&walked, common.variant);
    match tell(&common, duration, &walked, status, json) {
        // Whoever read it has gone away: that says nothing about the walk.
        Err(error) if !error.is_broken_pipe() => Err(error),
        _ => Ok(status),
    }
}

/// What is asked for, understood as `run` understands it.
fn understand(settings: &Settings, limits: &HostLimits) -> Result<(Common, Span), Error> {
    let mut settings = settings.clone();
    if settings.text(Key::Duration).is_none() {
        settings.set_flag(Key::Duration, DURATION);
    }
    // A variant says which strategies it makes wrong; the walk takes those.
    let variant = settings.remove(Key::Variant);
    let experiment = Experiment::resolve(&settings, limits)?;
    let variant = variant.map_or(Ok(Variant::None), |(text, origin)| {
        crate::names::parse_name::<Variant>(&text).map_err(|source| ExperimentError::Value {
            origin,
            source: Box::new(source),
        })
    })?;
    if variant != Variant::None && variant.mover() != Some(Mover::Host) {
        return Err(Error::Experiment(ExperimentError::Unsound {
            combination: format!("torture, variant {}", variant.name()),
            reason: "torture walks through the ways of the host's engine, which this variant leaves as \
                     they are: choose a variant of the engine, or use `underfoot run`",
        }));
    }
    let common = Common {
        seed: experiment.seed,
        cpus: experiment.cpus,
        memory: experiment.memory,
        variant,
    };
    Ok((common, experiment.duration))
}

/// What is wrong with a walk in which no visit failed.
pub(super) fn shortcoming(walked: &Walked, variant: Variant) -> Option<String> {
    if walked.ended != Ended::Done {
        return None;
    }
    let without = walked.tally.without_hits().count();
    let cells = walked.tally.cells.len();
    if without > 0 {
        // Where each was visited, once was not enough for some.
        let visited = walked.tally.cells.iter().all(|(_, sums)| sums.visits > 0);
        let more = if visited {
            walked.took * 2
        } else {
            Duration::ZERO
        };
        let seconds = walked.enough.max(more).as_secs() + 1;
        return Some(format!(
            "{without} of {cells} cells without hits: give it --duration {seconds}s or more"
        ));
    }
    (variant != Variant::None).then(|| {
        let name = variant.name();
        format!("{name} was not caught: nothing was found wrong; give it longer")
    })
}

fn status(walked: &Walked, variant: Variant) -> ExitStatus {
    match &walked.ended {
        Ended::Failed(failure) => failure.status,
        Ended::Interrupted { .. } => ExitStatus::Failed,
        Ended::Done if shortcoming(walked, variant).is_some() => ExitStatus::Failed,
        Ended::Done => ExitStatus::Sound,
    }
}

/// Tells people and programs; people on standard error where a program reads standard output.
fn tell(
    common: &Common,
    duration: Span,
    walked: &Walked,
    status: ExitStatus,
    json: Option<JsonTarget>,
) -> Result<(), Error> {
    let text = format::text(common, walked);
    let taken = json.as_ref().is_some_and(JsonTarget::is_stdout);
    // Files first: the text goes to somebody who may have gone away.
    let document = TortureJson::new(common, duration, walked, status).to_text();
    let committed = json.map(|json| json.commit(&document)).transpose();
    if let Ended::Failed(failure) = &walked.ended {
        eprintln!("{}: {}", tool::NAME, failure.message);
    }
    let printed = if taken {
        eprint!("{text}");
        Ok(())
    } else {
        print(&text)
    };
    committed?;
    printed
}
