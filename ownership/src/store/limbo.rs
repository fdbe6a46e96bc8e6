use super::{Outcome, Tables, Transaction};
use std::collections::VecDeque;

/// What becomes of a transaction between a caller and its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// It arrives, and so does the answer.
    Whole,
    /// It arrives, and the answer does not: Unknown, and done if it can be.
    AnswerLost,
    /// It does not arrive: Unknown, and not done.
    RequestLost,
    /// It does not arrive yet: Unknown, and done later if it can be then.
    Late,
    /// It is turned away, and the caller told so.
    Refused(super::Fault),
}

/// Tables behind a network that may lose what is sent to them, or keep it for later: how callers are
/// tested for outcomes that stay unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limbo {
    tables: Tables,
    late: VecDeque<Transaction>,
}

impl Limbo {
    /// In front of these tables, with nothing under way.
    pub fn new(tables: Tables) -> Self {
        Self { tables, late: VecDeque::new() }
    }

    /// The tables.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Sends a transaction, and gives what its caller learns.
    pub fn send(&mut self, transaction: &Transaction, delivery: Delivery) -> Outcome {
        match delivery {
            Delivery::Whole => self.tables.apply(transaction),
            Delivery::AnswerLost => {
                let _nobody_learns = self.tables.apply(transaction);
                Outcome::Unknown
            }
            Delivery::RequestLost => Outcome::Unknown,
            Delivery::Late => {
                self.late.push_back(transaction.clone());
                Outcome::Unknown
            }
            Delivery::Refused(fault) => Outcome::Unavailable(fault),
        }
    }

    /// What has not arrived yet.
    pub fn late(&self) -> impl Iterator<Item = &Transaction> {
        self.late.iter()
    }

    /// Lets the one at this place arrive, if there is one, and gives what nobody learns.
    pub fn arrive(&mut self, at: usize) -> Option<Outcome> {
        let transaction = self.late.remove(at)?;
        Some(self.tables.apply(&transaction))
    }
}
