//! What differs between two configurations, and what of that a running daemon can take on.

use super::{Cluster, Config, Fence, Hold, Node, Service, Sessions};
use thiserror::Error;

/// What a running daemon takes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// `new_rate`, `new_burst`, `control_rate` or `control_burst` of `[[services]]`.
    pub limits: bool,
    /// `per_session`, `total` or `pace` of `[hold]`.
    pub hold: bool,
    /// `[[nodes]]`: some have come or gone.
    pub nodes: bool,
    /// `[metrics]`
    pub metrics: bool,
    /// `[log]` `level`
    pub log: bool,
}

impl Changes {
    /// As people read it; empty if nothing has changed.
    pub fn names(self) -> Vec<&'static str> {
        let Self { limits, hold, nodes, metrics, log } = self;
        let all = [
            (limits, "the limits of [[services]]"),
            (hold, "[hold]"),
            (nodes, "[[nodes]]"),
            (metrics, "[metrics]"),
            (log, "[log]"),
        ];
        all.into_iter().filter_map(|(changed, name)| changed.then_some(name)).collect()
    }
}

/// A running daemon cannot take it on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a running daemon cannot change {}; start the daemon again with this file", .0.join(", nor "))]
pub struct Fixed(pub Vec<String>);

impl Config {
    /// What is different in `new`.
    ///
    /// # Errors
    ///
    /// With everything that a running daemon cannot take on.
    pub fn changes(&self, new: &Self) -> Result<Changes, Fixed> {
        // A key that is added must be sorted in here.
        let Self {
            node,
            cluster: Cluster { hash_seed, secrets },
            nodes,
            interfaces,
            egress,
            fence: Fence { lease, renew, margin },
            sessions: Sessions { capacity, cpus, queue },
            services,
            hold: Hold { ring, per_session, total, pace },
            drain,
            api,
            metrics,
            log,
            sessions_api,
            pins,
            state,
            store,
        } = self;
        let mut fixed = Vec::new();
        let same = [
            ("`node`", *node == new.node),
            ("`hash_seed` in [cluster]", *hash_seed == new.cluster.hash_seed),
            ("`secrets` in [cluster]", *secrets == new.cluster.secrets),
            ("[[interfaces]]", *interfaces == new.interfaces),
            ("[egress]", *egress == new.egress),
            ("`lease` in [fence]", *lease == new.fence.lease),
            ("`renew` in [fence]", *renew == new.fence.renew),
            ("`margin` in [fence]", *margin == new.fence.margin),
            ("`capacity` in [sessions]", *capacity == new.sessions.capacity),
            ("`cpus` in [sessions]", *cpus == new.sessions.cpus),
            ("`queue` in [sessions]", *queue == new.sessions.queue),
            ("`ring` in [hold]", *ring == new.hold.ring),
            ("[drain]", *drain == new.drain),
            ("[api]", *api == new.api),
            ("`format` in [log]", log.format == new.log.format),
            ("[sessions_api]", *sessions_api == new.sessions_api),
            ("[pins]", *pins == new.pins),
            ("[state]", *state == new.state),
            ("[store]", *store == new.store),
        ];
        fixed.extend(
            same.into_iter().filter(|(_, is_same)| !is_same).map(|(key, _)| key.to_owned()),
        );
        fixed.extend(self.fixed_services(&new.services));
        if *nodes != new.nodes {
            fixed.extend(self.fixed_nodes(new));
        }
        if !fixed.is_empty() {
            return Err(Fixed(fixed));
        }
        let limits = services.iter().map(|service| service.limits);
        Ok(Changes {
            limits: !limits.eq(new.services.iter().map(|service| service.limits)),
            hold: (per_session, total, pace)
                != (&new.hold.per_session, &new.hold.total, &new.hold.pace),
            nodes: *nodes != new.nodes,
            metrics: *metrics != new.metrics,
            log: *log != new.log,
        })
    }

    /// Services stay as they are, but for their limits.
    fn fixed_services(&self, new: &[Service]) -> Vec<String> {
        let names = |services: &[Service]| -> Vec<String> {
            services.iter().map(|service| service.name.clone()).collect()
        };
        if names(&self.services) != names(new) {
            return vec!["which [[services]] there are, and their order".to_owned()];
        }
        let differs = |(old, new): &(&Service, &Service)| {
            Service { limits: old.limits, ..(*new).clone() } != **old
        };
        let differing = self.services.iter().zip(new).filter(differs);
        differing.map(|(old, _)| format!("service {:?} but for its limits", old.name)).collect()
    }

    /// Nodes come and go, and may get other weights.
    fn fixed_nodes(&self, new: &Self) -> Vec<String> {
        let mut fixed = Vec::new();
        for node in &self.nodes {
            let same = |other: &&Node| other.index == node.index || other.name == node.name;
            let Some(other) = new.nodes.iter().find(same) else { continue };
            let Node { name, index, address, weight: _, interface } = other;
            if (name, index, address, interface)
                != (&node.name, &node.index, &node.address, &node.interface)
            {
                fixed.push(format!("node {:?} (remove it, and add another)", node.name));
            }
        }
        fixed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../docs/jumpgate.toml");

    fn with(changes: &[(&str, &str)]) -> Config {
        let text = changes.iter().fold(EXAMPLE.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        Config::parse(&text).unwrap()
    }

    fn changes(changes: &[(&str, &str)]) -> Result<Changes, Fixed> {
        with(&[]).changes(&with(changes))
    }

    #[test]
    fn what_can_change() {
        let none = Changes::default();
        assert_eq!(changes(&[]), Ok(none));
        let limits = changes(&[("#new_rate = 10000", "new_rate = 0")]);
        assert_eq!(limits, Ok(Changes { limits: true, ..none }));
        let hold = changes(&[("#pace = 50000", "pace = 1000")]);
        assert_eq!(hold, Ok(Changes { hold: true, ..none }));
        let metrics = changes(&[("# listen", "listen")]);
        assert_eq!(metrics, Ok(Changes { metrics: true, ..none }));
        let log = changes(&[("#level = \"info\"", "level = \"debug\"")]);
        assert_eq!(log, Ok(Changes { log: true, ..none }));
        let node = "\n[[nodes]]\nname = \"c\"\nindex = 3\naddress = \"192.0.2.3\"\nweight = 0\n[[nodes]]\n";
        let more = [("\n[[nodes]]\n", node)];
        assert_eq!(changes(&more), Ok(Changes { nodes: true, ..none }));
        let less = with(&more).changes(&with(&[]));
        assert_eq!(less, Ok(Changes { nodes: true, ..none }));
    }

    #[test]
    fn all_that_cannot_change_is_named() {
        let refused = |more: &[(&str, &str)]| changes(more).unwrap_err().to_string();
        let text = refused(&[
            ("#lease = \"10s\"", "lease = \"20s\""),
            ("control_port = 4001", "control_port = 4002"),
            ("#capacity = 100000", "capacity = 5"),
            ("#pace = 50000", "pace = 1000"),
        ]);
        assert_eq!(
            text,
            "a running daemon cannot change `lease` in [fence], nor `capacity` in [sessions], nor service \
             \"game\" but for its limits; start the daemon again with this file"
        );
        let text = refused(&[("192.0.2.2", "192.0.2.9")]);
        assert!(text.contains("node \"b\" (remove it"), "{text}");
        let text = refused(&[("name = \"web\"", "name = \"www\"")]);
        assert!(text.contains("which [[services]] there are"), "{text}");
    }
}
