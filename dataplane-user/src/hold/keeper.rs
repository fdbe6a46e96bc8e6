//! The keeper: takes held packets out of the ring, and files them until it is known where they belong.

use super::{
    Coming, Hold, Options, Session, Shared,
    books::{Books, Bounds},
    core::Core,
    counts::Totals,
    deliver::Deliverer,
    emit::Emitter,
    marker::Queue,
};
use crate::dataplane::{
    Dataplane,
    inject::{InjectError, Injector},
    services::Delivery,
    sessions::InsertError,
};
use dataplane_ebpf::{
    marker::Token,
    table::{Entry, Place},
    wire_id::Key,
    wire_id_row::Registered,
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long the keeper sleeps between two looks at the ring while anything is held.
pub(super) const TICK: Duration = Duration::from_micros(500);

/// Why a keeper could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// There is one already.
    #[error("the hold ring has its keeper already")]
    Taken,
    /// About its own packets.
    #[error(transparent)]
    Inject(#[from] InjectError),
    /// About its memory or its thread.
    #[error("starting the keeper of held packets failed")]
    Io(#[from] io::Error),
    /// About the sockets to this host.
    #[error("no raw sockets for held packets: they need CAP_NET_RAW")]
    Deliver(#[source] io::Error),
    /// About the socket to other nodes.
    #[error(
        "no socket for held packets at the node's own address {0}; is it an address of this host?"
    )]
    Underlay(IpAddr, #[source] io::Error),
}

/// A key as it was before a session came: its row that led to another node, if there was one.
type Before = (Key, Option<(Entry, u64, Option<Registered>)>);

/// Why sessions could not be held. Nothing has changed then.
#[derive(Debug, Error)]
pub enum HoldError {
    /// A key without an entry that leads to an application here.
    #[error("a wire id of session {0} of those that were to be held is not delivered here")]
    NotHere(usize),
    /// A session stands twice, or is held already.
    #[error("session {0} of those that were to be held is held already")]
    Held(usize),
    /// Packets of the service go past the queues that markers go through.
    #[error(
        "session {0} of those that were to be held is of an AF_XDP service: those cannot be held"
    )]
    AfXdp(usize),
    /// It is not known which sockets there are.
    #[error("reading the sockets of applications failed")]
    Sockets(#[from] io::Error),
    /// The table has no place for a key.
    #[error("session {0} of those that were to be held has no place in the table")]
    Table(usize, #[source] InsertError),
}

/// Keeps the packets of held sessions. One for each data plane; its thread ends when this is dropped,
/// and what still waits is lost then.
pub struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts a keeper, which takes the data plane's ring. Its thread stays in the network namespace
    /// of the calling thread, which must be the node's.
    pub fn start(dataplane: &mut Dataplane, options: &Options) -> Result<Self, StartError> {
        Ok(Self::adopt(dataplane, options, &[])?.0)
    }

    /// Starts a keeper, as [`Keeper::start`] does, over sessions that an earlier daemon held: what it
    /// left of them in the ring is filed, and what comes. What that daemon had filed is gone.
    ///
    /// The markers of the result go nowhere: the sessions are to be released.
    ///
    /// # Panics
    /// When a key stands twice.
    pub fn adopt(
        dataplane: &mut Dataplane,
        options: &Options,
        sessions: &[Session],
    ) -> Result<(Self, Hold), StartError> {
        let tables = dataplane.second_memory()?;
        let injector = Injector::new(dataplane)?;
        let emitter = Emitter::new(options.underlay)
            .map_err(|error| StartError::Underlay(options.underlay, error))?;
        let deliverer = Deliverer::new().map_err(StartError::Deliver)?;
        let ring = dataplane.hold_ring.take().ok_or(StartError::Taken)?;
        let ring = (ring, dataplane.hold_ring_bytes());
        // A keeper that was killed may have left markers behind.
        tables.local_row().set_nonce([0; 2]);
        let mut books = Books::new(options.bounds);
        let open = |session: &Session| {
            let keys = session.keys.iter().map(|key| key.hash).collect();
            (books.open(keys).expect("no key stands twice"), session.clone())
        };
        let opened = sessions.iter().map(open).collect();
        let core = Core::new(books, tables, ring, injector, emitter, deliverer, options.pace);
        let mut addresses = BTreeMap::new();
        for service in &options.services {
            addresses.insert((service.index, false), service.address);
            let control = service.control_port;
            addresses.extend(
                control.map(|port| {
                    ((service.index, true), SocketAddr::new(service.address.ip(), port))
                }),
            );
        }
        let af_xdp = options.services.iter().filter(|service| service.delivery == Delivery::AfXdp);
        let af_xdp = af_xdp.map(|service| service.index).collect();
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            changed: Condvar::new(),
            is_over: AtomicBool::new(false),
            addresses,
            af_xdp,
        });
        let mine = Arc::clone(&shared);
        let thread = thread::Builder::new().name("hold".into()).spawn(move || keep(&mine))?;
        let hold = Hold {
            shared: Arc::clone(&shared),
            thread: thread.thread().clone(),
            sessions: opened,
            queues: BTreeSet::new(),
        };
        Ok((Self { shared, thread: Some(thread) }, hold))
    }

    /// Holds sessions that are delivered here: from now on their packets wait. Those that are on
    /// their way to the application already arrive there ([`Hold::quiet`] waits for them).
    pub fn hold(&self, dataplane: &mut Dataplane, sessions: &[Session]) -> Result<Hold, HoldError> {
        let mut changes = Vec::new();
        for (index, session) in sessions.iter().enumerate() {
            for &key in &session.keys {
                let Some((Entry { place: Place::Local { cpu }, epoch }, version)) =
                    dataplane.get(key)
                else {
                    return Err(HoldError::NotHere(index));
                };
                changes.push((
                    key,
                    Entry { place: Place::Hold { cpu, ours: true }, epoch },
                    version,
                ));
            }
        }
        let hold = self.open(dataplane, sessions)?;
        for (key, entry, version) in changes {
            let changed = dataplane.update(key, entry, version);
            debug_assert!(changed, "it was there");
        }
        Ok(hold)
    }

    /// Holds sessions that come here from another node: enters them at `version`, under this node's
    /// `epoch`, and keeps their packets from the first one on. They are this node's only when they
    /// are released here. Rows of an older version that lead to
    /// another node give way: the session was there before, or is off its slot's home.
    ///
    /// # Panics
    /// When a session has not as many wire ids as keys.
    pub fn expect(
        &self,
        dataplane: &mut Dataplane,
        coming: &[Coming],
        epoch: u32,
        version: u64,
    ) -> Result<Hold, HoldError> {
        let sessions: Vec<_> = coming.iter().map(|coming| coming.session.clone()).collect();
        let hold = self.open(dataplane, &sessions)?;
        let mut entered: Vec<Before> = Vec::new();
        for (index, Coming { session, wire_ids }) in coming.iter().enumerate() {
            assert_eq!(session.keys.len(), wire_ids.len(), "of session {index}");
            let entry = Entry { place: Place::Hold { cpu: session.cpu, ours: false }, epoch };
            for (&key, registered) in session.keys.iter().zip(wire_ids) {
                match enter(dataplane, key, entry, version, registered) {
                    Ok(before) => entered.push((key, before)),
                    Err(error) => {
                        leave(dataplane, entered);
                        hold.discard();
                        return Err(HoldError::Table(index, error));
                    }
                }
            }
        }
        Ok(hold)
    }

    /// Opens the books for sessions.
    fn open(&self, dataplane: &Dataplane, sessions: &[Session]) -> Result<Hold, HoldError> {
        let thread = self.thread.as_ref().expect("it runs until this is dropped").thread().clone();
        let mut queues = BTreeSet::new();
        let mut sockets = BTreeMap::new();
        for (index, session) in sessions.iter().enumerate() {
            if self.shared.af_xdp.contains(&session.service) {
                return Err(HoldError::AfXdp(index));
            }
            for control in [false, true] {
                let service = session.service;
                let sockets = match sockets.entry((service, control)) {
                    btree_map::Entry::Occupied(known) => known.into_mut(),
                    btree_map::Entry::Vacant(place) => {
                        place.insert(dataplane.sockets(service, control)?)
                    }
                };
                // Not its own CPU's only: what came before the session was opened, or had this wire
                // id, was spread by its hash.
                queues.extend(sockets.iter().map(|&cpu| Queue { service, control, cpu }));
            }
        }
        let mut core = self.shared.core();
        let mut opened = Vec::with_capacity(sessions.len());
        for (index, session) in sessions.iter().enumerate() {
            match core.books.open(session.keys.iter().map(|key| key.hash).collect()) {
                Some(id) => opened.push((id, session.clone())),
                None => {
                    for (id, _) in opened {
                        core.books.close(id);
                    }
                    return Err(HoldError::Held(index));
                }
            }
        }
        drop(core);
        thread.unpark();
        let shared = Arc::clone(&self.shared);
        Ok(Hold { shared, thread, sessions: opened, queues })
    }

    /// Notes that an application has read a marker: call it when
    /// [`recognise`](dataplane_ebpf::marker::recognise) has found one in a datagram. Whether
    /// somebody waits for it; a marker may be sent more than once, and whoever wants can make a
    /// datagram that looks like one.
    pub fn acknowledge(&self, token: Token) -> bool {
        let known = self.shared.core().markers.acknowledge(token);
        self.shared.changed.notify_all();
        known
    }

    /// Bounds what is held from now on, and how many packets that waited are sent in a second.
    pub fn set_bounds(&self, bounds: Bounds, pace: u32) {
        let mut core = self.shared.core();
        core.books.set_bounds(bounds);
        core.set_pace(pace);
    }

    /// What is held, and what became of all that was.
    pub fn totals(&self) -> Totals {
        self.shared.core().books.totals()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It panics only if a caller has, with the lock in its hand.
            let _ = thread.join();
            let Totals { waiting, unclaimed, .. } = self.totals();
            if waiting > 0 || unclaimed > 0 {
                tracing::warn!(waiting, unclaimed, "packets that were held are lost");
            }
        }
    }
}

