//! What the stalled time was made of, as bars.

use super::markup::Markup;
use crate::human;
use crate::rundir::{StoredAttribution, StoredCauses, StoredPlacebo, UNEXPLAINED};

/// The section; in each part the unexplained share comes first, and the placebo stands below the causes.
pub(super) fn attribution_section(attribution: &StoredAttribution) -> Markup {
    let mut section = Markup::new();
    section.raw("<section><h2>What the stalls were made of</h2>");
    part(
        &mut section,
        "All stalls while pages moved",
        &attribution.moving,
        Some(attribution.placebo),
    );
    if let Some(tail) = &attribution.tail {
        let which = match tail.stalls {
            1 => "The longest one".to_owned(),
            stalls => format!("The {} longest, p99.9 and above", human::count(stalls)),
        };
        part(
            &mut section,
            &format!("{which}: {} or more", human::time(tail.from_ns)),
            &tail.causes,
            None,
        );
    }
    if let Some(control) = attribution
        .control
        .as_ref()
        .filter(|control| control.stalled_ns > 0)
    {
        part(
            &mut section,
            "Control, in which nothing moved",
            control,
            None,
        );
    }
    section.raw("<p class=\"quiet\">Each stall is cut into parts by what overlapped it. The placebo is what the windows of ");
    section.raw("the movers would explain if they had been at random times: what is not well above it is no ");
    section.raw("explanation.</p></section>\n");
    section
}

/// Bars of one sum; the placebo is tried for some (the outer), and known of some of these.
fn part(
    section: &mut Markup,
    title: &str,
    causes: &StoredCauses,
    placebo: Option<Option<StoredPlacebo>>,
) {
    section
        .raw("<h3>")
        .text(title)
        .raw(" <small>")
        .text(human::time(causes.stalled_ns))
        .raw("</small></h3>");
    section.raw("<div class=\"scroll\"><table class=\"bars\"><tbody>");
    for (cause, ns, share) in causes.shares() {
        let class = if cause == UNEXPLAINED {
            "unexplained"
        } else {
            "cause"
        };
        bar(section, cause, class, share, &human::time(ns));
    }
    match placebo {
        Some(Some(placebo)) => {
            if let Some(real) = placebo.real_share() {
                bar(section, "windows explain", "placebo real", real, "");
            }
            bar(section, "placebo explains", "placebo", placebo.share(), "");
        }
        Some(None) => {
            section.raw(
                "<tr class=\"placebo\"><th>placebo</th><td colspan=\"3\">not measured</td></tr>",
            );
        }
        None => {}
    }
    section.raw("</tbody></table></div>");
}

fn bar(table: &mut Markup, name: &str, class: &'static str, share: f64, time: &str) {
    table
        .raw("<tr class=\"")
        .raw(class)
        .raw("\">")
        .element("th", name);
    table
        .raw("<td class=\"bar\"><i style=\"width:")
        .text(format!("{:.2}", share.clamp(0.0, 1.0) * 100.0));
    table
        .raw("%\"></i></td><td>")
        .text(human::share(share))
        .raw("</td>")
        .element("td", time)
        .raw("</tr>");
}
