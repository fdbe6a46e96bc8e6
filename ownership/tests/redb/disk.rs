//! A disk that remembers what was written to it, fails when it is told to, and shows what a crash at
//! any point may leave.

use redb::StorageBackend;
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard},
};

/// What was done to a disk.
#[derive(Clone, Debug)]
pub enum Op {
    Write { at: usize, bytes: Vec<u8> },
    SetLength(usize),
    Sync,
}

/// A disk, shared by all who hold it.
#[derive(Clone, Debug, Default)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    content: Vec<u8>,
    ops: Vec<Op>,
    /// The op that fails, and all after it, counted from here on.
    fails_in: Option<usize>,
    /// Whether half of a write that fails is written.
    tears: bool,
}

impl Disk {
    pub fn of(content: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(Inner { content, ..Inner::default() })))
    }

    pub fn content(&self) -> Vec<u8> {
        self.inner().content.clone()
    }

    /// What has been done since the disk was made.
    pub fn ops(&self) -> Vec<Op> {
        self.inner().ops.clone()
    }

    /// How much has been done.
    pub fn count(&self) -> usize {
        self.inner().ops.len()
    }

    /// Lets `ops` more succeed, and none after them until it is repaired.
    pub fn fail_in(&self, ops: usize, tears: bool) {
        let mut inner = self.inner();
        (inner.fails_in, inner.tears) = (Some(ops), tears);
    }

    pub fn repair(&self) {
        self.inner().fails_in = None;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Inner {
    fn fails(&mut self) -> bool {
        match &mut self.fails_in {
            None => false,
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    fn done(&mut self, op: Op) {
        apply(&mut self.content, &op);
        self.ops.push(op);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.inner().content.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.inner();
        let at = usize::try_from(offset).unwrap();
        let bytes = inner.content.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.fails() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inner.done(Op::SetLength(usize::try_from(length).unwrap()));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.fails() {
            return Err(io::Error::other("the disk is gone"));
        }
        inner.done(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut inner = self.inner();
        let at = usize::try_from(offset).unwrap();
        if inner.fails() {
            if inner.tears {
                inner.done(Op::Write { at, bytes: data[..data.len() / 2].to_vec() });
            }
            return Err(io::Error::other("the disk is gone"));
        }
        inner.done(Op::Write { at, bytes: data.to_vec() });
        Ok(())
    }
}

fn apply(content: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write { at, bytes } => {
            let end = at + bytes.len();
            if content.len() < end {
                content.resize(end, 0);
            }
            content[*at..end].copy_from_slice(bytes);
        }
        Op::SetLength(length) => content.resize(*length, 0),
        Op::Sync => {}
    }
}

/// What a disk that held `base` may hold after a crash right behind the first `done` of these ops: of
/// those that no sync followed, all are there, or none, or all but one, or the last is torn.
pub fn after_crash(base: &[u8], ops: &[Op], done: usize) -> Vec<(String, Vec<u8>)> {
    let synced = ops[..done].iter().rposition(|op| matches!(op, Op::Sync)).map_or(0, |at| at + 1);
    let mut safe = base.to_vec();
    ops[..synced].iter().for_each(|op| apply(&mut safe, op));
    let unsynced = &ops[synced..done];
    let with = |which: &dyn Fn(usize) -> bool| {
        let mut content = safe.clone();
        let kept = unsynced.iter().enumerate().filter(|(at, _)| which(*at));
        kept.for_each(|(_, op)| apply(&mut content, op));
        content
    };
    let mut images = vec![(format!("{done} ops, all there"), with(&|_| true))];
    if unsynced.is_empty() {
        return images;
    }
    images.push((format!("{done} ops, unsynced gone"), with(&|_| false)));
    for gone in 0..unsynced.len() {
        images.push((format!("{done} ops, unsynced {gone} gone"), with(&|at| at != gone)));
    }
    if let Some((Op::Write { at, bytes }, before)) = unsynced.split_last() {
        let middle = bytes.len() / 2;
        let torn = [
            ("begun", Op::Write { at: *at, bytes: bytes[..middle].to_vec() }),
            ("ended", Op::Write { at: at + middle, bytes: bytes[middle..].to_vec() }),
        ];
        for (name, op) in torn {
            let mut content = with(&|at| at < before.len());
            apply(&mut content, &op);
            images.push((format!("{done} ops, last only {name}"), content));
        }
    }
    images
}
