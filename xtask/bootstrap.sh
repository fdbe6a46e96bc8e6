#!/bin/sh
# Finds a cargo that is new enough, installs Debian's where there is none, and hands over to
# `cargo xtask`. Usage: sh xtask/bootstrap.sh demo (or any other argument of `cargo xtask`).
set -eu

cd "$(dirname "$0")/.."

# rust-version of the workspace: the oldest Rust that compiles the project.
oldest_minor=$(sed -n 's/^rust-version *= *"1\.\([0-9]*\).*/\1/p' Cargo.toml)

say() { echo "bootstrap: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: run as root: $*"
    fi
}

# Prints the minor version of the Rust that apt offers, or nothing.
offered_minor() {
    apt-cache policy cargo-web 2>/dev/null | sed -n 's/^ *Candidate: 1\.\([0-9]*\).*/\1/p'
}

install_cargo() {
    command -v apt-get >/dev/null || fail "there is no cargo here, and no apt to get it with:" \
        "install rustup with your package manager, then run this again"
    say "there is no cargo: installing Debian's cargo-web (Rust as Debian's browsers need it)"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq update
    minor=$(offered_minor)
    [ "${minor:-0}" -ge "$oldest_minor" ] || fail "apt offers no Rust 1.$oldest_minor or newer" \
        "(cargo-web: ${minor:+1.}${minor:-none}): install rustup, then run this again"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install \
        --no-install-recommends --yes cargo-web gcc libc6-dev ca-certificates >/dev/null
}

# A shell that was open before rustup was installed does not have its directory on the PATH.
PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin"
export PATH

command -v cargo >/dev/null || install_cargo

version=$(cargo --version) || fail "\`cargo --version\` fails: is a toolchain installed?"
minor=$(echo "$version" | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
if [ "${minor:-0}" -lt "$oldest_minor" ]; then
    say "$version is too old: the project needs Rust 1.$oldest_minor or newer"
    if command -v rustup >/dev/null; then
        fail "update it: rustup update stable"
    elif command -v apt-get >/dev/null; then
        fail "replace it by Debian's newer one: apt-get update && apt-get install" \
            "--no-install-recommends cargo-web (it takes the place of the packages cargo and rustc)"
    else
        fail "install rustup with your package manager, or update cargo"
    fi
fi

exec cargo xtask "$@"
