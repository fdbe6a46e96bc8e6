//! Child processes that never outlive this one.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

/// Lets the command's process enter a namespace of the given kind before it starts its program.
pub(crate) fn enter(command: &mut Command, namespace: Arc<OwnedFd>, kind: CloneFlags) {
    // SAFETY: runs between fork and exec; it makes one system call on a descriptor that the
    // closure owns, and neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || Ok(setns(&*namespace, kind)?));
    }
}

/// Lets the kernel kill the command's process when the thread that started it ends.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: runs between fork and exec; it makes two system calls and neither allocates nor
    // takes a lock.
    unsafe {
        command.pre_exec(move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // A parent that died before the call above sends no signal any more.
            if getppid().as_raw() as u32 == parent {
                Ok(())
            } else {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        });
    }
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a command from a thread that lives as long as the process.
///
/// The kernel's parent-death signal follows the *thread* that forked. A child started here dies
/// with the process, and not earlier with a test's thread.
pub fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, answer) in inbox {
                // Nobody waits for the answer only if the caller's thread is gone.
                let _ = answer.send(command.spawn());
            }
        });
        requests
    });
    let (answer, result) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts children is gone");
    spawner.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}
