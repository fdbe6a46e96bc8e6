//! The listening socket and its file.

use nix::{
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, socket,
    },
    unistd::{Gid, chown},
};
use std::{
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

/// The file of a listening socket; it goes when this is dropped, unless another is in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// The permissions of the socket's file.
    pub mode: u32,
    /// Its group; this process's if it is none.
    pub group: Option<Gid>,
}

/// Listens at a path. A socket that is there already is replaced, any other file is left alone.
pub fn listen_at(path: &Path, kind: SockType, access: Access) -> io::Result<(OwnedFd, SocketFile)> {
    let (listener, file) = make_socket(path, kind)?;
    if access.group.is_some() {
        chown(path, None, access.group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(access.mode))?;
    // Only now can anybody connect: nobody does with the permissions of before.
    listen(&listener, Backlog::new(64)?)?;
    Ok((listener, file))
}

/// The socket and its file, before anybody can connect.
pub fn make_socket(path: &Path, kind: SockType) -> io::Result<(OwnedFd, SocketFile)> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    remove_old(path)?;
    let socket = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)? };
    Ok((socket, file))
}

/// Waits for a connection.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel has just made the descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn remove_old(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(data) if data.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "a file that is no socket is there, and is left alone",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A file's device and inode.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let data = fs::symlink_metadata(path)?;
    Ok((data.dev(), data.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = identity(&self.path).is_ok_and(|identity| identity == self.identity);
        if !ours {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "removing the socket's file failed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen_with(path: &Path, mode: u32) -> io::Result<(OwnedFd, SocketFile)> {
        listen_at(path, SockType::SeqPacket, Access { mode, group: None })
    }

    #[test]
    fn only_a_socket_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.sock");
        fs::write(&path, "precious").expect("written");
        let error = listen_with(&path, 0o600).expect_err("refused");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        make_socket(&path, SockType::Stream).expect_err("refused");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "precious");
        fs::remove_file(&path).expect("removed");

        let (_old, old_file) = listen_with(&path, 0o600).expect("listening");
        let (_new, new_file) = listen_with(&path, 0o640).expect("listening");
        assert_eq!(fs::metadata(&path).expect("it is there").mode() & 0o777, 0o640);
        drop(old_file);
        assert!(path.exists(), "it is another's");
        drop(new_file);
        assert!(!path.exists());
    }
}
