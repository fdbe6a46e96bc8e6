//! Opens sessions.

use super::{Node, Owned, commit::Changed};
use crate::{client::Word, sim::Event};
use ownership::{
    Revision, SessionId,
    client::Memory,
    model::{Input, birth},
    pending::Pending,
    store::SessionWrite,
    takeover::Knowledge,
};
use std::{net::SocketAddr, rc::Rc};

/// How many slots are looked at for one of this node's own.
const TRIES: u16 = 100;

impl Node {
    /// Mints an id in a slot of this node's own, makes the session, and binds the client's address.
    pub(super) async fn open(self: Rc<Self>, client: usize, address: SocketAddr) {
        let Some((session, revision)) = self.mint() else { return };
        if !self.is_open() {
            return;
        }
        // Nobody else on this node takes it in before that is known.
        self.look_into(session, move |node| async move {
            node.give_birth(session, revision, client, address).await;
        });
    }

    async fn give_birth(
        self: &Rc<Self>,
        session: SessionId,
        revision: Revision,
        client: usize,
        address: SocketAddr,
    ) {
        let commit = birth(session, 1, &self.context());
        let write = match SessionWrite::birth(&commit, self.by(), revision) {
            Ok(write) => write,
            Err(bad) => panic!("a birth: {bad}"),
        };
        let pending = Pending::new(write);
        let Ok(done) = self.carry(session, pending, || None, |_| {}).await else {
            return self.machine.kernel.borrow_mut().remove(session);
        };
        self.own(*done.after(), Knowledge::Written);
        let Some(turn) = self.turn(session) else { return };
        let attach = Input::Attach { transport: address.into() };
        let Changed::Done(_) = self.change(&turn, attach).await else { return };
        // Its version may be a later one already.
        let Some(Owned { stored, .. }) = self.owned(session) else { return };
        let record = stored.record;
        if record.is_terminated() {
            return;
        }
        let memory =
            Memory::opened(record.version(), record.owner().epoch, record.key_generation());
        let secrets = self.machine.secrets.borrow();
        let credentials = secrets.current().credentials(session, record.key_generation());
        self.sim.tell("opened", (self.machine.place, client, session));
        let word = Word::Opened { session, memory, credentials, address };
        self.sim.after(0, Event::Word { client, word });
    }

    fn mint(&self) -> Option<(SessionId, Revision)> {
        let placing = self.placing.borrow();
        let applied = placing.applied.as_ref()?;
        let slot = self.sim.draw(|draw| draw.bits()) as u16;
        let slot =
            (0..TRIES).map(|step| slot.wrapping_add(step)).find(|it| applied.may_mint(*it))?;
        let mut bytes = self.sim.draw(|draw| draw.wide()).to_be_bytes();
        bytes[..2].copy_from_slice(&slot.to_be_bytes());
        Some((SessionId::new(bytes), applied.revision()))
    }
}
