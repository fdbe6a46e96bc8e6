//! How many packets a source prefix may send: the rates of a service.

use super::{convert::integer, document::Section};
use crate::dataplane::services::{Limits, Rate};

/// The most packets a second, and at once.
const MAX: u32 = 1_000_000;

/// For how many seconds at the rate a burst may be.
const SECONDS: u32 = 10;

/// What a service allows that says nothing of it.
const DEFAULT: u32 = 10_000;

/// The limits of a service, or problems in its document.
pub(super) fn read(section: &Section<'_, '_>, has_control_port: bool) -> Option<Limits> {
    let new = rate(section, "new_rate", "new_burst");
    let control = rate(section, "control_rate", "control_burst");
    if !has_control_port {
        for key in ["control_rate", "control_burst"] {
            section.refuse(key, || {
                format!("`{key}` is only for services with a `control_port`: remove it")
            });
        }
    }
    Some(Limits { new: new?, control: control? })
}

fn rate(section: &Section<'_, '_>, rate_key: &str, burst_key: &str) -> Option<Option<Rate>> {
    let rate = section.or(rate_key, DEFAULT, integer(0..=MAX));
    let burst = section.optional(burst_key, integer(1..=MAX));
    let (rate, burst) = (rate?, burst?);
    let most = rate.saturating_mul(SECONDS);
    if let Some(burst) = burst
        && burst > most
    {
        let why = match rate {
            0 => format!("`{rate_key}` is 0, so there is no limit: remove it"),
            _ => format!("it must be at most {most}, {SECONDS} times `{rate_key}`"),
        };
        section.report_at(burst_key, format!("`{burst_key}` is {burst}: {why}"));
    }
    Some((rate > 0).then(|| Rate { rate, burst: burst.unwrap_or(rate) }))
}
