//! When the longest stalls were, and what each was made of.

use super::grid::Frame;
use super::markup::Markup;
use super::scale::{Scale, decade_label, decades};
use crate::human;
use crate::rundir::{StoredRun, StoredStall};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Stalls in the table.
const TOLD: usize = 20;
/// Dots in the picture, the longest stalls.
const DOTS: usize = 3_000;
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const FRAME: Frame = Frame {
    left: 60.0,
    right: WIDTH - 26.0,
    top: 10.0,
    bottom: HEIGHT - 38.0,
};
const CLASSES: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
/// Times that the axis names.
const TICKS: u32 = 8;

/// The section; `None` where no stall is told whole.
pub(super) fn outliers(run: &StoredRun) -> Option<Markup> {
    let mut stalls: Vec<&StoredStall> = run.longest_stalls.iter().collect();
    if stalls.is_empty() {
        return None;
    }
    stalls.sort_by_key(|stall| Reverse(stall.stall_ns));
    let colours = colours(&stalls);
    let mut section = Markup::new();
    section.raw("<section><h2>The longest stalls</h2><p class=\"quiet\">");
    section.text(format!(
        "Each dot is a stall, at its time and length, in the colour of what most of it was; the {} longest of control and \
         moving phase. The {} longest of all are ringed, and stand below.",
        stalls.len().min(DOTS), stalls.len().min(TOLD)
    ));
    section
        .raw("</p>")
        .push(&picture(&stalls, &colours))
        .push(&table(&stalls, &colours))
        .raw("</section>\n");
    Some(section)
}

/// A colour for each main cause, that of most stalls first.
fn colours<'a>(stalls: &[&'a StoredStall]) -> BTreeMap<&'a str, &'static str> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for stall in stalls {
        *counts.entry(stall.main_cause()).or_default() += 1;
    }
    let mut causes: Vec<_> = counts.into_iter().collect();
    causes.sort_by_key(|(_, count)| Reverse(*count));
    let colour =
        |(index, (cause, _)): (usize, (_, _))| (cause, CLASSES[index.min(CLASSES.len() - 1)]);
    causes.into_iter().enumerate().map(colour).collect()
}

fn picture(stalls: &[&StoredStall], colours: &BTreeMap<&str, &'static str>) -> Markup {
    let end = |stall: &&StoredStall| stall.start_ns.saturating_add(stall.stall_ns);
    let last = stalls.iter().map(end).max().unwrap_or(1).max(1);
    let shown = &stalls[..stalls.len().min(DOTS)];
    let least = shown.last().map_or(1, |stall| stall.stall_ns);
    let decades = decades(least, shown[0].stall_ns);
    let x = Scale {
        from: (0.0, last as f64),
        to: (FRAME.left, FRAME.right),
    };
    let y = Scale {
        from: (f64::from(decades.0), f64::from(decades.1)),
        to: (FRAME.bottom, FRAME.top),
    };
    let mut figure = Markup::new();
    figure.raw("<figure><figcaption><b>stalls in time</b><span class=\"keys\">");
    for (cause, class) in colours {
        figure
            .raw("<span class=\"key ")
            .raw(class)
            .raw("\">")
            .text(cause)
            .raw("</span> ");
    }
    figure
        .raw("</span></figcaption><div class=\"scroll\"><svg class=\"wide\" viewBox=\"0 0 ")
        .text(WIDTH)
        .raw(" ")
        .text(HEIGHT);
    figure.raw("\" role=\"img\" aria-label=\"stalls by time and length\">");
    grid(&mut figure, last, decades, x, y);
    moving_begins(&mut figure, stalls, x);
    for (index, stall) in shown.iter().enumerate().rev() {
        let place = (
            x.place(stall.start_ns as f64),
            y.place((stall.stall_ns.max(1) as f64).log10()),
        );
        dot(&mut figure, index, place, colours[stall.main_cause()]);
    }
    figure.raw("</svg></div></figure>\n");
    figure
}

fn dot(svg: &mut Markup, index: usize, (x, y): (f64, f64), class: &'static str) {
    svg.raw("<circle class=\"dot ").raw(class);
    if index < TOLD {
        svg.raw(" told\" id=\"dot").text(index + 1);
    }
    svg.raw("\" cx=\"").text(x).raw("\" cy=\"").text(y);
    svg.raw(if index < TOLD {
        "\" r=\"4\"/>"
    } else {
        "\" r=\"2\"/>"
    });
}

fn grid(svg: &mut Markup, last_ns: u64, decades: (u32, u32), x: Scale, y: Scale) {
    svg.raw("<g class=\"grid\">");
    for exponent in decades.0..=decades.1 {
        FRAME.level(
            svg,
            y.place(f64::from(exponent)),
            Some(decade_label(exponent)),
        );
    }
    for tick in 0..=TICKS {
        let ns = last_ns as f64 * f64::from(tick) / f64::from(TICKS);
        FRAME.column(svg, x.place(ns), Some(format!("{:.2} s", ns / 1e9)));
    }
    svg.raw("</g>");
}

