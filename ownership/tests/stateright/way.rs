//! The two strategies, as far as a node's driver has to tell them apart.

use crate::shelf::Shelf;
use ownership::{
    SessionId, StateVersion,
    pending::Pending,
    store::{DirectoryWrite, Key, Row, SessionWrite, Transaction, TransferRow, TransferWrite},
    takeover::Strategy,
    transfer::{Decided, Deciding, GivenUp, HandedOff, Inherited},
};

/// A copy into the node's own store, and what is forgotten in the directory after it.
pub type Copy = (Pending<SessionWrite>, Option<DirectoryWrite>);

pub trait Way: Deciding + Into<Transaction> + Send + Sync + 'static {
    const STRATEGY: Strategy;

    /// The row that tells what became of a frozen session.
    fn stands(directory: &Shelf, session: SessionId, frozen: StateVersion) -> Option<Self::Row>;

    /// What has to be copied of a decision.
    fn copy_moved(moved: &HandedOff<Self>) -> Option<Copy>;

    /// What has to be copied of a decision.
    fn copy_given_up(given_up: &GivenUp<Self>) -> Option<Copy>;

    /// What an earlier process has decided, if it is not the record itself that says so.
    fn decided(inherited: &Inherited, row: &Self::Row) -> Option<Decided<Self>>;
}

impl Way for SessionWrite {
    const STRATEGY: Strategy = Strategy::Shared;

    fn stands(directory: &Shelf, session: SessionId, _: StateVersion) -> Option<Self::Row> {
        directory.session(session).copied()
    }

    fn copy_moved(_: &HandedOff<Self>) -> Option<Copy> {
        None
    }

    fn copy_given_up(_: &GivenUp<Self>) -> Option<Copy> {
        None
    }

    fn decided(_: &Inherited, _: &Self::Row) -> Option<Decided<Self>> {
        None
    }
}

impl Way for TransferWrite {
    const STRATEGY: Strategy = Strategy::Sticky;

    fn stands(directory: &Shelf, session: SessionId, frozen: StateVersion) -> Option<TransferRow> {
        match directory.tables().get(&Key::Transfer(session, frozen)) {
            Some(Row::Transfer(row)) => Some(row.clone()),
            _ => None,
        }
    }

    fn copy_moved(moved: &HandedOff<Self>) -> Option<Copy> {
        Some((moved.copy().expect("its own row"), moved.forget()))
    }

    fn copy_given_up(given_up: &GivenUp<Self>) -> Option<Copy> {
        Some((given_up.copy().expect("its own row"), given_up.forget()))
    }

    fn decided(inherited: &Inherited, row: &TransferRow) -> Option<Decided<Self>> {
        Some(inherited.decided(row))
    }
}
