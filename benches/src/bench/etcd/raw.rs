//! The writes of the store as somebody would send them who uses an etcd client and nothing else.

use anyhow::{Result, ensure};
use etcd_client::{Client, Compare, CompareOp, Txn, TxnOp};
use ownership::store::{
    AuditKey, AuditRow, Compared, Key, Row, SessionWrite, Transaction, Write, etcd::EtcdConfig,
};
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, Ordering},
};

/// As many writes as fit into one of etcd's transactions: with the fence row's two comparisons, and
/// the audit row.
const TOGETHER: usize = 126;

/// A bare client.
pub struct Raw {
    client: Client,
    prefix: Vec<u8>,
    number: AtomicU64,
}

impl Raw {
    /// Connects to the member that the store is connected to.
    pub async fn connect(config: &EtcdConfig) -> Result<Self> {
        let client = Client::connect(&config.members[..1], None).await?;
        let prefix = config.prefix.clone().into_bytes();
        Ok(Self { client, prefix, number: AtomicU64::new(1) })
    }

    /// Sends a transaction; it must be done.
    pub async fn send(&self, transaction: Txn) -> Result<()> {
        let answer = self.client.kv_client().txn(transaction).await?;
        ensure!(answer.succeeded(), "something was not as compared");
        Ok(())
    }

    /// The transactions that do these writes.
    pub fn transactions(&self, writes: &[SessionWrite]) -> Vec<Txn> {
        writes.chunks(TOGETHER).map(|writes| self.transaction(writes)).collect()
    }

    fn transaction(&self, writes: &[SessionWrite]) -> Txn {
        let transactions: Vec<&Transaction> =
            writes.iter().map(SessionWrite::transaction).collect();
        let mut known = BTreeSet::new();
        let (mut compares, mut reads) = (Vec::new(), Vec::new());
        for condition in transactions.iter().flat_map(|one| one.conditions()) {
            let key = self.key(&condition.key());
            if !known.insert(key.clone()) {
                continue;
            }
            reads.push(TxnOp::get(key.as_slice(), None));
            match condition.compared() {
                Compared::Absent => {
                    compares.push(Compare::create_revision(key, CompareOp::Equal, 0))
                }
                Compared::Equal(row) => compares.push(Compare::value(key, CompareOp::Equal, row)),
                Compared::Within { from, below } => {
                    compares.push(Compare::value(key.as_slice(), CompareOp::Greater, from));
                    if let Some(below) = below {
                        compares.push(Compare::value(key, CompareOp::Less, below));
                    }
                }
            }
        }
        let mut puts: Vec<TxnOp> = transactions
            .iter()
            .flat_map(|one| one.writes())
            .map(|write| match write {
                Write::Put(row) => TxnOp::put(self.key(&row.key()), row.to_bytes(), None),
                Write::Delete(key) => TxnOp::delete(self.key(key), None),
            })
            .collect();
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        // The store draws its streams at random.
        let key = AuditKey { stream: 1, number };
        let entries = transactions.iter().flat_map(|one| one.entries()).cloned().collect();
        let audit = Row::Audit(AuditRow { key, entries }).to_bytes();
        puts.push(TxnOp::put(self.key(&Key::Audit(key)), audit, None));
        Txn::new().when(compares).and_then(puts).or_else(reads)
    }

    fn key(&self, key: &Key) -> Vec<u8> {
        [self.prefix.as_slice(), &key.to_bytes()].concat()
    }
}
