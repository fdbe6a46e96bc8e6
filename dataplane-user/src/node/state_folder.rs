//! The node's own files.

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
    #[error("{path} should hold {expected} but holds {text:?}; restore it")]
    Garbled {
        /// The file.
        path: String,
        /// What should be in it.
        expected: &'static str,
        /// What is in it.
        text: String,
    },
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

    /// What one of the node's files holds, if it is there.
    pub(crate) fn read(&self, what: &str) -> Result<Option<String>, StateError> {
        let path = self.file(what);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::io(&path)(error)),
        }
    }

    /// That one of the node's files makes no sense.
    pub(crate) fn garbled(&self, what: &str, expected: &'static str, text: String) -> StateError {
        StateError::Garbled { path: self.file(what).display().to_string(), expected, text }
    }

    /// One of the node's files.
    pub(super) fn file(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", self.node))
    }

    /// Writes one of the node's files anew. It is on the disk before this returns.
    pub(crate) fn replace(&self, what: &str, text: &str) -> Result<(), StateError> {
        let path = self.file(what);
        let write = || {
            // Several files are written at a time.
            let new = self.file(&format!("{what}.new"));
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
    fn one_daemon_at_a_time_has_the_files() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::open(folder.path(), "a").unwrap();
        state.replace("what", "text\n").unwrap();
        let second = StateFolder::open(folder.path(), "a").unwrap_err();
        assert!(matches!(second, StateError::Locked(_)), "{second}");
        drop(state);
        let state = StateFolder::open(folder.path(), "a").unwrap();
        assert_eq!(state.read("what").unwrap().as_deref(), Some("text\n"));
        assert_eq!(state.read("nothing").unwrap(), None);
    }
}
