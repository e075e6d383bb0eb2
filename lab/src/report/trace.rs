//! The longest stalls as a trace that Perfetto and `chrome://tracing` open: a track for each vCPU, in it each stall, and under
//! it the pieces that it was made of.
//!
//! Source: "Trace Event Format" (the format of `chrome://tracing`), complete events and metadata.

use crate::rundir::{StoredRun, StoredStall};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// By which a trace is known to be ours: see [`super::target`].
pub(super) const MARKER: &str = "underfoot report, stalls";

/// All of `runs`, each a process of its own.
#[must_use]
pub fn trace(runs: &[StoredRun]) -> String {
    let events: Vec<Value> = (1..)
        .zip(runs)
        .flat_map(|(process, run)| events(process, run))
        .collect();
    let trace =
        json!({"traceEvents": events, "displayTimeUnit": "ns", "otherData": {"by": MARKER}});
    serde_json::to_string(&trace).expect("plain data") + "\n"
}

fn events(process: u64, run: &StoredRun) -> Vec<Value> {
    let mut events = vec![json!({
        "name": "process_name", "ph": "M", "pid": process,
        "args": {"name": format!("{}: {}", run.name(), run.host.kind)},
    })];
    let vcpus: BTreeSet<u32> = run.longest_stalls.iter().map(|stall| stall.vcpu).collect();
    events.extend(vcpus.into_iter().map(|vcpu| {
        json!({
            "name": "thread_name", "ph": "M", "pid": process, "tid": track(vcpu),
            "args": {"name": format!("vCPU {vcpu}")},
        })
    }));
    events.extend(
        run.longest_stalls
            .iter()
            .flat_map(|stall| stall_events(process, stall)),
    );
    events
}

/// Track 0 is nobody's.
fn track(vcpu: u32) -> u64 {
    u64::from(vcpu) + 1
}

/// Times are microseconds there, with fractions.
fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}

fn stall_events(process: u64, stall: &StoredStall) -> Vec<Value> {
    let event = |name: String, start_ns: u64, ns: u64, args: Value| {
        json!({
            "name": name, "cat": stall.phase, "ph": "X", "pid": process, "tid": track(stall.vcpu),
            "ts": us(start_ns), "dur": us(ns), "args": args,
        })
    };
    let name = format!("stall, {}", stall.kind.as_deref().unwrap_or("no page"));
    let args = json!({
        "gva": format!("{:#x}", stall.gva), "rcu_depth": stall.rcu_depth, "locks": stall.locks,
        "masked": stall.masked, "in_interrupt": stall.in_interrupt, "causes_ns": stall.causes,
    });
    let mut events = vec![event(name, stall.start_ns, stall.stall_ns, args)];
    let pieces = stall.pieces().map(|(cause, from_ns, ns)| {
        event(
            cause.to_owned(),
            stall.start_ns.saturating_add(from_ns),
            ns,
            json!({}),
        )
    });
    events.extend(pieces);
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::verdict::tests::stored;

    #[test]
    fn pieces_lie_in_their_stall() {
        let mut run = stored();
        let line = r#"{"phase":"moving","vcpu":1,"start_ns":5000,"stall_ns":9000,"gva":4096,"kind":"slab",
            "causes":{"window":6000,"unexplained":3000},"pieces":[["unexplained",0],["window",3000]]}"#;
        run.longest_stalls = vec![serde_json::from_str(line).expect("a stall")];
        let json: Value = serde_json::from_str(&trace(&[run])).expect("JSON");
        let events = json["traceEvents"].as_array().expect("events");
        let slices: Vec<_> = events
            .iter()
            .filter(|event| event["ph"] == "X")
            .map(|event| {
                (
                    event["name"].as_str().expect("a name"),
                    event["ts"].as_f64(),
                    event["dur"].as_f64(),
                )
            })
            .collect();
        assert_eq!(
            slices,
            [
                ("stall, slab", Some(5.0), Some(9.0)),
                ("unexplained", Some(5.0), Some(3.0)),
                ("window", Some(8.0), Some(6.0))
            ]
        );
        assert!(events.iter().any(|event| event["args"]["name"] == "vCPU 1"));
    }
}
