//! Kernel settings of a network namespace.

use std::fs;

use anyhow::{Context, Result};

use crate::netns::Namespace;

/// Writes settings, each a path under `/proc/sys/net` with its value.
///
/// `/proc/sys/net` shows the namespace of the thread that opens a file there, so the writes happen
/// on a thread inside. Settings under `conf/default` reach only links made afterwards.
pub fn write(namespace: &Namespace, settings: &[(&str, &str)]) -> Result<()> {
    namespace.run(|| {
        for (key, value) in settings {
            fs::write(path(key), value)
                .with_context(|| format!("setting {key} to {value} in {}", namespace.name()))?;
        }
        Ok(())
    })
}

/// Reads a setting, without its newline.
pub fn read(namespace: &Namespace, key: &str) -> Result<String> {
    let value = namespace.run(|| fs::read_to_string(path(key)));
    let value = value.with_context(|| format!("reading {key} in {}", namespace.name()))?;
    Ok(value.trim_end().to_owned())
}

fn path(key: &str) -> String {
    format!("/proc/sys/net/{key}")
}
