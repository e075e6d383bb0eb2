//! Random numbers of the distributions that resampling needs, each at a cost that does not grow with counts.

use fastrand::Rng;

/// A number of the standard normal distribution (Box and Muller).
pub(super) fn normal(rng: &mut Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.f64()).cos()
}

/// A number of the gamma distribution of this `shape`, 1 or more (Marsaglia and Tsang, "A simple method for generating
/// gamma variables", 2000).
pub(super) fn gamma(rng: &mut Rng, shape: f64) -> f64 {
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - rng.f64()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// A number of the beta distribution; both shapes 1 or more.
pub(super) fn beta(rng: &mut Rng, a: f64, b: f64) -> f64 {
    let (x, y) = (gamma(rng, a), gamma(rng, b));
    x / (x + y)
}

/// Up to this mean the hypergeometric distribution is drawn exactly; above, its variance is 50 and more, and the normal
/// distribution is as good.
const MOST_EXACT: f64 = 200.0;

/// How many of `marked` among `all` are in a sample of `sample`, drawn without putting back.
pub(super) fn hypergeometric(rng: &mut Rng, all: u64, marked: u64, sample: u64) -> u64 {
    // Of marked and unmarked, of sample and rest, the smaller: the answer follows from it.
    if marked > all - marked {
        return sample - hypergeometric(rng, all, all - marked, sample);
    }
    if sample > all - sample {
        return marked - hypergeometric(rng, all, marked, all - sample);
    }
    let most = marked.min(sample);
    if most == 0 {
        return 0;
    }
    let (n, k, s) = (all as f64, marked as f64, sample as f64);
    let mean = s * k / n;
    if mean <= MOST_EXACT {
        return inversion(rng, n, k, s).min(most);
    }
    let variance = mean * (1.0 - k / n) * (n - s) / (n - 1.0);
    let drawn = (mean + variance.sqrt() * normal(rng)).round();
    (drawn.max(0.0) as u64).min(most)
}

/// Walks up the distribution from nothing, each probability from the one before.
fn inversion(rng: &mut Rng, n: f64, k: f64, s: f64) -> u64 {
    let rest = n - k - s;
    // ln of C(n-k, s) / C(n, s).
    let ln_none = ln_factorial(n - k) - ln_factorial(rest) + ln_factorial(n - s) - ln_factorial(n);
    let mut probability = ln_none.exp();
    let mut left = rng.f64();
    let mut drawn = 0.0;
    while left >= probability && drawn < k.min(s) {
        left -= probability;
        probability *= (k - drawn) * (s - drawn) / ((drawn + 1.0) * (rest + drawn + 1.0));
        drawn += 1.0;
    }
    drawn as u64
}

/// ln(n!), by the table where it is small and by Stirling's series above.
fn ln_factorial(n: f64) -> f64 {
    if n < 16.0 {
        return (2..=n as u64).map(|factor| (factor as f64).ln()).sum();
    }
    (n + 0.5) * n.ln() - n + 0.5 * std::f64::consts::TAU.ln() + 1.0 / (12.0 * n)
        - 1.0 / (360.0 * n.powi(3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u64 = 20_000;

    /// Mean and variance of what `draw` gives, and whether they are within five standard errors of the true ones.
    fn assert_moments(name: &str, mean: f64, variance: f64, mut draw: impl FnMut(&mut Rng) -> f64) {
        let mut rng = Rng::with_seed(7);
        let drawn: Vec<f64> = (0..DRAWS).map(|_| draw(&mut rng)).collect();
        let seen = drawn.iter().sum::<f64>() / DRAWS as f64;
        let spread = drawn.iter().map(|x| (x - seen).powi(2)).sum::<f64>() / (DRAWS - 1) as f64;
        let error = (variance / DRAWS as f64).sqrt();
        assert!(
            (seen - mean).abs() <= 5.0 * error,
            "{name}: mean {seen}, not {mean}"
        );
        assert!(
            (spread / variance - 1.0).abs() < 0.1,
            "{name}: variance {spread}, not {variance}"
        );
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        assert_moments("normal", 0.0, 1.0, normal);
        for shape in [1.0, 2.5, 1e6] {
            assert_moments("gamma", shape, shape, |rng| gamma(rng, shape));
        }
        let (a, b) = (3.0, 17.0);
        let variance = a * b / ((a + b) * (a + b) * (a + b + 1.0));
        assert_moments("beta", a / (a + b), variance, |rng| beta(rng, a, b));
        for (all, marked, sample) in [
            (10, 3, 4),
            (100, 90, 50),
            (1_000_000, 1_000, 100),
            (1_000_000, 400_000, 1_000),
            (1_000_000, 300, 700_000),
            (20_000_000_000, 9_000_000_000, 11_000_000_000),
        ] {
            let (n, k, s) = (all as f64, marked as f64, sample as f64);
            let mean = s * k / n;
            let variance = mean * (1.0 - k / n) * (n - s) / (n - 1.0);
            let name = format!("{marked} of {all}, {sample} drawn");
            assert_moments(&name, mean, variance, |rng| {
                hypergeometric(rng, all, marked, sample) as f64
            });
        }
    }

    #[test]
    fn no_draw_is_impossible() {
        let mut rng = Rng::with_seed(7);
        for all in 1..20 {
            for marked in 0..=all {
                for sample in 0..=all {
                    let drawn = hypergeometric(&mut rng, all, marked, sample);
                    assert!(drawn <= marked.min(sample), "{drawn} of {marked} of {all}");
                    assert!(
                        sample - drawn <= all - marked,
                        "{drawn} of {marked} of {all}"
                    );
                }
            }
        }
    }
}
