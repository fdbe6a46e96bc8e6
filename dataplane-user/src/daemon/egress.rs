//! Keeps the fences at egress where replies may leave, while interfaces and other programs come and
//! go.

use crate::{
    dataplane::egress::EgressError,
    neighbours::{Interfaces, LinkChanges, RESYNC},
    node::{Node, lock},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Fences the interfaces of a node that come, for as long as it runs, and keeps the fences first.
pub(super) async fn follow(node: Arc<Mutex<Node>>, links: LinkChanges) {
    tokio::join!(follow_interfaces(&node, links), keep_first(&node));
}

/// Fences interfaces that come, at the latest a moment after the kernel has told of them.
async fn follow_interfaces(node: &Mutex<Node>, links: LinkChanges) {
    let mut links = Some(links);
    loop {
        let told = async {
            match &mut links {
                Some(links) => links.changed().await,
                None => std::future::pending().await,
            }
        };
        // Now and then without being told.
        match tokio::time::timeout(RESYNC, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(
                    %error,
                    "the kernel no longer tells of interfaces that come: until it does they are \
                     looked for every {} s, and not fenced at egress before",
                    RESYNC.as_secs()
                );
                links = None;
            }
            Err(_) if links.is_none() => links = LinkChanges::open().ok(),
            Err(_) => {}
        }
        match Interfaces::read().await {
            Ok(interfaces) => adjust(node, &interfaces).await,
            Err(error) => tracing::warn!(%error, "interfaces could not be looked up; trying again"),
        }
    }
}

/// How often it is looked whether the fences are first.
const ORDER: Duration = Duration::from_secs(1);

/// Keeps the fences first on their interfaces: the kernel tells nobody of programs that come before
/// others, so it is asked every second.
async fn keep_first(node: &Mutex<Node>) {
    loop {
        tokio::time::sleep(ORDER).await;
        let overtaken = lock(node).egress.overtaken();
        for interface in overtaken {
            let put = {
                let Node { dataplane, egress, .. } = &mut *lock(node);
                egress.put_in_front(dataplane, &interface)
            };
            report(put);
            tokio::task::yield_now().await;
        }
    }
}

/// Lets others have the node between any two interfaces: the kernel takes some 10 ms to attach to
/// one, and with hundreds of them the lease would not be renewed in time.
async fn adjust(node: &Mutex<Node>, interfaces: &Interfaces) {
    let new = lock(node).egress.look(interfaces);
    for interface in new {
        let fenced = {
            let Node { dataplane, egress, .. } = &mut *lock(node);
            egress.fence(dataplane, &interface)
        };
        report(fenced);
        tokio::task::yield_now().await;
    }
}

fn report(fenced: Result<(), EgressError>) {
    if let Err(error) = fenced {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, "an interface is not fenced");
    }
}
