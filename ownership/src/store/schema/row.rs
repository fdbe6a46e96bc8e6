use super::{BadRow, FORMAT};
use crate::{
    NodeIndex, Revision,
    audit::{Entry, Event},
    baggage::Baggage,
    bytes::{Bad, In, Out},
    model::{RECORD_LENGTH, SessionRecord},
    store::{
        Admission, AuditRow, BaggageRow, FenceRow, Generation, HeartbeatRow, InboxRow, Incarnation,
        Key, OffHomeRow, PlacementRow, Row, StoredSession, TransferRow,
    },
};

const HAS_NO_HEAD: u8 = 0;
const HAS_HEAD: u8 = 1;

impl Row {
    /// The row as bytes. They do not say what the key says.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Out::with_capacity(256);
        match self {
            Self::Generation(generation) => out.u8(FORMAT).u64(generation.0),
            Self::Epochs(epoch) => out.u32(epoch.get()),
            Self::Fence(row) => out.fence(row),
            Self::Heartbeat(HeartbeatRow { node: _, epoch, count, applied, operation }) => out
                .u32(epoch.get())
                .u64(*count)
                .u32(applied.map_or(0, Revision::get))
                .operation(*operation),
            Self::Placement(PlacementRow { revision, bytes, head, operation }) => {
                out.u32(revision.get()).head(*head).operation(*operation).bytes(bytes)
            }
            Self::Session(session) => out.stored(session),
            Self::OffHome(OffHomeRow { key: _, session, owner, version }) => {
                out.session(*session).owner(*owner).version(*version)
            }
            Self::Inbox(InboxRow { session, from, context }) => {
                out.owner(*from).stored(session).bytes(context)
            }
            Self::Transfer(TransferRow { frozen: _, session }) => out.stored(session),
            Self::Audit(AuditRow { key: _, entries }) => {
                entries.iter().fold(&mut out, |out, entry| out.entry(entry))
            }
            Self::Baggage(BaggageRow { session: _, changes, baggage }) => {
                out.u64(*changes).bytes(&baggage.to_bytes())
            }
        };
        out.0
    }

    /// The row that stands under a key and has these bytes.
    ///
    /// # Errors
    ///
    /// If none has, or it belongs under another key.
    pub fn from_bytes(key: &Key, bytes: &[u8]) -> Result<Self, BadRow> {
        let mut input = In(bytes);
        let row = match key {
            Key::Generation => {
                if input.u8("format")? != FORMAT {
                    return Err(BadRow("format"));
                }
                Self::Generation(Generation(input.u64("generation")?))
            }
            Key::Epochs => Self::Epochs(input.epoch("epoch")?),
            Key::Fence(node) => Self::Fence(input.fence(*node)?),
            Key::Heartbeat(node) => Self::Heartbeat(HeartbeatRow {
                node: *node,
                epoch: input.epoch("epoch")?,
                count: input.u64("count")?,
                applied: match input.u32("applied revision")? {
                    0 => None,
                    number => Some(Revision::new(number).ok_or(BadRow("applied revision"))?),
                },
                operation: input.operation("operation")?,
            }),
            Key::Placement => Self::Placement(PlacementRow {
                revision: Revision::new(input.u32("revision")?).ok_or(BadRow("revision"))?,
                head: input.head("head")?,
                operation: input.operation("operation")?,
                bytes: input.rest().into(),
            }),
            Key::Session(_) => Self::Session(input.stored()?),
            Key::OffHome(key) => Self::OffHome(OffHomeRow {
                key: key.clone(),
                session: input.session("session")?,
                owner: input.owner("owner")?,
                version: input.version("version")?,
            }),
            Key::Inbox(..) => Self::Inbox(InboxRow {
                from: input.owner("origin")?,
                session: input.stored()?,
                context: input.rest().into(),
            }),
            Key::Transfer(_, frozen) => {
                Self::Transfer(TransferRow { frozen: *frozen, session: input.stored()? })
            }
            Key::Audit(key) => Self::Audit(AuditRow { key: *key, entries: input.entries()? }),
            Key::Baggage(session) => Self::Baggage(BaggageRow {
                session: *session,
                changes: input.u64("changes")?,
                baggage: Baggage::from_bytes(input.rest())?,
            }),
        };
        input.end()?;
        if row.key() == *key { Ok(row) } else { Err(BadRow("key")) }
    }
}

