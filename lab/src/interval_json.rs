//! A line of JSON for each interval of a run, schema `underfoot.interval/1`.

use crate::histogram::Histogram;
use crate::run::IntervalRecord;
use serde::Serialize;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use underfoot_abi::RecordedPhase;

/// The schema of a line.
pub const INTERVAL_SCHEMA: &str = "underfoot.interval/1";

/// What happened in one interval.
#[derive(Debug, Serialize)]
struct IntervalJson {
    schema: &'static str,
    phase: &'static str,
    /// From the beginning of the phase, like the next.
    from_ns: u64,
    to_ns: u64,
    /// Operations of the workload.
    operations: u64,
    /// Pages that were moved.
    pages: u64,
    window: PercentilesJson,
    #[serde(rename = "guest.stall")]
    stall: PercentilesJson,
    #[serde(rename = "guest.access")]
    access: PercentilesJson,
}

/// Percentiles are upper edges of buckets, at most 1/32 wide; null where there is no value. So is the greatest.
#[derive(Debug, Serialize)]
struct PercentilesJson {
    unit: &'static str,
    count: u64,
    sum: u64,
    p50: Option<u64>,
    p99: Option<u64>,
    p99_9: Option<u64>,
    max: Option<u64>,
}

impl From<&Histogram> for PercentilesJson {
    fn from(histogram: &Histogram) -> Self {
        Self {
            unit: "ns",
            count: histogram.count(),
            sum: histogram.sum(),
            p50: histogram.percentile(5_000),
            p99: histogram.percentile(9_900),
            p99_9: histogram.percentile(9_990),
            max: histogram.max(),
        }
    }
}

/// Lines that wait for their reader at most; those that come then are dropped.
const WAITING: usize = 64;
/// How long the end of a run waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Lines on their way to standard output, in a thread of their own: whoever reads them slowly, or no more, does not hold up
/// the run.
#[derive(Debug)]
pub struct IntervalLines {
    sender: SyncSender<String>,
    thread: JoinHandle<()>,
    dropped: u64,
}

impl IntervalLines {
    /// Starts the thread, which hands each line to `print`.
    #[must_use]
    pub fn start(mut print: impl FnMut(&str) + Send + 'static) -> Self {
        let (sender, receiver) = sync_channel::<String>(WAITING);
        let thread = thread::spawn(move || receiver.iter().for_each(|line| print(&line)));
        Self {
            sender,
            thread,
            dropped: 0,
        }
    }

    /// Hands over the line about `record`, unless too many wait.
    pub fn tell(&mut self, record: &IntervalRecord) {
        self.dropped += u64::from(self.sender.try_send(line(record)).is_err());
    }

    /// Waits a little until all are out; how many never will be.
    #[must_use]
    pub fn finish(self) -> u64 {
        drop(self.sender);
        let deadline = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        self.dropped
    }
}

/// `record` in one line, with a line feed.
#[must_use]
pub fn line(record: &IntervalRecord) -> String {
    let json = IntervalJson {
        schema: INTERVAL_SCHEMA,
        phase: match record.phase {
            RecordedPhase::Control => "control",
            RecordedPhase::Moving => "moving",
        },
        from_ns: record.from_ns,
        to_ns: record.to_ns,
        operations: record.done.operations,
        pages: record.done.pages,
        window: (&record.done.window).into(),
        stall: (&record.done.stall).into(),
        access: (&record.done.access).into(),
    };
    serde_json::to_string(&json).expect("plain data has a JSON form") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Done;

    #[test]
    fn a_reader_that_stops_holds_nobody_up() {
        let record = IntervalRecord {
            phase: RecordedPhase::Control,
            from_ns: 0,
            to_ns: 1,
            done: Done::default(),
        };
        let (read, reader) = std::sync::mpsc::channel();
        let mut lines = IntervalLines::start(move |line| drop(read.send(line.to_owned())));
        (0..3).for_each(|_| lines.tell(&record));
        assert_eq!(lines.finish(), 0);
        assert_eq!(reader.iter().count(), 3);
        let (_open, gate) = std::sync::mpsc::channel::<()>();
        let mut lines = IntervalLines::start(move |_| {
            // It never comes: nobody sends.
            let _ = gate.recv();
        });
        (0..WAITING + 10).for_each(|_| lines.tell(&record));
        assert!((9..=10).contains(&lines.finish()));
    }

    #[test]
    fn a_line_is_json_with_units() {
        let mut done = Done {
            operations: 3,
            pages: 7,
            ..Done::default()
        };
        done.window.record(1_000);
        let line = line(&IntervalRecord {
            phase: RecordedPhase::Moving,
            from_ns: 5,
            to_ns: 10,
            done,
        });
        assert_eq!(line.matches('\n').count(), 1);
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(json["schema"], INTERVAL_SCHEMA);
        assert_eq!(
            (&json["phase"], &json["pages"]),
            (&"moving".into(), &7.into())
        );
        assert_eq!(json["window"]["max"], 1_000);
        assert_eq!(json["guest.stall"]["p99"], serde_json::Value::Null);
    }
}
