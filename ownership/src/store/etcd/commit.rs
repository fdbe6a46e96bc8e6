use super::{
    Inner,
    batch::{Batch, Encoded, Found},
    link::Link,
    trouble::Trouble,
};
use crate::store::{AuditKey, Fault, Key, Outcome, Row, Transaction, Write};
use etcd_client::{Txn, TxnOpResponse, TxnResponse};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

impl Inner {
    /// Does transactions in as few requests as the limits of etcd allow.
    pub(super) async fn commit(&self, transactions: Vec<Transaction>) -> Vec<Outcome> {
        let until = Instant::now() + self.deadline;
        let link = if transactions.iter().all(is_beat) { &self.beats } else { &self.bulk };
        let keys = &self.shared.keys;
        let encoded: Vec<Encoded> =
            transactions.into_iter().map(|transaction| Encoded::new(transaction, keys)).collect();
        let mut outcomes = Outcomes(vec![None; encoded.len()]);
        let mut rest = encoded.iter().enumerate().peekable();
        while let Some((place, one)) = rest.peek().copied() {
            let mut batch = Batch::default();
            while rest.next_if(|(place, one)| batch.take(*place, one).is_ok()).is_some() {}
            if batch.len() > 0 {
                self.commit_batch(link, until, batch, &mut outcomes).await;
            } else {
                let _too_large = one;
                outcomes.0[place] = Some(Outcome::Unavailable(Fault::TooLarge));
                rest.next();
            }
        }
        // None is left out; if one were, nothing would be known of it.
        outcomes.0.into_iter().map(|outcome| outcome.unwrap_or(Outcome::Unknown)).collect()
    }

    /// Does a batch. If something in it is not as compared, nothing of it was done, the answer tells
    /// which of them are Lost, and the others are sent by themselves.
    async fn commit_batch(
        &self,
        link: &Link,
        until: Instant,
        mut batch: Batch<'_>,
        outcomes: &mut Outcomes,
    ) {
        let standing = &self.shared.standing;
        while batch.len() > 0 {
            let asked = match standing.asks() {
                Ok(asked) => asked,
                Err(fault) => return outcomes.all(&batch, Outcome::Unavailable(fault)),
            };
            let request = batch.request(self.shared.keys.of(&self.next_audit_key()));
            let answer = match self.send(link, until, &request).await {
                Ok(answer) => answer,
                Err(Trouble::Unsent | Trouble::NotTaken) => {
                    return outcomes.all(&batch, Outcome::Unavailable(Fault::Unreachable));
                }
                Err(Trouble::NotDone(fault)) => {
                    return outcomes.all(&batch, Outcome::Unavailable(fault));
                }
                Err(Trouble::Full) => {
                    return outcomes.all(&batch, self.was_done(link, until, &batch).await);
                }
                Err(Trouble::Unknown) => return outcomes.all(&batch, Outcome::Unknown),
            };
            let is_done = answer.succeeded();
            let stands = match batch.begins().filter(|_| is_done) {
                Some(generation) => standing.stands(asked, generation, answer.header()),
                None => standing.answered(asked, answer.header()),
            };
            match (is_done, stands) {
                (true, Ok(())) => return outcomes.all(&batch, Outcome::Won),
                // Done in a store that must not be used, and undone with it, perhaps.
                (true, Err(_)) => return outcomes.all(&batch, Outcome::Unknown),
                (false, Err(_)) => return outcomes.all(&batch, Outcome::Unavailable(Fault::Older)),
                (false, Ok(())) => {}
            }
            let found = found(&batch, &answer);
            let asked_for = batch.len();
            batch = batch.settle(&found, |place, outcome| outcomes.0[place] = Some(outcome));
            if batch.len() == asked_for {
                // etcd says that something is not as compared, and then shows that all is.
                return outcomes.all(&batch, Outcome::Unavailable(Fault::Corrupt));
            }
        }
    }

    /// What became of a batch that etcd had no space for. That is over, one way or the other, so a
    /// read tells.
    async fn was_done(&self, link: &Link, until: Instant, batch: &Batch<'_>) -> Outcome {
        let probe = batch.probe();
        let Ok(asked) = self.shared.standing.asks() else { return Outcome::Unknown };
        let Ok(answer) = self.send(link, until, &probe).await else { return Outcome::Unknown };
        if self.shared.standing.answered(asked, answer.header()).is_err() {
            return Outcome::Unknown;
        }
        if answer.succeeded() && batch.shows() {
            Outcome::Unavailable(Fault::Full)
        } else if !answer.succeeded() && batch.stands(&found(batch, &answer)) {
            Outcome::Won
        } else {
            Outcome::Unknown
        }
    }

    async fn send(&self, link: &Link, until: Instant, txn: &Txn) -> Result<TxnResponse, Trouble> {
        link.write(until, |connection| {
            let txn = txn.clone();
            async move { connection.kv().txn(txn).await }
        })
        .await
    }

    fn next_audit_key(&self) -> Key {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Key::Audit(AuditKey { stream: self.stream, number })
    }
}

/// The outcomes so far, each at the place of its transaction.
struct Outcomes(Vec<Option<Outcome>>);

impl Outcomes {
    fn all(&mut self, batch: &Batch<'_>, outcome: Outcome) {
        for place in batch.places() {
            self.0[place] = Some(outcome);
        }
    }
}

fn found(batch: &Batch<'_>, answer: &TxnResponse) -> Found {
    let reads = batch.asked_keys().into_iter().zip(answer.op_responses());
    reads
        .map(|(key, read)| {
            let row = match read {
                TxnOpResponse::Get(mut read) => read.take_kvs().pop(),
                TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
            };
            (key.to_vec(), row.map(|row| row.into_key_value().1))
        })
        .collect()
}

/// Whether it is a sign of life, and nothing else.
fn is_beat(transaction: &Transaction) -> bool {
    let beats = |write: &Write| matches!(write, Write::Put(Row::Heartbeat(_)));
    !transaction.writes().is_empty() && transaction.writes().iter().all(beats)
}
