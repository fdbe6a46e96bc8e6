//! Lines on stdout, which may be a pipe that somebody closes: `jumpgate sessions | head`.

use anyhow::{Context, Result};
use std::{
    fmt::Arguments,
    io::{self, Write},
};
use thiserror::Error;

/// Nobody reads any more: no failure, but nothing is left to do.
#[derive(Clone, Copy, Debug, Error)]
#[error("nobody reads the output")]
pub struct Closed;

/// Prints like `println!`, and fails where that panics.
macro_rules! say {
    () => {
        $crate::output::line(format_args!(""))
    };
    ($($arguments:tt)*) => {
        $crate::output::line(format_args!($($arguments)*))
    };
}
pub(crate) use say;

/// Prints a line.
pub fn line(arguments: Arguments<'_>) -> Result<()> {
    match writeln!(io::stdout().lock(), "{arguments}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        result => result.context("writing to stdout"),
    }
}