impl AuditRow {
    /// Puts entries behind the bytes of a row. What several transactions have to tell, one behind the
    /// other, is the row of all.
    pub(in crate::store) fn extend(bytes: &mut Vec<u8>, entries: &[Entry]) {
        let mut out = Out(std::mem::take(bytes));
        entries.iter().fold(&mut out, |out, entry| out.entry(entry));
        *bytes = out.0;
    }
}

impl StoredSession {
    /// Length of a session's row in bytes.
    pub const LENGTH: usize = 32 + 16 + RECORD_LENGTH;

    /// The row as bytes.
    pub fn to_bytes(&self) -> [u8; Self::LENGTH] {
        let Self { record, head, operation } = self;
        let mut bytes = [0; Self::LENGTH];
        bytes[..32].copy_from_slice(&head.bytes());
        bytes[32..48].copy_from_slice(&operation.0.to_be_bytes());
        bytes[48..].copy_from_slice(&record.to_bytes());
        bytes
    }
}

impl Out {
    /// In this order, so that what conditions ask of the row is one range of its bytes.
    fn fence(&mut self, row: &FenceRow) -> &mut Self {
        let FenceRow { node: _, name, epoch, incarnation, admission, changes, head, operation } =
            row;
        let (fenced, draining) = match admission {
            Admission::Accepting => (0, 0),
            Admission::Draining => (0, 1),
            Admission::Fenced => (1, 0),
        };
        self.u32(epoch.get())
            .u8(fenced)
            .u128(incarnation.0)
            .u8(draining)
            .u64(*changes)
            .head(*head)
            .operation(*operation)
            .bytes(name.as_bytes())
    }

    fn stored(&mut self, session: &StoredSession) -> &mut Self {
        self.bytes(&session.to_bytes())
    }

    fn entry(&mut self, entry: &Entry) -> &mut Self {
        let Entry { event, head } = entry;
        let event = event.to_bytes();
        // An event has some hundred bytes.
        self.u32(event.len() as u32);
        match head {
            Some(head) => self.u8(HAS_HEAD).head(*head),
            None => self.u8(HAS_NO_HEAD),
        };
        self.bytes(&event)
    }
}

impl In<'_> {
    fn fence(&mut self, node: NodeIndex) -> Result<FenceRow, BadRow> {
        let epoch = self.epoch("epoch")?;
        let fenced = self.u8("fenced")?;
        let incarnation = Incarnation(self.u128("incarnation")?);
        let admission = match (fenced, self.u8("draining")?) {
            (0, 0) => Admission::Accepting,
            (0, 1) => Admission::Draining,
            (1, 0) => Admission::Fenced,
            _ => return Err(BadRow("admission")),
        };
        let changes = self.u64("changes")?;
        let (head, operation) = (self.head("head")?, self.operation("operation")?);
        let name = std::str::from_utf8(self.rest()).map_err(|_| BadRow("name"))?.to_owned();
        Ok(FenceRow { node, name, epoch, incarnation, admission, changes, head, operation })
    }

    fn stored(&mut self) -> Result<StoredSession, BadRow> {
        let (head, operation) = (self.head("head")?, self.operation("operation")?);
        let record = SessionRecord::from_bytes(self.bytes(RECORD_LENGTH, "record")?)?;
        Ok(StoredSession { record, head, operation })
    }

    fn entries(&mut self) -> Result<Vec<Entry>, BadRow> {
        let mut entries = Vec::new();
        while !self.0.is_empty() {
            let length = self.u32("event")?;
            let head = match self.u8("head")? {
                HAS_NO_HEAD => None,
                HAS_HEAD => Some(self.head("head")?),
                _ => return Err(BadRow("head")),
            };
            let length = usize::try_from(length).map_err(|_| Bad("event"))?;
            let event = Event::from_bytes(self.bytes(length, "event")?)?;
            entries.push(Entry { event, head });
        }
        Ok(entries)
    }
}
