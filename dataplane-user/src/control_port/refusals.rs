use crate::runtime::Runtime;
use ownership::{SessionId, StateVersion, model::Reason, reattach::Refused, store::Outcome};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// How many different refusals are told of in one write. Of what is beyond, the reason is told and not the
/// session.
const DISTINCT: usize = 256;

/// How much time lies between two writes: whoever floods us with nonsense does not flood the audit log.
const PAUSE: Duration = Duration::from_secs(1);

/// What was refused and is not in the audit log yet. Of those alike only one is kept, and how many there were.
#[derive(Debug, Default)]
pub struct Refusals {
    waiting: Mutex<Waiting>,
    news: Notify,
}

type Waiting = BTreeMap<Alike, Told>;

/// What those that are alike have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    reason: Reason,
    session: Option<SessionId>,
}

/// What is told of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    /// The version that stood at the last of them.
    stood: Option<StateVersion>,
    count: u32,
}

impl Refusals {
    /// Adds one that is to be told of.
    pub fn add(&self, refused: Refused) {
        let Refused { session, reason, stood } = refused;
        let alike = Alike { reason, session: Some(session) };
        put(&mut self.waiting(), alike, Told { stood, count: 1 });
        self.news.notify_one();
    }

    /// Tells of what was refused as it comes, at most once a second, for as long as it is polled.
    pub async fn tell_all(&self, runtime: &Arc<Runtime>) {
        loop {
            self.news.notified().await;
            self.tell(runtime).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Tells of what waits. What the store does not take waits on.
    pub async fn tell(&self, runtime: &Arc<Runtime>) {
        let told = std::mem::take(&mut *self.waiting());
        if told.is_empty() {
            return;
        }
        for (Alike { reason, session }, Told { stood, count }) in &told {
            let class = reason.class().name();
            let session = session.map(|session| session.to_string());
            let stood = stood.map(StateVersion::get);
            tracing::warn!(class, %reason, session, stood, count, "clients' requests were refused");
        }
        let rows =
            told.iter().map(|(alike, told)| (alike.reason, alike.session, told.stood, told.count));
        match runtime.tell(rows).await {
            Outcome::Won => {}
            Outcome::Unavailable(fault) => {
                tracing::warn!(%fault, "what was refused is not in the audit log yet");
                let mut waiting = self.waiting();
                for (alike, told) in told {
                    put(&mut waiting, alike, told);
                }
                self.news.notify_one();
            }
            // Told again, it would count double.
            outcome @ (Outcome::Unknown | Outcome::Fenced | Outcome::Lost(_)) => {
                tracing::warn!(?outcome, "what was refused may be missing from the audit log");
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put(waiting: &mut Waiting, alike: Alike, more: Told) {
    let has_room = waiting.len() < DISTINCT || waiting.contains_key(&alike);
    let (alike, more) = match has_room {
        true => (alike, more),
        false => (Alike { session: None, ..alike }, Told { stood: None, ..more }),
    };
    let told = waiting.entry(alike).or_insert(Told { stood: more.stood, count: 0 });
    told.stood = more.stood.or(told.stood);
    told.count = told.count.saturating_add(more.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(session: u16, reason: Reason, stood: Option<u64>) -> Refused {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&session.to_be_bytes());
        Refused { session: SessionId::new(id), reason, stood: stood.map(StateVersion::new) }
    }

    #[test]
    fn those_alike_are_counted_and_others_are_not_mixed_up() {
        let refusals = Refusals::default();
        for stood in [Some(3), Some(4), None] {
            refusals.add(refused(1, Reason::StaleVersion, stood));
        }
        refusals.add(refused(1, Reason::BadProof, None));
        refusals.add(refused(2, Reason::StaleVersion, Some(9)));
        let told: Vec<_> = refusals.waiting().iter().map(|(alike, told)| (*alike, *told)).collect();
        let row = |session, reason, stood: Option<u64>, count| {
            let session = Some(refused(session, reason, None).session);
            (Alike { reason, session }, Told { stood: stood.map(StateVersion::new), count })
        };
        let expected = [
            row(1, Reason::StaleVersion, Some(4), 3),
            row(2, Reason::StaleVersion, Some(9), 1),
            row(1, Reason::BadProof, None, 1),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_flood_of_ids_takes_no_more_room_and_none_is_forgotten() {
        let refusals = Refusals::default();
        for session in 0..10_000 {
            refusals.add(refused(session, Reason::BadProof, Some(1)));
            refusals.add(refused(session, Reason::UnknownSession, None));
        }
        let waiting = refusals.waiting();
        assert_eq!(waiting.len(), DISTINCT + 2, "one more for each reason");
        let count = |reason| -> u32 {
            waiting
                .iter()
                .filter(|(alike, _)| alike.reason == reason)
                .map(|(_, told)| told.count)
                .sum()
        };
        assert_eq!((count(Reason::BadProof), count(Reason::UnknownSession)), (10_000, 10_000));
    }
}
