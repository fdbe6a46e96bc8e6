//! A node whose tables are filled for one benchmark.

use crate::{
    measure::{Rounds, run},
    protocols::{Case, services},
};
use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use dataplane_ebpf::{
    local::Fence,
    node::{LinkRow, NextHop},
    table::{Entry, Place},
    wire_id::WireId,
};
use dataplane_user::dataplane::{
    Dataplane, LoadOptions, object::Object, services::rows, sessions::InsertError, wire_address,
};
use jumpgate_benches::{
    figure::Figure,
    packet::CLIENT,
    session::{SEED, key},
};
use ownership::{NodeIndex, Placement};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

/// Whose the sessions are.
#[derive(Clone, Copy)]
pub enum Sessions {
    /// This node's, each with an entry.
    Local(u64),
    /// In slots of another node: no entries here.
    Forwarded(u64),
    /// Off-home: each with an entry that leads to another node.
    Remote(u64),
    /// Of this node and on their way: held.
    Held(u64),
}

/// The loaded probe object with filled tables.
pub struct Node {
    /// The data plane.
    pub dataplane: Dataplane,
    /// How long it took to publish the sessions, in milliseconds.
    pub publish_ms: f64,
}

/// How many reads `random_reads` makes for each packet.
const READS: f64 = 16.0;

const SELF: u16 = 1;
const OTHER: u16 = 2;
/// The node's epoch.
pub const EPOCH: u32 = 1;

impl Node {
    /// Loads the programs and fills the tables.
    pub fn new(sessions: Sessions) -> Result<Self> {
        let (count, owner) = match sessions {
            Sessions::Local(count) | Sessions::Remote(count) | Sessions::Held(count) => {
                (count, SELF)
            }
            Sessions::Forwarded(count) => (count, OTHER),
        };
        let mut dataplane = Dataplane::load(LoadOptions {
            object: Object::Probe,
            sessions: count,
            cpus: vec![0],
            queue: 192,
            bindings: true,
            hold_ring: 1 << 24,
            log_packets: false,
        })
        .context("loading the probe object")?;
        let services = services();
        let [this, that] = [SELF, OTHER].map(|index| NodeIndex::new(index).expect("in range"));
        let address = |node: u16| IpAddr::from(Ipv4Addr::new(192, 0, 2, node as u8));
        let (seed, rows) = rows(&services, address(SELF))?;
        dataplane.set_services(seed, &rows);
        dataplane.set_link(
            0,
            LinkRow {
                ifindex: 1,
                mtu: 9_000,
                mac: [2, 0, 0, 0, 1, 1],
                source: wire_address(address(SELF)),
                ..LinkRow::EMPTY
            },
        );
        for node in [this, that] {
            dataplane.set_node(node, address(node.get()), &[1]);
            dataplane.node(node).set_next_hop(NextHop::new([2, 0, 0, 0, 2, 2], 0));
        }
        let owner = NodeIndex::new(owner).expect("in range");
        dataplane.set_placement(&Placement::all_to(owner));
        dataplane.memory.local_row().arm(Fence::new(EPOCH, u64::MAX), u64::MAX);
        dataplane.set_identity(this);
        let place = match sessions {
            Sessions::Local(_) => Some(Place::Local { cpu: 0 }),
            Sessions::Remote(_) => Some(Place::Remote { node: OTHER }),
            Sessions::Held(_) => Some(Place::Hold { cpu: 0, ours: true }),
            Sessions::Forwarded(_) => None,
        };
        let mut node = Self { dataplane, publish_ms: 0.0 };
        if let Some(place) = place {
            node.publish(count, place, services[0].seed())?;
        }
        node.number_sessions(count)?;
        Ok(node)
    }

