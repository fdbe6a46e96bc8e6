//! Questions to daemons, on a thread of their own: a daemon that is slow or hangs must neither stop the clients
//! nor keep the demo from ending.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// How long the last answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// One question, asked again and again.
#[derive(Debug)]
pub struct Ask<T> {
    questions: Sender<()>,
    answers: Receiver<Result<T>>,
    asked: bool,
    last: Option<T>,
}

impl<T: Clone + Send + 'static> Ask<T> {
    /// What finds an answer.
    pub fn new(mut answer: impl FnMut() -> Result<T> + Send + 'static) -> Self {
        let (questions, inbox) = mpsc::channel();
        let (outbox, answers) = mpsc::channel();
        // It ends when either channel's other end is gone.
        thread::spawn(move || {
            for () in inbox {
                if outbox.send(answer()).is_err() {
                    return;
                }
            }
        });
        Self { questions, answers, asked: false, last: None }
    }

    /// The newest answer that is known without waiting, if there is one yet; asks for a newer one.
    pub fn glance(&mut self) -> Result<Option<T>> {
        if let Ok(answer) = self.answers.try_recv() {
            self.asked = false;
            self.last = Some(answer?);
        }
        self.ask()?;
        Ok(self.last.clone())
    }

    /// The answer of now.
    pub fn read(&mut self) -> Result<T> {
        if self.asked {
            // Of a moment ago.
            self.answer()?;
        }
        self.ask()?;
        self.answer()
    }

    fn ask(&mut self) -> Result<()> {
        if !self.asked {
            self.questions.send(()).context("the thread that asks daemons is gone")?;
            self.asked = true;
        }
        Ok(())
    }

    fn answer(&mut self) -> Result<T> {
        let answer = self.answers.recv_timeout(PATIENCE);
        self.asked = false;
        answer.with_context(|| format!("a daemon does not answer within {PATIENCE:?}"))?
    }
}
