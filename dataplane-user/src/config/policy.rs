//! What sessions may do, what becomes of those of a lost node, and how sessions are moved.

use super::{
    Drain,
    convert::{choice, duration, integer},
    document::Section,
};
use ownership::{drain::LeftOver, model::Policy, takeover::OnLoss};
use std::{ops::RangeInclusive, time::Duration};

/// How long a session may live, or wait for its client.
const TTL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);

/// In which time one more change of transport may be granted.
const SWITCH: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3600);

/// How long two changes of transport may have to be apart.
const COOLDOWN: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// How long a drain may take.
const DEADLINE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// How long the packets of a session may wait for its application.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);

/// The policy of a service, and what becomes of its sessions when their node is lost.
pub(super) fn read(section: &Section<'_, '_>) -> Option<(Policy, OnLoss)> {
    let default = Policy::default();
    let session_ttl = section.or("session_ttl", default.session_ttl, duration(TTL));
    let loss_ttl = section.or("transport_loss_ttl", default.transport_loss_ttl, duration(TTL));
    let (session_ttl, loss_ttl) = (session_ttl?, loss_ttl?);
    let window = section.or("recovery_window", loss_ttl, duration(TTL));
    let burst = section.or("switch_burst", default.switch_burst, integer(1..=10_000));
    let interval = section.or("switch_interval", default.switch_interval, duration(SWITCH));
    let cooldown = section.or("switch_cooldown", default.switch_cooldown, duration(COOLDOWN));
    let on_loss =
        [("deny", OnLoss::Deny), ("terminate", OnLoss::Terminate), ("take_over", OnLoss::TakeOver)];
    let on_loss = section.or("on_loss", OnLoss::Deny, choice(&on_loss));
    let window = window?;
    if window > loss_ttl {
        section.report_at(
            "recovery_window",
            "`recovery_window` exceeds `transport_loss_ttl`, after which the session is over"
                .to_owned(),
        );
        return None;
    }
    let policy = Policy {
        session_ttl,
        transport_loss_ttl: loss_ttl,
        recovery_window: window,
        switch_burst: burst?,
        switch_interval: interval?,
        switch_cooldown: cooldown?,
        ..default
    };
    Some((policy, on_loss?))
}

/// `[drain]`
pub(super) fn drain(section: &Section<'_, '_>) -> Option<Drain> {
    let default = Drain::default();
    let deadline = section.or("deadline", default.deadline, duration(DEADLINE));
    let left_over = [("move", LeftOver::Move), ("terminate", LeftOver::Terminate)];
    let left_over = section.or("left_over", default.left_over, choice(&left_over));
    let at_once = section.or("at_once", default.at_once, integer(1..=16_384));
    let per_second = section.or("per_second", default.per_second, integer(1..=1_000_000));
    let quiet = section.or("quiet", default.quiet, duration(WAIT));
    let application = section.or("application", default.application, duration(WAIT));
    Some(Drain {
        deadline: deadline?,
        left_over: left_over?,
        at_once: at_once?,
        per_second: per_second?,
        quiet: quiet?,
        application: application?,
    })
}
