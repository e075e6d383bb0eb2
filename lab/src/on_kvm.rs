//! An experiment on this machine's KVM: the image, the console and what a refusal means.

use crate::atomic_file::WriteError;
use crate::doctor;
use crate::error::Error;
use crate::experiment::Experiment;
use crate::image::GUEST_IMAGE;
use crate::record::RunRecord;
use crate::run::{self, Interval, ProcessStart, RunError, Setting, Stage};
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use underfoot_vmm::{Console, MachineError};

/// Runs `experiment`, the guest's console going to the new file `console`, and if it is to be shown
/// to standard error as well. `progress` is told how far the run is, `interval` what it does.
///
/// # Errors
/// [`Error`] where there was no run: the host lacks something, the image is none.
pub fn run_on_kvm(
    experiment: &Experiment,
    console: &Path,
    shown: bool,
    process_start: ProcessStart,
    progress: &mut dyn FnMut(Stage, u64),
    interval: Option<Interval<'_>>,
) -> Result<RunRecord, Error> {
    doctor::preflight(Path::new("/")).map_err(|lacking| Error::Unsupported(Box::new(lacking)))?;
    let image = image(experiment)?;
    let console = File::create_new(console).map_err(|source| Error::Results {
        flag: "--out",
        source: WriteError::new(console, source),
    })?;
    let setting = Setting {
        image: &image,
        console: if shown {
            Console::writer(Tee(console))
        } else {
            Console::writer(console)
        },
        process_start,
        progress,
        interval: interval.map(|Interval { every, told }| Interval { every, told }),
    };
    run::run(experiment, setting).map_err(|error| refused(experiment, error))
}

/// Writes to a file and to standard error.
struct Tee(File);

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The file counts: standard error may have gone away.
        let _ = io::stderr().write_all(bytes);
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn image(experiment: &Experiment) -> Result<Cow<'static, [u8]>, Error> {
    let Some(path) = &experiment.kernel else {
        return Ok(Cow::Borrowed(GUEST_IMAGE));
    };
    std::fs::read(path)
        .map(Cow::Owned)
        .map_err(|source| Error::Kernel {
            path: path.clone(),
            source: Box::new(source),
        })
}

fn refused(experiment: &Experiment, error: RunError) -> Error {
    match (error, &experiment.kernel) {
        (RunError::Machine(MachineError::Boot(source)), Some(path)) => Error::Kernel {
            path: path.clone(),
            source: Box::new(source),
        },
        (error, _) if error.is_host_lack() => Error::Unsupported(Box::new(error)),
        (error, _) => Error::Run(Box::new(error)),
    }
}