/// Enters a key of a session that comes; what was there before.
fn enter(
    dataplane: &mut Dataplane,
    key: Key,
    entry: Entry,
    version: u64,
    registered: &Registered,
) -> Result<Option<(Entry, u64, Option<Registered>)>, InsertError> {
    if let Some((row, known)) = dataplane.get(key)
        && matches!(row.place, Place::Remote { .. })
        && known < version
    {
        let before = (row, known, dataplane.registered(key));
        let changed = dataplane.update_registered(key, entry, version, Some(registered));
        debug_assert!(changed, "it was there");
        return Ok(Some(before));
    }
    dataplane.register(key, entry, version, registered).map(|()| None)
}

/// Puts back what was there before.
fn leave(dataplane: &mut Dataplane, entered: Vec<Before>) {
    // The last first: the SessionID, which the others need, came first.
    for (key, before) in entered.into_iter().rev() {
        match before {
            Some((row, version, registered)) => {
                dataplane.update_registered(key, row, version, registered.as_ref());
            }
            None => {
                dataplane.remove(key);
            }
        }
    }
}

/// The keeper's thread: looks at the ring as long as anything is held, and sleeps otherwise.
fn keep(shared: &Shared) {
    while !shared.is_over.load(Ordering::Relaxed) {
        let mut core = shared.core();
        let more = core.turn(Instant::now());
        let idle = core.books.is_empty() && core.markers.is_empty();
        drop(core);
        shared.changed.notify_all();
        match (more, idle) {
            (true, _) => thread::yield_now(),
            (false, true) => thread::park(),
            (false, false) => thread::park_timeout(TICK),
        }
    }
}
