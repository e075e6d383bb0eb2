//! Histograms as an HdrHistogram interval log (V2), tagged with phase and name.

use crate::record::{Histograms, RunRecord};
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriter, IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};
use std::time::Duration;

/// Times are kept in ns and the log's maxima shown in ms, as HdrHistogram's own tools do.
const NS_PER_MS: f64 = 1e6;

/// The log of `record`: one interval per phase and histogram, tags `control:NAME` and
/// `moving:NAME`.
#[must_use]
pub fn interval_log(record: &RunRecord) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let control = Duration::from_nanos(record.control_ns);
    let moving = Duration::from_nanos(record.migration.moving_ns);
    {
        // Into memory, and from valid histograms: neither the writer nor the serialiser fails.
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("underfoot: values in ns, tags PHASE:HISTOGRAM")
            .with_start_time(record.started)
            .with_base_time(record.started)
            .with_max_value_divisor(NS_PER_MS)
            .begin_log_with(&mut text, &mut serializer)
            .expect("memory takes everything");
        write_phase(
            &mut log,
            "control",
            &record.control,
            Duration::ZERO,
            control,
        )
        .expect("memory takes everything");
        write_phase(&mut log, "moving", &record.moving, control, moving)
            .expect("memory takes everything");
    }
    text
}

type LogError = IntervalLogWriterError<hdrhistogram::serialization::V2DeflateSerializeError>;

fn write_phase(
    log: &mut IntervalLogWriter<'_, '_, Vec<u8>, V2DeflateSerializer>,
    phase: &str,
    histograms: &Histograms,
    start: Duration,
    length: Duration,
) -> Result<(), LogError> {
    for (name, histogram) in histograms {
        let tag = format!("{phase}:{name}");
        // Tags hold no comma, blank or line feed; neither do the names of histograms.
        let tag = Tag::new(&tag).expect("a plain name");
        log.write_histogram(&histogram.to_hdr(), start, length, Some(tag))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_record::test_record;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use std::sync::atomic::AtomicU64;

    #[test]
    fn reads_back_with_the_same_counts() {
        let record = test_record();
        let log = interval_log(&record);
        let mut seen = 0;
        for entry in IntervalLogIterator::new(&log) {
            let Ok(LogEntry::Interval(interval)) = entry else {
                continue;
            };
            let tag = interval.tag().expect("a tag");
            let (phase, name) = tag.as_str().split_once(':').expect("two parts");
            let histograms = match phase {
                "control" => &record.control,
                "moving" => &record.moving,
                other => panic!("unknown phase {other}"),
            };
            let bytes = base64_decode(interval.encoded_histogram());
            let hdr: hdrhistogram::Histogram<u64> = Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .expect("a histogram");
            let histogram = &histograms[name];
            assert_eq!(hdr.len(), histogram.count(), "{name}");
            let median = histogram.percentile(5_000).expect("not empty");
            assert!(
                hdr.value_at_quantile(0.5).abs_diff(median) <= median / 500,
                "{name}"
            );
            seen += 1;
        }
        assert_eq!(seen, record.control.len() + record.moving.len());
    }

    #[test]
    fn what_a_guest_gone_wrong_left_is_written_too() {
        let most = || AtomicU64::new(u64::MAX);
        let left = underfoot_abi::Histogram {
            count: most(),
            sum: most(),
            min_plus_one: most(),
            max: most(),
            overflow: most(),
            buckets: std::array::from_fn(|_| most()),
        };
        let mut record = test_record();
        for histogram in record.moving.values_mut() {
            histogram.add_guest(&left);
        }
        assert!(!interval_log(&record).is_empty());
    }

    /// Standard base64 with padding (RFC 4648), enough for a test.
    fn base64_decode(text: &str) -> Vec<u8> {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bytes = Vec::new();
        let (mut bits, mut held) = (0u32, 0);
        for letter in text.bytes().filter(|letter| *letter != b'=') {
            let value = LETTERS.iter().position(|l| *l == letter).expect("base64");
            bits = (bits << 6 | value as u32) & 0xffff;
            held += 6;
            if held >= 8 {
                held -= 8;
                bytes.push((bits >> held) as u8);
            }
        }
        bytes
    }
}
