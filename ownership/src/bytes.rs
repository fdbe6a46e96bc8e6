//! Writing and reading fields one behind the other. Numbers are big-endian.

use crate::{
    Epoch, NodeIndex, SessionId, StateVersion,
    audit::Head,
    model::{OperationId, Owner, Time, Transport},
};
use std::time::Duration;

/// Bytes that are being written.
#[derive(Default)]
pub(crate) struct Out(pub Vec<u8>);

/// The name of a field whose bytes have no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad(pub &'static str);

/// Bytes that are being read. Every read says what it is for.
#[derive(Clone, Copy)]
pub(crate) struct In<'a>(pub &'a [u8]);

impl Out {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, number: u8) -> &mut Self {
        self.bytes(&[number])
    }

    pub(crate) fn u16(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn u32(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, number: u64) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn u128(&mut self, number: u128) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(crate) fn time(&mut self, time: Time) -> &mut Self {
        self.u64(time.millis())
    }

    pub(crate) fn span(&mut self, span: Duration) -> &mut Self {
        self.u64(span.as_secs()).u32(span.subsec_nanos())
    }

    pub(crate) fn node(&mut self, node: NodeIndex) -> &mut Self {
        self.u16(node.get())
    }

    pub(crate) fn owner(&mut self, owner: Owner) -> &mut Self {
        self.node(owner.node).u32(owner.epoch.get())
    }

    pub(crate) fn session(&mut self, session: SessionId) -> &mut Self {
        self.bytes(&session.bytes())
    }

    pub(crate) fn version(&mut self, version: StateVersion) -> &mut Self {
        self.u64(version.get())
    }

    pub(crate) fn transport(&mut self, transport: Transport) -> &mut Self {
        self.bytes(&transport.bytes())
    }

    pub(crate) fn operation(&mut self, operation: OperationId) -> &mut Self {
        self.u128(operation.0)
    }

    pub(crate) fn head(&mut self, head: Head) -> &mut Self {
        self.bytes(&head.bytes())
    }
}

impl<'a> In<'a> {
    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Bad> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Bad(what))?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn bytes(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Bad> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Bad(what))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// Nothing must be left.
    pub(crate) fn end(self) -> Result<(), Bad> {
        if self.0.is_empty() { Ok(()) } else { Err(Bad("end")) }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, Bad> {
        self.array(what).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, Bad> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, Bad> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, Bad> {
        self.array(what).map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self, what: &'static str) -> Result<u128, Bad> {
        self.array(what).map(u128::from_be_bytes)
    }

    pub(crate) fn time(&mut self, what: &'static str) -> Result<Time, Bad> {
        self.u64(what).map(Time::from_millis)
    }

    pub(crate) fn span(&mut self, what: &'static str) -> Result<Duration, Bad> {
        let (seconds, nanoseconds) = (self.u64(what)?, self.u32(what)?);
        let is_canonical = nanoseconds < 1_000_000_000;
        is_canonical.then(|| Duration::new(seconds, nanoseconds)).ok_or(Bad(what))
    }

    pub(crate) fn node(&mut self, what: &'static str) -> Result<NodeIndex, Bad> {
        NodeIndex::new(self.u16(what)?).map_err(|_| Bad(what))
    }

    pub(crate) fn epoch(&mut self, what: &'static str) -> Result<Epoch, Bad> {
        Epoch::new(self.u32(what)?).ok_or(Bad(what))
    }

    pub(crate) fn owner(&mut self, what: &'static str) -> Result<Owner, Bad> {
        Ok(Owner { node: self.node(what)?, epoch: self.epoch(what)? })
    }

    pub(crate) fn session(&mut self, what: &'static str) -> Result<SessionId, Bad> {
        self.array(what).map(SessionId::new)
    }

    pub(crate) fn version(&mut self, what: &'static str) -> Result<StateVersion, Bad> {
        self.u64(what).map(StateVersion::new)
    }

    pub(crate) fn transport(&mut self, what: &'static str) -> Result<Transport, Bad> {
        self.array(what).map(Transport::from_bytes)
    }

    pub(crate) fn operation(&mut self, what: &'static str) -> Result<OperationId, Bad> {
        self.u128(what).map(OperationId)
    }

    pub(crate) fn head(&mut self, what: &'static str) -> Result<Head, Bad> {
        self.array(what).map(Head::new)
    }
}
