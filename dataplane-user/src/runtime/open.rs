//! What applications ask: sessions are opened, bound and ended.

use super::{Notice, Runtime, Subscription, Turn, change::Unchanged, settings::service_number};
use crate::node::{Entering, FIRST_OWNED, Refusal};
use ownership::{
    Epoch, SessionId, StateVersion,
    baggage::{Baggage, TooManyWireIds},
    control::Credentials,
    model::{Cause, Freshness, Input, Nonce, Reattach, State, birth},
    pending::{NotDone, Pending},
    store::{
        BaggageRow, DirectoryWrite, OffHomeRow, Outcome, SessionWrite, Sessions, Store, WireId,
    },
    takeover::Knowledge,
    transfer::ContextLimit,
};
use std::{net::SocketAddr, sync::Arc};

/// How often the id of a new session is drawn again, because the placement has changed meanwhile.
const TRIES: usize = 4;

/// A session that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The service's name.
    pub service: String,
    /// The CPU that will process it; any if it is none.
    pub cpu: Option<u32>,
    /// The client to bind it to at once.
    pub client: Option<SocketAddr>,
    /// What the application leaves for itself.
    pub context: Vec<u8>,
}

/// A session that was opened.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The session.
    pub session: SessionId,
    /// The epoch of its owner.
    pub epoch: Epoch,
    /// Its state_version.
    pub version: StateVersion,
    /// What its client needs to reattach it.
    pub credentials: Credentials,
}

impl Runtime {
    /// Opens a session: mints its id in a slot of this node's own, makes the session, binds it to a client if
    /// there is one, and only then publishes it.
    ///
    /// # Errors
    ///
    /// If the node has no slots or no room, may not act, or the store does not take it.
    pub async fn open(self: &Arc<Self>, open: Open) -> Result<Opened, Refusal> {
        let place = self.node().find_service(&open.service)?;
        let service = service_number(&open.service);
        let client = open.client.map(|client| self.node().checked_client(place, client));
        let client = client.transpose()?;
        if let Some(cpu) = open.cpu {
            self.node().check_cpu(cpu)?;
        }
        self.check_context(&open.context)?;
        let session = self.give_birth(place, service).await?;
        let stored = self.owned(session).ok_or(Unchanged::NotOwned)?.stored;
        let entering = Entering {
            session,
            service: place,
            cpu: open.cpu,
            version: stored.record.version(),
            owned_since: FIRST_OWNED,
            client: None,
            wire_ids: Vec::new(),
        };
        let turn = self.turn(session).ok_or(Unchanged::NotOwned)?;
        let opened = self.finish_opening(&turn, &entering, client, open.context).await;
        if opened.is_err() {
            let _as_it_was = self.change(&turn, Input::Terminate { cause: Cause::Request }).await;
        }
        opened
    }

    async fn finish_opening(
        self: &Arc<Self>,
        turn: &Turn,
        entering: &Entering,
        client: Option<SocketAddr>,
        context: Vec<u8>,
    ) -> Result<Opened, Refusal> {
        if !context.is_empty() {
            self.pack(turn.session, |mine| Ok(mine.with_context(context.into()))).await?;
        }
        if let Some(client) = client {
            self.change(turn, Input::Attach { transport: client.into() }).await?;
        }
        let record = self.stored(turn).record;
        let (version, client) = (record.version(), record.transport().map(Into::into));
        self.node().enter(&Entering { version, client, ..entering.clone() })?;
        let secrets = self.secrets();
        Ok(Opened {
            session: record.id(),
            epoch: record.owner().epoch,
            version,
            credentials: secrets.current().credentials(record.id(), record.key_generation()),
        })
    }

    /// The birth of a session, in the books only: the tables have it once it is whole.
    async fn give_birth(
        self: &Arc<Self>,
        place: usize,
        service: u64,
    ) -> Result<SessionId, Refusal> {
        for _ in 0..TRIES {
            let (session, revision) = {
                let session = self.node().draw_session(place)?;
                let books = self.books();
                let row = books.placing.row.as_ref().ok_or(Refusal::NoSlots)?;
                (session, row.revision)
            };
            let commit = birth(session, service, &self.context(service));
            let write = SessionWrite::birth(&commit, self.by, revision).map_err(Unchanged::Bad)?;
            // Nobody else on this node takes it in before that is known.
            if !self.books().begin(session) {
                continue;
            }
            let carried = self.carry(session, Pending::new(write), || None, |_| {}).await;
            if let Ok(done) = &carried {
                self.own(done.after(), Knowledge::Written);
            }
            self.books().finish(session);
            match carried {
                Ok(_) => return Ok(session),
                Err(NotDone::Lost(_)) => {
                    // The placement is another one by now.
                    if let Err(fault) = self.follow_placement().await {
                        return Err(Unchanged::from(fault).into());
                    }
                }
                Err(NotDone::Fenced) => {
                    self.fenced();
                    return Err(Unchanged::NotDone(NotDone::Fenced).into());
                }
                Err(why) => return Err(Unchanged::NotDone(why).into()),
            }
        }
        Err(Refusal::NoSlots)
    }