    fn publish(&mut self, count: u64, place: Place, seed: u64) -> Result<()> {
        let entry = Entry { place, epoch: EPOCH };
        let sessions: Vec<_> = (0..count).map(|number| (key(number, seed), entry, 1)).collect();
        let Dataplane { memory, sessions: table, .. } = &mut self.dataplane;
        let start = Instant::now();
        table.publish(memory, &sessions).map_err(|(index, error)| {
            anyhow::anyhow!("publishing session {index} of {count}: {error}")
        })?;
        self.publish_ms = start.elapsed().as_secs_f64() * 1e3;
        Ok(())
    }

    /// Publishes one more session.
    pub fn publish_one(&mut self, number: u64, entry: Entry) -> Result<()> {
        Ok(self.dataplane.insert(key(number, services()[0].seed()), entry, 1)?)
    }

    /// Tells the probe programs how many sessions to draw from.
    fn number_sessions(&mut self, count: u64) -> Result<()> {
        let probe = self.dataplane.probe.as_mut().context("not the probe object")?;
        probe.set([0x1234_5678, probe.lines, count, SEED, 0, 0, 0, 0]);
        Ok(())
    }

    /// Publishes the wire id of a case as a local session.
    pub fn register(&mut self, case: &Case) -> Result<()> {
        let Some(service) = case.service else { return Ok(()) };
        let id = WireId::from_bytes(&case.id).context("a wire id of 4 to 20 bytes")?;
        let entry = Entry { place: Place::Local { cpu: 0 }, epoch: EPOCH };
        let service = &services()[service];
        let key = id.key(service.seed());
        match self.dataplane.insert(key, entry, 1) {
            Ok(()) | Err(InsertError::Taken) => {}
            Err(error) => return Err(error.into()),
        }
        if service.enforces_binding {
            let client = CLIENT.into();
            anyhow::ensure!(self.dataplane.set_binding(key, Some(client)), "it was just inserted");
            self.dataplane.set_client(client, service.seed(), key)?;
        }
        Ok(())
    }

    /// Nanoseconds a packet of one program.
    pub fn absolute(
        &mut self,
        rounds: &Rounds,
        name: &str,
        program: &str,
        frame: &[u8],
    ) -> Result<Figure> {
        let program: &Xdp = self.dataplane.program(program)?;
        let times = (0..rounds.count).map(|_| run(program, frame, rounds.repeat));
        Ok(Figure::of(name, times.collect::<Result<_>>()?))
    }

    /// Nanoseconds that one random read takes from as many lines as the session table has.
    pub fn random_read(&mut self, rounds: &Rounds, name: &str, frame: &[u8]) -> Result<Figure> {
        let figure = self.difference(rounds, name, "random_reads", "bare_drop", frame)?;
        Ok(figure.divided_by(READS))
    }

    /// Nanoseconds a packet that `program` takes longer than `base`.
    pub fn difference(
        &mut self,
        rounds: &Rounds,
        name: &str,
        program: &str,
        base: &str,
        frame: &[u8],
    ) -> Result<Figure> {
        let mut differences = Vec::with_capacity(rounds.count);
        for _ in 0..rounds.count {
            let without = run(self.dataplane.program(base)?, frame, rounds.repeat)?;
            let with = run(self.dataplane.program(program)?, frame, rounds.repeat)?;
            differences.push(with - without);
        }
        Ok(Figure::of(name, differences))
    }

    /// Nanoseconds that the fence at egress takes for a packet that it lets pass, over an empty
    /// program.
    pub fn egress(&mut self, rounds: &Rounds, name: &str, frame: &[u8]) -> Result<Figure> {
        let passes = self
            .dataplane
            .classifier("egress")?
            .test_run(TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() })?;
        anyhow::ensure!(passes.return_value as i32 == -1, "{name}: {}", passes.return_value);
        let mut differences = Vec::with_capacity(rounds.count);
        for _ in 0..rounds.count {
            let without = run(self.dataplane.classifier("bare_next")?, frame, rounds.repeat)?;
            let with = run(self.dataplane.classifier("egress")?, frame, rounds.repeat)?;
            differences.push(with - without);
        }
        Ok(Figure::of(name, differences))
    }
}
