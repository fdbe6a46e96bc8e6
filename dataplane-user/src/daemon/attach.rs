//! The programs on the interfaces: those of this daemon, and what earlier ones left there.

use super::StartError;
use crate::{
    config::Config,
    dataplane::{
        attach::Attached,
        bpf_link::{LinkKind, sweep},
        egress::EgressError,
    },
    fences::EgressFences,
    neighbours::{Interfaces, UnknownInterface},
    node::Node,
    pins,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Attaches the program to every configured interface, after the fences at egress.
pub(super) fn attach(
    node: &mut Node,
    config: &Config,
    interfaces: &Interfaces,
) -> Result<(), StartError> {
    // Before anything is delivered here.
    fence_egress(node, config, interfaces)?;
    sweep_pins(config, interfaces)?;
    for configured in &config.interfaces {
        let (name, mode) = (&configured.name, configured.mode);
        let pin = config.pins.enabled.then(|| pins::path(config, name));
        let adopted = match &pin {
            Some(pin) => node.dataplane.adopt(interfaces.named(name)?, mode, pin)?,
            None => None,
        };
        let attached = match adopted {
            Some(attached) => attached,
            None => node.dataplane.attach(name, mode, pin.as_deref())?,
        };
        let Attached { mode, is_adopted, .. } = &attached;
        tracing::info!(interface = name, ?mode, is_adopted, "attached");
        if let Some(reason) = &attached.not_native {
            tracing::warn!("{reason}");
            node.warnings.push(reason.clone());
        }
        node.attached.push(attached);
    }
    Ok(())
}

/// Fences every interface that replies may leave by.
fn fence_egress(
    node: &mut Node,
    config: &Config,
    interfaces: &Interfaces,
) -> Result<(), EgressError> {
    node.egress = EgressFences::new(config);
    if let Err(errors) = node.egress.adjust(&mut node.dataplane, interfaces) {
        return Err(errors.into_iter().next().expect("at least one error"));
    }
    report(&pins::links(config), node.egress.sweep(config, interfaces));
    for name in node.egress.missing() {
        let warning =
            format!("{name} is to be fenced at egress but is not there: as soon as it is");
        tracing::warn!("{warning}");
        node.warnings.push(warning);
    }
    Ok(())
}

/// Detaches what earlier daemons of this node left pinned and this one does not take over:
/// interfaces that are in its configuration no longer, or have a new name, or were made anew.
/// Comes before attaching, as an interface takes one program only.
fn sweep_pins(config: &Config, interfaces: &Interfaces) -> Result<(), UnknownInterface> {
    let mut wanted = BTreeMap::new();
    if config.pins.enabled {
        for interface in &config.interfaces {
            let ifindex = interfaces.named(&interface.name)?.ifindex;
            wanted.insert(pins::path(config, &interface.name), ifindex);
        }
    }
    let folder = pins::links(config);
    let keep = |pin: &Path, ifindex| wanted.get(pin) == Some(&ifindex);
    report(&folder, sweep(&folder, LinkKind::Xdp, keep));
    Ok(())
}

/// Says what was swept from a folder.
fn report(folder: &Path, swept: std::io::Result<Vec<PathBuf>>) {
    match swept {
        Ok(swept) => {
            for pin in swept {
                let pin = pin.display();
                tracing::warn!(%pin, "an earlier daemon's program was left there: detached");
            }
        }
        Err(error) => {
            let folder = folder.display();
            tracing::error!(%folder, %error, "an earlier daemon's programs may be left: look there");
        }
    }
}

/// Detaches them; says what is still there.
pub(super) fn detach(attached: impl IntoIterator<Item = Attached>) {
    for attached in attached {
        let interface = attached.interface.clone();
        if let Err(error) = attached.detach() {
            tracing::error!(interface, %error, "detaching failed: the program is still there");
        }
    }
}

/// Whether any link is pinned; also if that cannot be told.
pub(super) fn is_left_attached(config: &Config) -> bool {
    config.pins.enabled && pins::has_links(config).unwrap_or(true)
}
