//! What has to be there before anything is made, each with the command that mends its lack.

use anyhow::{Context, Result, ensure};
use dataplane_user::dataplane::object::Object;
use jumpgate_tests::netns::Namespace;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::geteuid;

/// Descriptors: two sockets for each of up to 1,000 clients, and room for all the rest.
const FILES: u64 = 4096;

/// Fails with advice if the demo cannot run here.
pub fn check() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "this needs root, to make network namespaces and to load XDP programs: run `cargo xtask \
         demo`, which asks sudo for it"
    );
    ensure!(
        Object::Daemon.bytes().is_some(),
        "this binary holds no BPF program, because it was built without a BPF toolchain: run `cargo \
         xtask demo`, which sets one up"
    );
    Namespace::new("probe").context(
        "root may make no network namespaces here; in a container that takes `--privileged`",
    )?;
    allow_files().context("allowing this process more open files")
}

fn allow_files() -> nix::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < FILES {
        setrlimit(Resource::RLIMIT_NOFILE, FILES, hard.max(FILES))?;
    }
    Ok(())
}
