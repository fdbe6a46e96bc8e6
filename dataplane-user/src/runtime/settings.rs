//! What the configuration says about sessions.

use super::DrainOrder;
use crate::config::{Config, Service};
use ownership::{
    model::Policy,
    placement::Member,
    takeover::{LossPolicy, OnLoss, Strategy},
};
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
    time::Duration,
};
use xxhash_rust::xxh64::xxh64;

/// What of the configuration the runtime goes by.
#[derive(Debug)]
pub struct Settings {
    strategy: Strategy,
    services: HashMap<u64, ServiceSettings>,
    /// All nodes of the configuration, with their weights.
    members: RwLock<Vec<Member>>,
    /// How long an application may take to quiesce a session, or to get ready for one.
    pub(super) application: Duration,
    /// How long what is in flight may take to be read.
    pub(super) quiet: Duration,
    /// How this node's sessions follow its slots if nobody says more.
    pub(super) drain: DrainOrder,
}

#[derive(Clone, Debug)]
struct ServiceSettings {
    /// Its place in the configuration.
    place: usize,
    name: String,
    policy: Policy,
    on_loss: OnLoss,
}

/// The number by which all nodes know a service: their places in the configurations may differ.
pub fn service_number(name: &str) -> u64 {
    xxh64(name.as_bytes(), 0)
}

impl Settings {
    /// Those of a configuration.
    pub fn new(config: &Config, strategy: Strategy) -> Self {
        let settings = |(place, service): (usize, &Service)| {
            let settings = ServiceSettings {
                place,
                name: service.name.clone(),
                policy: service.policy,
                on_loss: service.on_loss,
            };
            (service_number(&service.name), settings)
        };
        Self {
            strategy,
            services: config.services.iter().enumerate().map(settings).collect(),
            members: RwLock::new(config.members()),
            application: config.drain.application,
            quiet: config.drain.quiet,
            drain: DrainOrder {
                within: config.drain.deadline,
                left_over: config.drain.left_over,
                at_once: config.drain.at_once,
                per_second: config.drain.per_second,
            },
        }
    }

    /// All nodes of the configuration, with their weights.
    pub(super) fn members(&self) -> Vec<Member> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_members(&self, members: Vec<Member>) {
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members;
    }

    /// Where sessions are kept.
    pub fn strategy(&self) -> Strategy {
        self.strategy
    }

    /// The policy for a service's sessions; the default for one that is not configured here.
    pub(super) fn policy(&self, service: u64) -> Policy {
        self.services.get(&service).map_or_else(Policy::default, |service| service.policy)
    }

    /// What becomes of its sessions when their node is lost.
    pub(super) fn loss(&self, service: u64) -> LossPolicy {
        let on_loss = self.services.get(&service).map_or(OnLoss::Deny, |service| service.on_loss);
        let policy = LossPolicy::new(self.strategy, on_loss);
        policy.expect("a checked configuration takes over what is shared only")
    }

    /// A service's place in the configuration.
    pub(super) fn place(&self, service: u64) -> Option<usize> {
        self.services.get(&service).map(|service| service.place)
    }

    pub(super) fn name(&self, service: u64) -> Option<&str> {
        self.services.get(&service).map(|service| service.name.as_str())
    }
}
