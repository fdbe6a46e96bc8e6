//! What the next daemon makes of what it finds: it puts right what is half done, and refuses what
//! does not fit, with the reason.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use aya::maps::MapData;
use dataplane_ebpf::abi::SCHEMA;
use dataplane_ebpf::table::{Bucket, WAYS};
use dataplane_ebpf::wire_id_row::{Registered, WireIdRow};
use dataplane_user::api::{Client as Api, Request, SessionRow};
use dataplane_user::dataplane::region::{Region, Shared};
use jumpgate_tests::config::Config;
use jumpgate_tests::daemon::Daemon;
use jumpgate_tests::fleet::{self, Options};
use jumpgate_tests::mounts::BPFFS;
use jumpgate_tests::require_root;
use jumpgate_tests::topology::{Cluster, Node};
use serde_json::{Value, json};

/// A node with a daemon, which is killed and started again.
struct Site {
    cluster: Cluster,
    config: Config,
    daemon: Daemon,
}

impl Site {
    fn new(nodes: u8) -> Result<Self> {
        let cluster = Cluster::builder().nodes(nodes).build()?;
        let config = fleet::config(&cluster, &cluster.nodes()[0], &Options::default());
        let daemon = Daemon::start(&cluster, &cluster.nodes()[0], &config)?;
        Ok(Self { cluster, config, daemon })
    }

    fn node(&self) -> &Node {
        &self.cluster.nodes()[0]
    }

    fn api(&self) -> Result<Api> {
        Ok(Api::connect(self.daemon.socket())?)
    }

    fn sessions(&self) -> Result<BTreeMap<String, SessionRow>> {
        let rows = self.api()?.sessions(None)?;
        Ok(rows.into_iter().map(|row| (row.session.clone(), row)).collect())
    }

    fn start(&mut self) -> Result<()> {
        self.daemon = Daemon::start(&self.cluster, &self.cluster.nodes()[0], &self.config)?;
        Ok(())
    }

    /// What a daemon says that does not start with this configuration.
    fn refusal(&self, config: &Config) -> Result<String> {
        let before = self.daemon.log();
        if Daemon::start(&self.cluster, self.node(), config).is_ok() {
            bail!("it was taken over: {:?}", self.daemon.log());
        }
        let log = self.daemon.log();
        Ok(log.strip_prefix(&before).unwrap_or(&log).to_owned())
    }

    /// Where the daemon keeps its record.
    fn record(&self) -> PathBuf {
        self.config.state.path.join("a.incarnation")
    }

    /// The folder of the maps.
    fn maps(&self) -> String {
        format!("{BPFFS}/jumpgate/a/maps/v{}-1", dataplane_ebpf::abi::SCHEMA)
    }

    /// Runs something that sees the node's pins.
    fn with_pins<R: Send>(&self, work: impl FnOnce() -> Result<R> + Send) -> Result<R> {
        self.node().mounts().run(self.node().namespace(), work)
    }

    /// The memory of a pinned map.
    fn region<T: Shared>(&self, map: &str) -> Result<Region<T>>
    where
        Region<T>: Send,
    {
        let path = format!("{}/{map}", self.maps());
        self.with_pins(|| {
            let map = MapData::from_pin(path)?;
            let rows = map.info()?.max_entries() as usize;
            Ok(Region::of_map(map.fd().as_fd(), rows)?)
        })
    }
}

/// The session table and the wire ids behind it, in the hands of the test.
struct Table {
    buckets: Region<Bucket>,
    wire_ids: Region<WireIdRow>,
}

impl Table {
    /// The way in which a wire id lies.
    fn way(&self, id: &str) -> Result<usize> {
        let found = (0..self.wire_ids.len()).find(|&way| {
            let row = self.wire_ids.get(way).and_then(WireIdRow::get);
            row.is_some_and(|row| hex(row.bytes()) == id)
        });
        found.with_context(|| format!("{id} is not registered"))
    }

    fn row(&self, way: usize) -> &WireIdRow {
        self.wire_ids.get(way).expect("a row for each way")
    }

