//! How messages flow: in which order, how fast, and what follows a failure.

use std::time::Duration;

use crate::scheduler::{Order, Retries};

/// How messages flow. The fields are named after the flags, and mean what `longshore run --help` says.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct FlowSettings {
    pub order: Order,
    /// How often what has failed is tried again: none, unless it is said.
    pub retries: Option<u32>,
    pub retry_backoff: Duration,
    pub retry_backoff_max: Duration,
    /// The most tasks that start in a second.
    pub rate: Option<f64>,
    pub circuit_breaker: bool,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            order: Order::None,
            retries: None,
            retry_backoff: Retries::NONE.backoff,
            retry_backoff_max: Retries::NONE.longest,
            rate: None,
            circuit_breaker: true,
        }
    }
}

/// The same, checked.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) order: Order,
    pub(crate) retries: Retries,
    /// How much time each start takes up.
    pub(crate) each_start: Option<Duration>,
    pub(crate) circuit_breaker: bool,
}

/// The slowest and the fastest `--rate`: once in a day, and a million a second.
const RATES: std::ops::RangeInclusive<f64> = 1.0 / 86_400.0..=1e6;

impl FlowSettings {
    pub(super) fn check(&self, errors: &mut Vec<String>) -> Flow {
        if self.retry_backoff.is_zero() {
            errors.push("--retry-backoff 0 would try again at once: say how long to wait, such as 1s".to_owned());
        }
        if self.retry_backoff_max < self.retry_backoff {
            errors.push(format!(
                "--retry-backoff-max {:?} is shorter than --retry-backoff {:?}",
                self.retry_backoff_max, self.retry_backoff
            ));
        }
        let rate = self.rate.filter(|rate| {
            let possible = RATES.contains(rate);
            if !possible {
                errors.push(format!("--rate {rate}/s is not between one in a day and 1,000,000/s"));
            }
            possible
        });
        Flow {
            order: self.order,
            retries: Retries {
                most: self.retries.unwrap_or(0),
                backoff: self.retry_backoff,
                longest: self.retry_backoff_max,
            },
            each_start: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
            circuit_breaker: self.circuit_breaker,
        }
    }
}
