//! How long to wait before asking again, when asking failed.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);
/// The longest, before chance.
const LAST: Duration = Duration::from_secs(30);

/// Twice as long each time, with a fifth of chance in it, so that a thousand hosts do not come
/// back in one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// How long to wait now; `chance` is a random number.
    pub fn wait(&mut self, chance: u32) -> Duration {
        let whole = self.next;
        self.next = whole.saturating_mul(2).min(LAST);
        // From four fifths to six fifths.
        let span = f64::from(chance) / f64::from(u32::MAX);
        whole.mul_f64(0.8 + 0.4 * span)
    }

    /// It worked: the next wait is the first one again.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// A random number; it is no secret. A constant if the system gives none.
#[must_use]
pub fn chance() -> u32 {
    let mut bytes = [0; 4];
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_begin_anew() {
        let mut backoff = Backoff::default();
        let middle: Vec<f64> = (0..8).map(|_| backoff.wait(u32::MAX / 2).as_secs_f64()).collect();
        for (wait, expected) in middle.iter().zip([0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]) {
            assert!((wait - expected).abs() < 0.01, "{middle:?}");
        }
        backoff.reset();
        assert!(backoff.wait(0) == FIRST.mul_f64(0.8));
        backoff.reset();
        assert!(backoff.wait(u32::MAX) == FIRST.mul_f64(1.2));
    }
}
