//! Where what decides a move is sent, and what is done once it is decided: the strategies' difference.

use super::Runtime;
use ownership::{
    pending::Pending,
    store::{
        BadWrite, Directory, DirectoryWrite, Fault, Outcome, SessionWrite, Sessions, StoredSession,
        TransferRow, TransferWrite,
    },
    transfer::{Decided, Deciding, GivenUp, HandedOff, Inherited},
};

/// What is left to do of a decision in *sticky*: the copy into the node's own store, and then to forget it, if
/// that is safe.
pub(super) type Copy = (Pending<SessionWrite>, Option<DirectoryWrite>);

/// A strategy.
pub(super) trait Carried: Deciding<Row: Send + Sync> + Send + Sync + 'static {
    fn send(runtime: &Runtime, write: Self) -> impl Future<Output = Outcome> + Send;

    /// The row that tells what became of a session that was frozen so.
    fn look(
        runtime: &Runtime,
        frozen: StoredSession,
    ) -> impl Future<Output = Result<Option<Self::Row>, Fault>> + Send;

    /// What an earlier process of the node has decided, if that can be seen.
    fn earlier(inherited: &Inherited, row: Option<Self::Row>) -> Option<Decided<Self>>;

    fn copy_of_hand_off(handed_off: &HandedOff<Self>) -> Option<Result<Copy, BadWrite>>;

    fn copy_of_abort(given_up: &GivenUp<Self>) -> Option<Result<Copy, BadWrite>>;
}

impl Carried for SessionWrite {
    async fn send(runtime: &Runtime, write: Self) -> Outcome {
        runtime.send(write).await
    }

    async fn look(
        runtime: &Runtime,
        frozen: StoredSession,
    ) -> Result<Option<StoredSession>, Fault> {
        runtime.stores.sessions.get(frozen.record.id()).await
    }

    fn earlier(_: &Inherited, _: Option<StoredSession>) -> Option<Decided<Self>> {
        // The session's own row has it.
        None
    }

    fn copy_of_hand_off(_: &HandedOff<Self>) -> Option<Result<Copy, BadWrite>> {
        None
    }

    fn copy_of_abort(_: &GivenUp<Self>) -> Option<Result<Copy, BadWrite>> {
        None
    }
}

impl Carried for TransferWrite {
    async fn send(runtime: &Runtime, write: Self) -> Outcome {
        let outcomes = runtime.stores.directory.decide(vec![write]).await;
        outcomes.first().copied().unwrap_or(Outcome::Unknown)
    }

    async fn look(runtime: &Runtime, frozen: StoredSession) -> Result<Option<TransferRow>, Fault> {
        let record = &frozen.record;
        runtime.stores.directory.transfer(record.id(), record.version()).await
    }

    fn earlier(inherited: &Inherited, row: Option<TransferRow>) -> Option<Decided<Self>> {
        row.map(|row| inherited.decided(&row))
    }

    fn copy_of_hand_off(handed_off: &HandedOff<Self>) -> Option<Result<Copy, BadWrite>> {
        Some(handed_off.copy().map(|copy| (copy, handed_off.forget())))
    }

    fn copy_of_abort(given_up: &GivenUp<Self>) -> Option<Result<Copy, BadWrite>> {
        Some(given_up.copy().map(|copy| (copy, given_up.forget())))
    }
}
