//! The node's epoch, kept in a file while there is no directory to draw it from.

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
    epoch: PathBuf,
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

impl StateFolder {
    /// Opens the state of a node and locks it.
    pub fn open(folder: &Path, node: &str) -> Result<Self, StateError> {
        let lock_path = folder.join(format!("{node}.lock"));
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |source| StateError::Io { path, source }
        };
        fs::create_dir_all(folder).map_err(io(folder))?;
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Locked(lock_path)),
            Err(TryLockError::Error(source)) => return Err(io(&lock_path)(source)),
        }
        Ok(Self { epoch: folder.join(format!("{node}.epoch")), _lock: lock })
    }

    /// Draws the next epoch. It is on the disk before this returns, so it is never drawn twice.
    pub fn next_epoch(&self) -> Result<Epoch, StateError> {
        let io = |source| StateError::Io { path: self.epoch.display().to_string(), source };
        let next = match fs::read_to_string(&self.epoch) {
            Ok(text) => {
                let last = text.trim().parse().ok().and_then(Epoch::new);
                let garbled =
                    || StateError::Garbled { path: self.epoch.display().to_string(), text };
                last.ok_or_else(garbled)?.next()?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Epoch::FIRST,
            Err(error) => return Err(io(error)),
        };
        self.write(next).map_err(io)?;
        Ok(next)
    }

    fn write(&self, epoch: Epoch) -> io::Result<()> {
        let new = self.epoch.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{epoch}")?;
        file.sync_all()?;
        fs::rename(&new, &self.epoch)?;
        let folder = self.epoch.parent().expect("the file is in a folder");
        File::open(folder)?.sync_all()
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