/// Where the first stall of the moving phase is, a line.
fn moving_begins(svg: &mut Markup, stalls: &[&StoredStall], x: Scale) {
    let moving = stalls.iter().filter(|stall| stall.phase == "moving");
    let Some(first) = moving.map(|stall| stall.start_ns).min() else {
        return;
    };
    let at = x.place(first as f64);
    svg.raw("<g class=\"curve control\"><path d=\"M")
        .text(at)
        .raw(" ")
        .text(FRAME.top)
        .raw("V")
        .text(FRAME.bottom)
        .raw("\"/></g>");
    svg.raw("<g class=\"grid\"><text x=\"")
        .text(at + 4.0)
        .raw("\" y=\"")
        .text(FRAME.top + 11.0)
        .raw("\">pages begin to move</text></g>");
}

fn table(stalls: &[&StoredStall], colours: &BTreeMap<&str, &'static str>) -> Markup {
    let mut table = Markup::new();
    table.raw("<div class=\"scroll\"><table class=\"numbers\"><thead><tr><th>stall</th><th>at</th><th>phase</th><th>vCPU</th>");
    table.raw("<th>page</th><th>in</th><th>made of</th><th>in time</th></tr></thead><tbody>");
    for (index, stall) in stalls.iter().take(TOLD).enumerate() {
        table
            .raw("<tr><th><a href=\"#dot")
            .text(index + 1)
            .raw("\">")
            .text(human::time(stall.stall_ns))
            .raw("</a></th>");
        table.element("td", format!("{:.6} s", stall.start_ns as f64 / 1e9));
        table.element("td", &stall.phase).element("td", stall.vcpu);
        table.element("td", stall.kind.as_deref().unwrap_or("-"));
        table
            .element("td", circumstances(stall))
            .element("td", parts(stall));
        strip(&mut table, stall, colours);
        table.raw("</tr>");
    }
    table.raw("</tbody></table></div>");
    table
}

/// Its pieces from left to right. What is the main part of no stall has the last colour.
fn strip(table: &mut Markup, stall: &StoredStall, colours: &BTreeMap<&str, &'static str>) {
    table.raw("<td class=\"strip\"><div>");
    for (cause, _, ns) in stall.pieces() {
        let share = ns as f64 / stall.stall_ns.max(1) as f64;
        let class = colours
            .get(cause)
            .copied()
            .unwrap_or(CLASSES[CLASSES.len() - 1]);
        table
            .raw("<i class=\"")
            .raw(class)
            .raw("\" title=\"")
            .text(cause)
            .raw(" ")
            .text(human::time(ns));
        table
            .raw("\" style=\"width:")
            .text(format!("{:.2}", share.clamp(0.0, 1.0) * 100.0))
            .raw("%\"></i>");
    }
    table.raw("</div></td>");
}

/// What the code was doing that stalled.
fn circumstances(stall: &StoredStall) -> String {
    let words = [
        (stall.rcu_depth > 0, "read section"),
        (stall.locks > 0, "lock held"),
        (stall.masked, "masked"),
        (stall.in_interrupt, "interrupt"),
    ];
    let words: Vec<_> = words
        .iter()
        .filter(|(is, _)| *is)
        .map(|(_, word)| *word)
        .collect();
    if words.is_empty() {
        "-".to_owned()
    } else {
        words.join(", ")
    }
}

/// The greatest three parts.
fn parts(stall: &StoredStall) -> String {
    let mut causes: Vec<_> = stall.causes.iter().filter(|(_, ns)| **ns > 0).collect();
    causes.sort_by_key(|(_, ns)| Reverse(**ns));
    let whole = stall.stall_ns.max(1) as f64;
    let part =
        |(name, ns): &(&String, &u64)| format!("{} {name}", human::share(**ns as f64 / whole));
    causes
        .iter()
        .take(3)
        .map(part)
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;

    fn stall(start_ns: u64, stall_ns: u64, cause: &str) -> StoredStall {
        let json = serde_json::json!({
            "phase": if start_ns < 1_000 { "control" } else { "moving" }, "vcpu": 1, "start_ns": start_ns,
            "stall_ns": stall_ns, "gva": 4096, "kind": "<slab>", "rcu_depth": 1, "masked": true,
            "causes": {cause: stall_ns - 1, "unexplained": 1}, "pieces": [[cause, 0], ["unexplained", stall_ns - 1]],
        });
        serde_json::from_value(json).expect("a stall")
    }

    #[test]
    fn the_longest_are_told_and_linked_to_their_dots() {
        let mut run = stored();
        assert!(outliers(&run).is_none());
        run.longest_stalls = (1..=5_000)
            .map(|at| stall(at, at * 10, if at % 3 == 0 { "a&b" } else { "window" }))
            .collect();
        run.longest_stalls.push(stall(u64::MAX, u64::MAX, "window"));
        let page = outliers(&run).expect("a section").into_text();
        assert_eq!(page.matches("<circle").count(), DOTS);
        assert_eq!(
            (
                page.matches(" told\"").count(),
                page.matches("<a href=\"#dot").count()
            ),
            (TOLD, TOLD)
        );
        for part in [
            "&lt;slab&gt;",
            "a&amp;b",
            "read section, masked",
            "pages begin to move",
            "unexplained",
        ] {
            assert!(page.contains(part), "{part}");
        }
        assert_eq!(page.matches("<i class=\"s").count(), 2 * TOLD);
        assert!(!page.contains("NaN") && !page.contains("inf"));
        assert!(page.len() < 400_000, "{} bytes", page.len());
    }
}
