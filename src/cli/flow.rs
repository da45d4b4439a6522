//! The flags about the flow of messages: order, rate, retries.

use clap::Args as ClapArgs;
use longshore::{config::FlowSettings, scheduler::Order};

use super::{Reading, duration, yes_or_no};

/// What was typed about the flow of messages.
#[derive(Debug, ClapArgs, Default)]
#[command(next_help_heading = "Flow")]
pub(crate) struct FlowArgs {
    /// What runs one after the other: none, key (the messages of a key, in each partition) or partition [default: none]
    #[arg(long, value_name = "none|key|partition")]
    pub(crate) order: Option<String>,
    /// How often a message whose task fails is tried again, before it is given up [default: 3; 0 for --task sleep]
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<String>,
    /// How long to wait before that; twice as long each time, and up to half of it less, by chance [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_backoff: Option<String>,
    /// The longest such wait [default: 1m]
    #[arg(long, value_name = "DURATION")]
    pub(crate) retry_backoff_max: Option<String>,
    /// The most tasks that start in a time: 50, 50/s, 10/m, 100/h [default: no limit]
    #[arg(long, value_name = "N[/s|/m|/h]")]
    pub(crate) rate: Option<String>,
    /// Give messages up even while nearly all tasks fail. Otherwise nothing new starts then, and one at a time is tried until
    /// one succeeds
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub(crate) no_circuit_breaker: Option<String>,
}

pub(super) fn read(from: &mut Reading<'_>, args: &FlowArgs) -> FlowSettings {
    let defaults = FlowSettings::default();
    FlowSettings {
        order: from.get(args.order.as_ref(), "order", order).unwrap_or_default(),
        retries: from.get(args.retries.as_ref(), "retries", |text| {
            text.parse().map_err(|_| "not a number from 0 to 4294967295")
        }),
        retry_backoff: from
            .get(args.retry_backoff.as_ref(), "retry-backoff", duration)
            .unwrap_or(defaults.retry_backoff),
        retry_backoff_max: from
            .get(args.retry_backoff_max.as_ref(), "retry-backoff-max", duration)
            .unwrap_or(defaults.retry_backoff_max),
        rate: from.get(args.rate.as_ref(), "rate", rate),
        circuit_breaker: !from
            .get(args.no_circuit_breaker.as_ref(), "no-circuit-breaker", yes_or_no)
            .unwrap_or(!defaults.circuit_breaker),
    }
}

fn order(text: &str) -> Result<Order, &'static str> {
    match text {
        "none" => Ok(Order::None),
        "key" => Ok(Order::Key),
        "partition" => Ok(Order::Partition),
        _ => Err("none of none, key, partition"),
    }
}

/// Parses `50`, `50/s`, `10/m`, `0.5/h`, to a number for each second.
fn rate(text: &str) -> Result<f64, &'static str> {
    const WRONG: &str = "not a rate, such as 50/s, 10/m or 100/h";
    let (count, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(WRONG),
    };
    let count: f64 = count.trim().parse().map_err(|_| WRONG)?;
    if count.is_finite() && count > 0.0 { Ok(count / seconds) } else { Err(WRONG) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        assert_eq!([rate("50"), rate("50/s"), rate("30/m"), rate("3600/h")], [Ok(50.0), Ok(50.0), Ok(0.5), Ok(1.0)]);
        for wrong in ["", "0", "-1/s", "x", "5/y", "inf", "nan"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
