//! What the broken forms of invalidation need to do anything wrong.

use crate::experiment::Experiment;
use crate::names::{Named, Variant};
use crate::settings::ExperimentError;
use underfoot_abi::{DMA_RENEW, DMA_RENEW_BUSY, DMA_TRACKING, WorkloadId};
use underfoot_migrator::BackendKind;

/// The number of `tracking=space`: there is no counter of a registration's to go wrong.
const BY_SPACE: u64 = 2;

/// Refuses broken forms of invalidation where nothing could be caught.
///
/// # Errors
/// [`ExperimentError`] with the reason and the remedy.
pub fn check(experiment: &Experiment) -> Result<(), ExperimentError> {
    let variant = experiment.variant;
    let unmatched = matches!(
        variant,
        Variant::InvalidateUnmatched | Variant::InvalidateClamp
    );
    if !unmatched && variant != Variant::InvalidateNoSequence {
        return Ok(());
    }
    let refuse = |what: &str, reason| {
        Err(ExperimentError::Unsound {
            combination: format!("variant {}, {what}", variant.name()),
            reason,
        })
    };
    if experiment.workload != WorkloadId::Dma {
        let workload = experiment.workload.name();
        return refuse(
            &format!("workload {workload}"),
            "nobody keeps translations of its own there, so that nothing could be caught: choose the \
             workload dma",
        );
    }
    if experiment.backend != BackendKind::Remap {
        let backend = experiment.backend.name();
        return refuse(
            &format!("backend {backend}"),
            "the device's translations lead through the VMM's own mapping, where they never go stale: \
             choose --backend remap --strategy protect-copy",
        );
    }
    let told = experiment.parameters.values();
    let idle: &[(&str, usize, u64)] = &[
        ("renew", DMA_RENEW, 0),
        ("tracking", DMA_TRACKING, BY_SPACE),
    ];
    let idle = idle
        .iter()
        .filter(|(_, index, _)| *index != DMA_RENEW || told[DMA_RENEW_BUSY] == 0)
        .find(|(_, index, value)| unmatched && told[*index] == *value);
    if let Some((parameter, _, ruled_out)) = idle {
        let (value, remedy) = experiment
            .parameters
            .shown_with_others(parameter, &[*ruled_out]);
        return Err(ExperimentError::Idle {
            variant: variant.name(),
            workload: experiment.workload.name(),
            parameter,
            value,
            remedy,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::experiment::Experiment;
    use crate::host_limits::HostLimits;
    use crate::settings::{Key, Settings};
    use crate::units::Size;

    #[test]
    fn broken_forms_are_refused_where_they_are_idle() {
        let limits = HostLimits {
            cpus: "0-1".parse().expect("a list"),
            memory: Size::from_mib(2048),
        };
        let remap = [(Key::Backend, "remap"), (Key::Strategy, "protect-copy")];
        let dma = (Key::Workload, "dma");
        let unmatched = (Key::Variant, "busted-invalidate-unmatched");
        let no_sequence = (Key::Variant, "busted-invalidate-no-sequence");
        let told = |text| (Key::Parameters, text);
        type Row<'a> = (&'a [(Key, &'a str)], Option<&'a str>);
        let rows: [Row<'_>; 8] = [
            (&[dma, remap[0], remap[1], unmatched], None),
            (&[dma, remap[0], remap[1], no_sequence], None),
            (
                &[remap[0], remap[1], unmatched],
                Some("choose the workload dma"),
            ),
            (&[dma, unmatched], Some("--backend remap")),
            (&[dma, no_sequence], Some("--backend remap")),
            (
                &[dma, remap[0], remap[1], unmatched, told("renew=0")],
                Some("renew=1 or more"),
            ),
            (
                &[dma, remap[0], remap[1], unmatched, told("tracking=space")],
                Some("tracking=pool or stack"),
            ),
            (
                &[
                    dma,
                    remap[0],
                    remap[1],
                    no_sequence,
                    told("tracking=space,renew=0"),
                ],
                None,
            ),
        ];
        for (flags, refused) in rows {
            let mut settings = Settings::default();
            flags
                .iter()
                .for_each(|(key, value)| settings.set_flag(*key, *value));
            let said = Experiment::resolve(&settings, &limits);
            let said = said.err().map(|error| error.to_string());
            match (said, refused) {
                (None, None) => {}
                (Some(said), Some(part)) => assert!(said.contains(part), "{said}"),
                (said, _) => panic!("{flags:?}: {said:?}"),
            }
        }
    }
}
