//! `--frames`: the pool that movers and the fault path take frames from.

use crate::units::{Batch, Size, ValueError};
use underfoot_migrator::{DEFAULT_LIMBO, Fallback, FrameOptions, Placement};

const EXPECTED: &str = "a number of frames of 4KiB, or their size, with watermarks or without";
const EXAMPLE: &str = "1024,reserve=16,min=32,low=64,high=128";
const FRAME: Size = Size::from_kib(4);
const PARTS: &str = "write reserve, min, low, high, node, tries or fallback";

/// Understands a number of frames, or their size (`4MiB`), and after it `reserve=`, `min=`, `low=`, `high=`, `node=`, `tries=` and `fallback=` (`refill`, `kernel`);
/// what is not said is a share of the size. Windows are of up to `batch` pages.
///
/// # Errors
/// What is wrong, its bound and the remedy.
pub fn parse(text: &str, batch: Batch) -> Result<FrameOptions, ValueError> {
    let number = |digits: &str| {
        digits
            .trim()
            .parse::<u32>()
            .map_err(|_| ValueError::Malformed {
                value: text.to_owned(),
                expected: EXPECTED,
                example: EXAMPLE,
            })
    };
    let mut parts = text.split(',');
    let pool = parts.next().unwrap_or_default();
    let mut options = FrameOptions::of(match pool.trim().parse::<Size>() {
        Ok(size) => frames_in(size)?,
        Err(_) => number(pool)?,
    });
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        if name.trim() == "fallback" {
            options.fallback = fallback(value)?;
            continue;
        }
        let value = number(value)?;
        match name.trim() {
            "reserve" => options.reserve = value,
            "min" => options.min = value,
            "low" => options.low = value,
            "high" => options.high = value,
            "tries" => options.tries = value,
            "node" => options.placement = Placement::Node(value),
            other => {
                return Err(ValueError::UnknownName {
                    value: other.to_owned(),
                    what: "part of a pool",
                    hint: PARTS.to_owned(),
                });
            }
        }
    }
    options
        .check(batch.get().into(), DEFAULT_LIMBO)
        .map_err(|error| ValueError::Frames(error.to_string()))?;
    Ok(options)
}

/// The frames in `size`; more than there can be is told as such, with its bound.
fn frames_in(size: Size) -> Result<u32, ValueError> {
    let frames = size.aligned_to(FRAME)?.bytes() / FRAME.bytes();
    Ok(u32::try_from(frames).unwrap_or(u32::MAX))
}

fn fallback(name: &str) -> Result<Fallback, ValueError> {
    match name.trim() {
        "refill" => Ok(Fallback::Refill),
        "kernel" => Ok(Fallback::Kernel),
        other => Err(ValueError::UnknownName {
            value: other.to_owned(),
            what: "fallback",
            hint: "write refill or kernel".to_owned(),
        }),
    }
}

/// What [`parse`] understands as `options`.
#[must_use]
pub fn text(options: &FrameOptions) -> String {
    let FrameOptions {
        size,
        reserve,
        min,
        low,
        high,
        placement,
        tries,
        fallback,
    } = options;
    let node = match placement {
        Placement::Anywhere => String::new(),
        Placement::Node(node) => format!(",node={node}"),
    };
    let tries = match tries {
        1 => String::new(),
        tries => format!(",tries={tries}"),
    };
    let fallback = match fallback {
        Fallback::Refill => "",
        Fallback::Kernel => ",fallback=kernel",
    };
    format!("{size},reserve={reserve},min={min},low={low},high={high}{node}{tries}{fallback}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, batch: usize) -> String {
        let error = parse(text, Batch::clamped(batch)).expect_err(text);
        error.to_string()
    }

    #[test]
    fn a_pool_is_read_as_it_is_written() {
        let batch = Batch::clamped(1);
        for (given, whole) in [
            ("1024", "1024,reserve=16,min=32,low=64,high=128"),
            ("4MiB", "1024,reserve=16,min=32,low=64,high=128"),
            ("500,min=20,low=40", "500,reserve=7,min=20,low=40,high=56"),
            (
                "1024,fallback=kernel,tries=16",
                "1024,reserve=16,min=32,low=64,high=128,tries=16,fallback=kernel",
            ),
            (
                "1024,node=0",
                "1024,reserve=16,min=32,low=64,high=128,node=0",
            ),
        ] {
            let options = parse(given, batch).expect(given);
            assert_eq!(text(&options), whole);
            assert_eq!(parse(whole, batch), Ok(options));
        }
    }

    #[test]
    fn what_will_not_do_is_refused_with_the_remedy() {
        for (text, batch, parts) in [
            ("many", 1, ["`many`", "for example"]),
            ("1024,min", 1, ["`1024,min`", "for example"]),
            ("1024,tries=0", 1, ["0 tries", "at least 1"]),
            ("1024,fallback=none", 1, ["`none`", "refill or kernel"]),
            ("1024,mid=7", 1, ["`mid`", "reserve, min, low, high"]),
            (
                "1024,min=7",
                1,
                ["reserve 16, min 7", "above the one before"],
            ),
            ("1024", 512, ["1024 frames", "at least so many"]),
            ("4097KiB", 1, ["4097KiB", "4KiB"]),
            ("1024TiB", 1, ["4294967295 frames", "fewer"]),
            ("4194305", 1, ["4194305 frames", "fewer"]),
        ] {
            let message = refused(text, batch);
            for part in parts {
                assert!(message.contains(part), "{text}: {message}: no {part}");
            }
        }
    }
}
