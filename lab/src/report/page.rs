//! The page about a run: one file that needs nothing else.

use super::attribution::attribution_section;
use super::facts::setup;
use super::markup::Markup;
use super::outliers::outliers;
use super::section::{absences, curves, kinds, latencies, setup_section, summary, window_phases};
use super::several::several;
use crate::rundir::StoredRun;
use crate::tool;

/// By which a page is known to be one: see [`super::target`].
pub(super) const MARKER: &str = "<meta name=\"generator\" content=\"underfoot report\">";

/// The page about `runs`: all of one, or several laid over each other.
#[must_use]
pub fn page(runs: &[StoredRun]) -> String {
    match runs {
        [run] => whole(&run.name(), &one(run)),
        runs => whole(&format!("{} runs", runs.len()), &several(runs)),
    }
}

pub(super) fn whole(title: &str, body: &Markup) -> String {
    let mut page = Markup::new();
    page.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
        .raw(MARKER);
    page.raw("\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    page.raw("<meta name=\"color-scheme\" content=\"light dark\">\n<title>underfoot: ")
        .text(title)
        .raw("</title>\n<style>\n");
    page.raw(include_str!("style.css"))
        .raw("</style>\n</head>\n<body>\n<main>\n");
    page.push(body).raw("<footer>").text(format!(
        "Written by {} report {}.",
        tool::NAME,
        tool::VERSION
    ));
    page.raw(" Percentiles are upper edges of buckets that are at most 1/32 wide, capped by the exact maximum.</footer>\n");
    page.raw("</main>\n</body>\n</html>\n");
    page.into_text()
}

fn one(run: &StoredRun) -> Markup {
    let mut body = Markup::new();
    body.raw("<header><p class=\"kind\">")
        .text(&run.host.kind)
        .raw("</p>")
        .element("h1", run.name());
    body.raw("<p>").text(setup(run)).raw("</p></header>\n");
    body.push(&summary(run));
    if let Some(attribution) = &run.attribution {
        body.push(&attribution_section(attribution));
    }
    body.push(&outliers(run).unwrap_or_default());
    body.push(&curves(run)).push(&latencies(run));
    for section in [window_phases(run), kinds(run), absences(run)]
        .into_iter()
        .flatten()
    {
        body.push(&section);
    }
    body.push(&setup_section(run));
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;
    use crate::rundir::{StoredAttribution, StoredCauses, StoredPlacebo, StoredTail};

    /// Text that would be markup, in every place that comes from a file.
    const HOSTILE: &str = "<script>alert(\"x\")</script>'&";

    fn hostile() -> StoredRun {
        let mut run = stored();
        let host = &mut run.host;
        for text in [
            &mut host.kind,
            &mut host.cpu,
            &mut host.kernel,
            &mut host.stage2,
            &mut host.kvm_module,
        ] {
            *text = HOSTILE.into();
        }
        run.host.unsupported.insert(HOSTILE.into(), HOSTILE.into());
        run.migration.refused.insert(HOSTILE.into(), HOSTILE.into());
        let counts = run.migration.counts;
        run.migration.by_kind.insert(HOSTILE.into(), counts);
        run.config.insert(HOSTILE.into(), HOSTILE.into());
        run.config.insert("workload".into(), HOSTILE.into());
        run.outcome.complete = false;
        run.outcome.message = Some(HOSTILE.into());
        run.integrity.details = vec![HOSTILE.into()];
        run.tool.commit = Some(HOSTILE.into());
        run.experiment = Some(HOSTILE.into());
        let histogram = run.moving["window"].clone();
        run.moving.insert(format!("window.{HOSTILE}"), histogram);
        let causes = [(HOSTILE.to_owned(), 60), ("unexplained".to_owned(), 40)];
        let moving = StoredCauses {
            stalled_ns: 100,
            causes: causes.into(),
        };
        run.attribution = Some(StoredAttribution {
            tail: Some(StoredTail {
                from_ns: 5_000,
                stalls: 3,
                causes: moving.clone(),
            }),
            control: Some(moving.clone()),
            placebo: Some(StoredPlacebo::Beside {
                share: 0.07,
                real_share: Some(0.6),
            }),
            moving,
        });
        run
    }

    #[test]
    fn nothing_from_files_is_markup() {
        for runs in [vec![hostile()], vec![hostile(), stored()]] {
            let page = page(&runs);
            assert!(!page.contains("<script"), "{page}");
            assert!(
                page.contains("&lt;script&gt;alert(&quot;x&quot;)"),
                "{page}"
            );
        }
    }

    #[test]
    fn a_page_stands_alone_and_is_small() {
        let run = stored();
        let runs: Vec<_> = (0..20).map(|_| run.clone()).collect();
        for count in [1, 2, 20] {
            let page = page(&runs[..count]);
            for part in ["http:", "https:", "<script", "@import", "url(", " src="] {
                assert!(!page.contains(part), "{part} in the page of {count} runs");
            }
            assert!(page.contains(MARKER) && page.contains("prefers-color-scheme: dark"));
            assert!(page.len() < 200_000 * count, "{} bytes", page.len());
        }
    }

    #[test]
    fn a_page_says_what_its_reader_needs() {
        let page = page(&[hostile()]);
        for part in [
            "not of a sound run",
            "What the stalls were made of",
            "40.0 %",
            "placebo explains",
            "The 3 longest",
            "Control, in which",
            "7.0 %",
            "All latencies",
            "control",
            "Percentile curves",
            "Window phases",
            "Pages by kind",
            "Absent",
            "Run it again",
            "experiment.toml",
        ] {
            assert!(page.contains(part), "{part}");
        }
        let unexplained = page.find("unexplained</th>").expect("first");
        assert!(
            unexplained
                < page
                    .find("alert(&quot;x&quot;)&lt;/script&gt;&#39;&amp;</th><td class=\"bar\"")
                    .expect("then")
        );
        let mut plain = stored();
        plain.attribution = None;
        let plain = super::page(&[plain]);
        assert!(
            !plain.contains("What the stalls were made of")
                && !plain.contains("not of a sound run")
        );
    }
}