    /// Binds a session to a client, whom the application vouches for.
    ///
    /// # Errors
    ///
    /// If the node does not own it, or the model refuses it: a session that moves is bound to nobody new.
    pub async fn bind(
        self: &Arc<Self>,
        session: SessionId,
        client: SocketAddr,
    ) -> Result<StateVersion, Refusal> {
        let turn = self.turn_of(session).await?;
        let record = self.stored(&turn).record;
        let place = self.settings.place(record.service()).ok_or(Unchanged::NotOwned)?;
        let transport = self.node().checked_client(place, client)?.into();
        let input = match record.state() {
            State::Attached(bound) if bound == transport => return Ok(record.version()),
            State::Birth => Input::Attach { transport },
            State::Attached(_) | State::Recovering { .. } | State::Terminated(_) => {
                let last = record.accepted().map_or(0, |accepted| accepted.nonce.get());
                let nonce = Nonce::new(last.saturating_add(1));
                debug_assert_eq!(record.replay().freshness(nonce), Freshness::Fresh);
                Input::Reattach(Reattach {
                    version: record.version(),
                    nonce,
                    transport,
                    key_generation: record.key_generation(),
                })
            }
        };
        Ok(self.change(&turn, input).await?.after().record.version())
    }

    /// The session's transport is lost, says the application.
    ///
    /// # Errors
    ///
    /// If the node does not own it, or it has none.
    pub async fn lose(
        self: &Arc<Self>,
        session: SessionId,
        transport: Option<SocketAddr>,
    ) -> Result<StateVersion, Refusal> {
        let turn = self.turn_of(session).await?;
        let record = self.stored(&turn).record;
        let bound = transport.map(Into::into).or(record.transport());
        let Some(transport) = bound else { return Ok(record.version()) };
        let done = self.change(&turn, Input::LoseTransport { transport }).await?;
        Ok(done.after().record.version())
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// If the node does not own it.
    pub async fn terminate(
        self: &Arc<Self>,
        session: SessionId,
        cause: Cause,
    ) -> Result<(), Refusal> {
        let turn = self.turn_of(session).await?;
        let keys = self.foreign_keys(session);
        self.change(&turn, Input::Terminate { cause }).await?;
        self.forget_off_home(session, keys).await;
        Ok(())
    }

    /// The keys of a session's ids that may have off-home rows.
    fn foreign_keys(&self, session: SessionId) -> Vec<ownership::store::OffHomeKey> {
        let Some(owned) = self.owned(session) else { return Vec::new() };
        let service = owned.stored.record.service();
        let ids = self.node().session_of(session).map(|known| known.wire_ids.clone());
        let ids = ids.unwrap_or_default();
        ids.iter().filter_map(|id| self.off_home_key(service, id)).collect()
    }

    /// Mints a wire id in the slot of a session.
    ///
    /// # Errors
    ///
    /// If the node does not own it or the session has too many.
    pub async fn mint(self: &Arc<Self>, session: SessionId) -> Result<Vec<u8>, Refusal> {
        let turn = self.turn_of(session).await?;
        let bytes = self.node().draw_wire_id(session)?;
        self.add(&turn, &bytes).await?;
        Ok(bytes)
    }

    /// Adds a wire id that the session's peer chose.
    ///
    /// # Errors
    ///
    /// If the node does not own the session, the id lies in another slot and `off_home` does not allow that, or
    /// another session has it.
    pub async fn add_wire_id(
        self: &Arc<Self>,
        session: SessionId,
        id: &[u8],
        off_home: bool,
    ) -> Result<(), Refusal> {
        let turn = self.turn_of(session).await?;
        let (bytes, slot) = self.node().check_wire_id(session, id)?;
        let home = self.node().session_of(session)?.slot;
        if slot != home && !off_home {
            let id = id.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(Refusal::ForeignSlot { id, slot, home });
        }
        let record = self.stored(&turn).record;
        if self.owner_of_slot(slot) != Some(self.me().node)
            && let Some(key) = self.off_home_key(record.service(), &bytes)
        {
            let (owner, since) = (record.owner(), self.node().owned_since(session));
            let version = since.unwrap_or(FIRST_OWNED);
            let row = OffHomeRow { key, session, owner, version };
            if let Err(other) = self.put_off_home(row).await {
                return Err(Refusal::TakenId(other.map(|other| other.to_string())));
            }
        }
        self.add(&turn, &bytes).await
    }

    async fn add(self: &Arc<Self>, turn: &Turn, bytes: &[u8]) -> Result<(), Refusal> {
        let session = turn.session;
        self.node().check_new_wire_id(session, bytes)?;
        let id = WireId::new(bytes).ok_or(Refusal::NoSlots)?;
        self.pack(session, |mine| mine.with_wire_id(id)).await?;
        let entered = self.node().enter_wire_id(session, bytes);
        if entered.is_err() {
            self.unpack_wire_id(session, bytes).await?;
        }
        entered
    }

    /// Removes a wire id; the SessionID itself stays.
    ///
    /// # Errors
    ///
    /// If the session has no such id.
    pub async fn remove_wire_id(
        self: &Arc<Self>,
        session: SessionId,
        id: &[u8],
    ) -> Result<(), Refusal> {
        let turn = self.turn_of(session).await?;
        let (bytes, slot) = self.node().check_wire_id(session, id)?;
        self.node().check_removable(session, &bytes)?;
        self.node().leave_wire_id(session, &bytes);
        self.unpack_wire_id(session, &bytes).await?;
        if self.owner_of_slot(slot) != Some(self.me().node) {
            let service = self.stored(&turn).record.service();
            let key = self.off_home_key(service, &bytes);
            self.forget_off_home(session, key.into_iter().collect()).await;
        }
        Ok(())
    }

    async fn unpack_wire_id(&self, session: SessionId, bytes: &[u8]) -> Result<(), Unchanged> {
        self.pack(session, |mine| Ok(mine.without_wire_id(bytes))).await
    }

    /// Keeps what the application leaves for itself, or for the one at another node.
    ///
    /// # Errors
    ///
    /// If the node does not own the session, or it is too long.
    pub async fn put_context(
        self: &Arc<Self>,
        session: SessionId,
        context: Vec<u8>,
    ) -> Result<(), Refusal> {
        self.check_context(&context)?;
        let _turn = self.turn_of(session).await?;
        Ok(self.pack(session, |mine| Ok(mine.with_context(context.into()))).await?)
    }

    /// Whether a context is short enough for the store.
    ///
    /// # Errors
    ///
    /// If it is not.
    pub fn check_context(&self, context: &[u8]) -> Result<(), Refusal> {
        let (got, most) = (context.len(), self.context_limit().bytes());
        if got > most { Err(Refusal::ContextTooLong { got, most }) } else { Ok(()) }
    }

    /// How long a context may be.
    pub fn context_limit(&self) -> ContextLimit {
        self.stores.context_limit()
    }

    /// Changes what a session of this node carries besides its record. The caller has the turn.
    pub(super) async fn pack(
        &self,
        session: SessionId,
        change: impl FnOnce(Baggage) -> Result<Baggage, TooManyWireIds> + Send,
    ) -> Result<(), Unchanged> {
        let mut before = self.books().baggage(session).map(|row| BaggageRow::clone(&row));
        if before.is_none() {
            before = self.stores.sessions.baggage(session).await?;
        }
        let baggage = before.as_ref().map(|row| row.baggage.clone()).unwrap_or_default();
        let baggage = change(baggage)?;
        let (write, row) = DirectoryWrite::pack(before.as_ref(), session, baggage, self.by);
        loop {
            match self.stores.sessions.write(write.clone()).await {
                Outcome::Won => break,
                Outcome::Lost(mismatch) => {
                    // An earlier sending of it may have arrived: nobody else writes this row.
                    if self.read(|| self.stores.sessions.baggage(session)).await.as_ref()
                        == Some(&row)
                    {
                        break;
                    }
                    return Err(Unchanged::NotDone(NotDone::Lost(mismatch)));
                }
                Outcome::Fenced => {
                    self.fenced();
                    return Err(Unchanged::NotDone(NotDone::Fenced));
                }
                Outcome::Unavailable(fault) => {
                    self.faulted(fault);
                    return Err(fault.into());
                }
                Outcome::Unknown => tokio::time::sleep(super::AGAIN).await,
            }
        }
        self.books().carry(row);
        Ok(())
    }

    /// The turn of a session for whoever asks, once it is free.
    pub(super) async fn turn_of(self: &Arc<Self>, session: SessionId) -> Result<Turn, Refusal> {
        if !self.is_open() {
            return Err(Refusal::FenceShut);
        }
        let turn = self.next_turn(session).await;
        turn.ok_or_else(|| Refusal::NoSession(session.to_string()))
    }

    /// From now on an application is told of its service's sessions.
    ///
    /// # Errors
    ///
    /// If there is no such service.
    pub fn subscribe(&self, service: &str) -> Result<Subscription, Refusal> {
        self.node().find_service(service)?;
        Ok(self.notices.subscribe(service_number(service)))
    }

    /// The application has quiesced a session, and this is its last context; `None` keeps the one that it has
    /// left before. Whether anybody waits for that.
    pub fn quiesced(&self, session: SessionId, context: Option<Vec<u8>>) -> bool {
        self.notices.answer(session, context)
    }

    /// The application is ready for a session that was granted. Whether anybody waits for that.
    pub fn ready(&self, session: SessionId) -> bool {
        self.notices.answer(session, None)
    }

    /// Tells the applications that a session of theirs has changed by itself.
    pub(super) fn tell_change(&self, session: SessionId) {
        if let Some(owned) = self.owned(session) {
            let record = &owned.stored.record;
            self.notices.tell(Notice::Changed {
                session,
                service: record.service(),
                version: record.version(),
                transport: record.transport(),
            });
        }
    }
}
