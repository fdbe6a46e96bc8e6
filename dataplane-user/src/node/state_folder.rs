//! The node's own files, and its epoch, which is kept in one while there is no directory to draw it
//! from.

use ownership::{Epoch, EpochsExhausted};
use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The folder where a node keeps what must outlive it, locked for one daemon.
#[derive(Debug)]
pub struct StateFolder {
    folder: PathBuf,
    node: String,
    /// Held for as long as the daemon runs.
    _lock: File,
}

/// Why the state cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Another daemon has it.
    #[error(
        "another daemon runs for this node: it holds {}; stop it first (`jumpgate status` shows \
         its pid)",
        .0.display()
    )]
    Locked(PathBuf),
    /// The file system says no.
    #[error("{path} cannot be used; set state.path to a folder that this user may write to")]
    Io {
        /// The file.
        path: String,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The file makes no sense.
    #[error(
        "{path} should hold the last epoch as a number but holds {text:?}; restore it, or write a \
         number that is higher than every epoch this node ever had"
    )]
    Garbled {
        /// The file.
        path: String,
        /// What is in it.
        text: String,
    },
    /// No epoch is left.
    #[error(transparent)]
    Exhausted(#[from] EpochsExhausted),
}

impl StateError {
    /// What becomes of an error about a file.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |source| Self::Io { path, source }
    }
}

impl StateFolder {
    /// Opens the state of a node and locks it.
    pub fn open(folder: &Path, node: &str) -> Result<Self, StateError> {
        let lock_path = folder.join(format!("{node}.lock"));
        fs::create_dir_all(folder).map_err(StateError::io(folder))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(StateError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked(lock_path)),
            Err(TryLockError::Error(source)) => return Err(StateError::io(&lock_path)(source)),
        }
        Ok(Self { folder: folder.to_owned(), node: node.to_owned(), _lock: lock })
    }

    /// The epoch that was drawn last, if any was.
    pub fn last_epoch(&self) -> Result<Option<Epoch>, StateError> {
        let path = self.file("epoch");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse().ok().and_then(Epoch::new) {
                Some(last) => Ok(Some(last)),
                None => Err(StateError::Garbled { path: path.display().to_string(), text }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::io(&path)(error)),
        }
    }

    /// Draws the next epoch. It is on the disk before this returns, so it is never drawn twice.
    pub fn next_epoch(&self) -> Result<Epoch, StateError> {
        let next = match self.last_epoch()? {
            Some(last) => last.next()?,
            None => Epoch::FIRST,
        };
        self.replace("epoch", &format!("{next}\n"))?;
        Ok(next)
    }

    /// One of the node's files.
    pub(super) fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", self.node))
    }

    /// Writes one of the node's files anew. It is on the disk before this returns.
    pub(super) fn replace(&self, what: &str, text: &str) -> Result<(), StateError> {
        let path = self.file(what);
        let write = || {
            let new = path.with_extension("new");
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(StateError::io(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_over_restarts_and_one_daemon_at_a_time_draws_them() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path(), "a").unwrap();
        assert_eq!(state.next_epoch().unwrap().get(), 1);
        assert_eq!(state.next_epoch().unwrap().get(), 2);
        let second = StateFolder::open(folder.path(), "a").unwrap_err();
        assert!(matches!(second, StateError::Locked(_)), "{second}");
        drop(state);
        let state = StateFolder::open(folder.path(), "a").unwrap();
        assert_eq!(state.next_epoch().unwrap().get(), 3);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.epoch"), "seven\n").unwrap();
        let state = StateFolder::open(folder.path(), "a").unwrap();
        let error = state.next_epoch().unwrap_err();
        assert!(error.to_string().contains("holds \"seven\\n\""), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join("a.epoch")).unwrap(), "seven\n");
    }
}
