//! A file with one line for each event.

use super::{BadLine, EXPORTED_AT_ONCE, Sink, line};
use crate::store::{AuditKey, AuditRow};
use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, Read, Seek, SeekFrom, Write},
    path::Path,
};
use thiserror::Error;

/// How much of the end of a file is looked at first.
const TAIL: u64 = 1 << 20;

/// Events to a file, one line of JSON each, and each row once: what was exported and not trimmed when
/// the exporter stopped is recognised, and half a row is cut off.
#[derive(Debug)]
pub struct JsonLines {
    file: File,
    /// How much of the file is whole rows.
    length: u64,
    /// Whether there may be more in it than that.
    half_written: bool,
    /// The rows at the end of the file: all that may be given again.
    recent: BTreeSet<AuditKey>,
}

impl JsonLines {
    /// Goes on at the end of a file, or begins one.
    ///
    /// # Errors
    ///
    /// If that fails, or the file is no such log.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let (recent, length) = end_of(&mut file)?;
        file.set_len(length)?;
        Ok(Self { file, length, half_written: false, recent })
    }

    /// The greatest key of the rows at the end of the file.
    pub(crate) fn last(&self) -> Option<AuditKey> {
        self.recent.last().copied()
    }
}

impl Sink for JsonLines {
    fn take(&mut self, rows: &[AuditRow]) -> io::Result<()> {
        let new: Vec<_> = rows.iter().filter(|row| !self.recent.contains(&row.key)).collect();
        let mut text = String::new();
        for row in &new {
            for line in line::lines(row) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        // The file must not end in half a row when rows are given again.
        if self.half_written {
            self.file.set_len(self.length)?;
        }
        self.half_written = true;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        self.half_written = false;
        self.length += text.len() as u64;
        self.recent = rows.iter().map(|row| row.key).collect();
        Ok(())
    }
}

/// The last rows of a log, and the length up to the end of the last whole one.
fn end_of(file: &mut File) -> io::Result<(BTreeSet<AuditKey>, u64)> {
    let length = file.metadata()?.len();
    let mut tail = TAIL;
    loop {
        let start = length.saturating_sub(tail);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        Read::by_ref(file).take(length - start).read_to_end(&mut bytes)?;
        let found = rows_in(&bytes, start == 0)?;
        // One row more than can be given again: then all of those are whole in here.
        if start == 0 || found.rows.len() > EXPORTED_AT_ONCE + 1 {
            return Ok((found.rows, start + found.whole as u64));
        }
        tail *= 4;
    }
}

struct Found {
    rows: BTreeSet<AuditKey>,
    /// Where the last whole row ends.
    whole: usize,
}

/// The rows in the end of a log. The first line is half a one unless it is the first of the log.
fn rows_in(bytes: &[u8], from_start: bool) -> io::Result<Found> {
    let first_line = |bytes: &[u8]| bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
    let mut at = if from_start { 0 } else { first_line(bytes).unwrap_or(bytes.len()) };
    let mut found = Found { rows: BTreeSet::new(), whole: at };
    while let Some(length) = first_line(&bytes[at..]) {
        let line = str::from_utf8(&bytes[at..at + length - 1]).map_err(io::Error::other)?;
        at += length;
        let (place, of, _) = line::parse(line).map_err(io::Error::other)?;
        if place.at + 1 == of {
            found.rows.insert(place.row);
            found.whole = at;
        }
    }
    Ok(found)
}

/// Why a log could not be read.
#[derive(Debug, Error)]
pub enum LogError {
    /// The file could not be read.
    #[error("reading the audit log, line {line}: {error}")]
    Io {
        /// The line, from 1 on.
        line: usize,
        /// Why.
        error: io::Error,
    },
    /// A line is no event, or was changed.
    #[error("reading the audit log, line {line}: {error}")]
    Line {
        /// The line, from 1 on.
        line: usize,
        /// Why.
        error: BadLine,
    },
    /// A line of a row is missing, or there twice.
    #[error("reading the audit log: line {line} is not the next one of row {row}")]
    Torn {
        /// The line, from 1 on.
        line: usize,
        /// The row.
        row: AuditKey,
    },
}

/// The rows of a log that [`JsonLines`] wrote. A last line without its end is one that was being
/// written, and left out.
pub fn read_rows(log: impl BufRead) -> impl Iterator<Item = Result<AuditRow, LogError>> {
    Rows { log, line: 0, ended: false }
}

struct Rows<R> {
    log: R,
    line: usize,
    ended: bool,
}

impl<R: BufRead> Rows<R> {
    fn row(&mut self) -> Result<Option<AuditRow>, LogError> {
        let mut row: Option<AuditRow> = None;
        loop {
            let mut text = String::new();
            self.line += 1;
            let line = self.line;
            self.log.read_line(&mut text).map_err(|error| LogError::Io { line, error })?;
            let Some(text) = text.strip_suffix('\n') else { return Ok(None) };
            let (place, of, entry) =
                line::parse(text).map_err(|error| LogError::Line { line, error })?;
            let mut next = row.take().unwrap_or(AuditRow { key: place.row, entries: Vec::new() });
            if (place.row, place.at) != (next.key, next.entries.len()) || place.at >= of {
                return Err(LogError::Torn { line, row: next.key });
            }
            next.entries.push(entry);
            if next.entries.len() == of {
                return Ok(Some(next));
            }
            row = Some(next);
        }
    }
}

impl<R: BufRead> Iterator for Rows<R> {
    type Item = Result<AuditRow, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.row().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}