    /// Takes the entry of a way out of the table.
    fn remove(&self, way: usize) {
        let bucket = self.buckets.get(way / WAYS).expect("a bucket for each way");
        bucket.remove((way % WAYS) as u8);
    }

    fn free_way(&self) -> usize {
        let bucket = |way: usize| self.buckets.get(way / WAYS).expect("a bucket for each way");
        let free = |&way: &usize| bucket(way).is_free((way % WAYS) as u8);
        (0..self.wire_ids.len()).find(free).expect("the table is nearly empty")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_a_killed_daemon_left_half_done_is_put_right() -> Result<()> {
    require_root!();
    let mut site = Site::new(2)?;
    let service = site.config.services[0].name.clone();
    let mut api = site.api()?;
    // Seven sessions with two ids each, and an off-home row.
    let mut sessions = Vec::new();
    for _ in 0..7 {
        let session = api.open(&service, 1)?.session;
        let second = api.mint(&session)?;
        sessions.push((session, second));
    }
    let row = Request::AddRow {
        service: service.clone(),
        id: "0011223344556677".to_owned(),
        node: "b".to_owned(),
        version: 7,
    };
    api.done(&row, None)?;
    ensure!(api.status()?.entries == 15);
    let before = site.sessions()?;
    site.daemon.kill()?;

    let table = Table { buckets: site.region("SESSIONS")?, wire_ids: site.region("WIRE_IDS")? };
    let [_whole, damaged, half_damaged, closing, removing, opening, foreign] = &sessions[..] else {
        bail!("{sessions:?}");
    };
    // A row that is not what it was: of the SessionID, and of another id.
    for id in [&damaged.0, &half_damaged.1] {
        let row = table.row(table.way(id)?);
        let registered = row.get().context("a row")?;
        let mut bytes = registered.bytes().to_vec();
        bytes[9] ^= 4;
        row.set(&Registered::new(&bytes, registered.service.into(), registered.session).unwrap());
    }
    // Ids whose entries are out of the table already.
    table.remove(table.way(&closing.0)?);
    table.remove(table.way(&removing.1)?);
    // One whose entry is not there yet: a row in a way that is empty. Another without a row.
    let registered = table.row(table.way(&opening.0)?).get().context("a row")?;
    let free = table.free_way();
    table.row(free).set(&registered);
    table.row(table.way(&foreign.1)?).clear();
    drop(table);

    site.start()?;
    let after = site.sessions()?;
    // What is torn in the tables is whole in the store.
    ensure!(after.keys().eq(before.keys()), "{after:?}");
    for (id, session) in &after {
        let mut wanted = before[id].clone();
        // One whose SessionID was out of the table may be on another CPU.
        wanted.cpu = session.cpu;
        ensure!(*session == wanted, "{session:?}, not {wanted:?}");
    }
    let status = site.api()?.status()?;
    ensure!(status.entries == 15 && status.epoch == 1, "{status:?}");
    // Entries without a right row, and the other id of each session whose SessionID is out.
    ensure!(site.daemon.log().contains("are removed removed=5"), "{}", site.daemon.log());

    // All that is left can be used and removed, and leaves nothing.
    let mut api = site.api()?;
    for session in after.keys() {
        api.mint(session)?;
    }
    site.daemon.kill()?;
    site.start()?;
    ensure!(site.daemon.log().matches("are removed").count() == 1, "nothing more to put right");
    let mut api = site.api()?;
    for session in after.keys() {
        api.done(&Request::Close { session: session.clone() }, None)?;
    }
    let id = "0011223344556677".to_owned();
    api.done(&Request::RemoveRow { service, id }, None)?;
    ensure!(api.status()?.entries == 0 && site.sessions()?.is_empty());
    Ok(())
}

/// Changes the record of a daemon.
fn edit(record: &Path, key: &str, value: Value) -> Result<()> {
    let mut text: Value = serde_json::from_slice(&fs::read(record)?)?;
    text[key] = value;
    Ok(fs::write(record, text.to_string())?)
}

#[test]
fn what_does_not_fit_is_refused_with_the_reason_and_left_as_it_is() -> Result<()> {
    require_root!();
    let mut site = Site::new(2)?;
    let service = site.config.services[0].name.clone();
    let session = site.api()?.open(&service, 0)?.session;
    site.daemon.kill()?;
    let record = fs::read(site.record())?;

    let mut refused = Vec::new();
    let mut expect = |config: &Config, reason: &str| -> Result<()> {
        let said = site.refusal(config)?;
        let is_said = said.contains(reason) && said.contains("`jumpgate run --fresh`");
        ensure!(is_said, "{reason:?} is not the reason: {said}");
        refused.push(said);
        Ok(())
    };
    // Another configuration.
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = site.config.clone();
        change(&mut config);
        config
    };
    let capacity = with(&|config| {
        config.sessions.as_mut().expect("it is set").capacity = Some(100_000);
    });
    expect(&capacity, "`sessions.capacity` is another one")?;
    let cpus = with(&|config| config.sessions.as_mut().expect("it is set").cpus = Some(vec![1]));
    expect(&cpus, "`sessions.cpus` was [0, 1] and is [1] now")?;
    let queue = with(&|config| config.sessions.as_mut().expect("it is set").queue = Some(64));
    expect(&queue, "`sessions.queue` was 2048 for CPU 0 and is 64 now")?;
    let other = with(&|config| config.services[0].port += 9);
    expect(&other, &format!("service {service:?} was another one"))?;
    let renamed = with(&|config| config.services[0].name = "renamed".to_owned());
    expect(&renamed, "service \"renamed\" was another one")?;
    let fewer = with(&|config| drop(config.services.pop()));
    expect(&fewer, "service number 2 was another one, or is gone")?;
    let seed = with(&|config| config.cluster.hash_seed ^= 1);
    expect(&seed, &format!("service {service:?} was another one"))?;
    let pins = with(&|config| config.pins.enabled = Some(false));
    expect(&pins, "`pins.enabled` is false now")?;
    let index = with(&|config| config.nodes[0].index = 9);
    expect(&index, "they are those of node index 1, and this node's is 9")?;

    // Another record.
    let own = &site.config;
    edit(&site.record(), "boot", json!("00000000-0000-0000-0000-000000000000"))?;
    expect(own, "is of another boot of this machine")?;
    fs::write(site.record(), &record)?;
    edit(&site.record(), "schema", json!(0))?;
    let other = format!("their layout has version 0, and this daemon's has version {SCHEMA}");
    expect(own, &other)?;
    fs::write(site.record(), "nonsense")?;
    expect(own, "the record of them cannot be read")?;
    fs::remove_file(site.record())?;
    expect(own, "there is no record of them")?;
    fs::write(site.record(), &record)?;
    edit(&site.record(), "epoch", json!(2))?;
    expect(own, "of epoch 2, but the store has this node in epoch 1")?;
    fs::write(site.record(), &record)?;
    edit(&site.record(), "folder", json!("/sys/fs/bpf/elsewhere"))?;
    expect(own, "names the folder /sys/fs/bpf/elsewhere, which is not there")?;
    let mut text: Value = serde_json::from_slice(&record)?;
    text["maps"]["LOCAL"] = json!(1);
    fs::write(site.record(), text.to_string())?;
    expect(own, "map LOCAL is not the one that was pinned there")?;
    fs::write(site.record(), &record)?;

    // Another map, and none.
    let (path, aside) = (format!("{}/NODES", site.maps()), format!("{}/ASIDE", site.maps()));
    let (links, target) = (format!("{}/LINKS", site.maps()), path.clone());
    site.with_pins(|| Ok(fs::rename(&path, &aside)?))?;
    expect(own, "map NODES cannot be opened")?;
    site.with_pins(|| Ok(MapData::from_pin(&links)?.pin(&target)?))?;
    expect(own, "map NODES has the number of rows 16, this daemon needs 4096")?;
    site.with_pins(|| Ok(fs::rename(&aside, &path)?))?;

    // Nothing of that has changed anything.
    ensure!(refused.len() == 18, "{}", refused.len());
    site.start()?;
    let status = site.api()?.status()?;
    ensure!(status.epoch == 1 && status.sessions == 1 && status.fence_open_ms > 0, "{status:?}");
    ensure!(site.sessions()?.contains_key(&session));
    Ok(())
}
