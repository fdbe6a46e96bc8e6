//! The log of what happened: whole, it is proven to be; in no other way that it could be.

mod common;

use common::{identity, life, node, owner, steps};
use ownership::{
    Epoch, Placement, SessionId,
    audit::{
        Chain, Event, ExportError, Finding, Head, JsonLines, Place, Refusal, Sink, Tracing,
        Verifier, export, read_rows,
    },
    model::{OperationId, Reason, Time},
    placement::Member,
    store::{
        Attempt, AuditKey, AuditRow, Condition, DirectoryWrite, FenceRow, Incarnation, Key, Memory,
        PlacementRow, Row, Seen, Span, StoredSession, Tables, Transaction,
    },
};
use proptest::{prelude::*, sample::Index};
use std::{
    fs, io,
    sync::{Arc, Mutex},
};

const NOW: Time = Time::from_millis(77);

/// A store in which things have happened.
struct Past {
    tables: Tables,
    fences: Vec<FenceRow>,
    placement: PlacementRow,
}

fn apply(tables: &mut Tables, write: DirectoryWrite) {
    assert!(tables.apply(&Transaction::from(write)).is_won());
}

fn refusal() -> Refusal {
    Refusal {
        reason: Reason::NonceReplayed,
        session: Some(SessionId::new([1; 16])),
        stood: None,
        count: 3,
        actor: node(1),
        now: NOW,
    }
}

/// Two nodes of which one drains and is fenced, two placements, and the lives of sessions.
fn past(lives: &[Vec<common::Step>]) -> Past {
    let mut tables = Tables::default();
    let attempt = |by, operation| Attempt { by, now: NOW, operation: OperationId(operation) };
    let register = |tables: &mut Tables, number, before: Option<&FenceRow>, drawn: u32| {
        let (write, row) = DirectoryWrite::register(
            node(number),
            &format!("node {number}"),
            before,
            Epoch::new(drawn),
            Incarnation(drawn.into()),
            NOW,
            OperationId(drawn.into()),
        )
        .unwrap();
        apply(tables, write);
        row
    };
    let one = register(&mut tables, 1, None, 0);
    let two = register(&mut tables, 2, None, 1);
    let (drain, draining) =
        DirectoryWrite::admit(&two, false, attempt(two.identity(), 10)).unwrap();
    apply(&mut tables, drain);
    let (fence, fenced) = DirectoryWrite::fence(&draining, attempt(one.identity(), 11));
    apply(&mut tables, fence);
    let two = register(&mut tables, 2, Some(&fenced), 2);
    let plan = Placement::all_to(node(1));
    let (place, row) = DirectoryWrite::place(None, &plan, attempt(one.identity(), 12)).unwrap();
    apply(&mut tables, place);
    let only = Member { index: node(1), name: "node 1".into(), weight: 1 };
    let next = plan.next(&[only]).unwrap();
    let (place, placement) =
        DirectoryWrite::place(Some(&row), &next, attempt(one.identity(), 13)).unwrap();
    apply(&mut tables, place);
    apply(&mut tables, DirectoryWrite::tell([refusal()]));
    let mut lives: Vec<_> =
        (1..).zip(lives).map(|(id, steps)| life(id, steps).into_iter()).collect();
    loop {
        // One step of each life in turn.
        let writes: Vec<_> = lives.iter_mut().filter_map(Iterator::next).collect();
        if writes.is_empty() {
            return Past { tables, fences: vec![one, two], placement };
        }
        for write in writes {
            let transaction = write.transaction();
            // Its actors are not those that are registered here.
            let of_session = |is: &&Condition| matches!(is.key(), Key::Session(_));
            let compared: Vec<_> =
                transaction.conditions().iter().filter(of_session).cloned().collect();
            let (writes, entries) = (transaction.writes(), transaction.entries());
            assert!(tables.apply_parts(&compared, writes, entries).is_won());
        }
    }
}

impl Past {
    fn log(&self) -> Vec<AuditRow> {
        let row = |row: &Row| match row {
            Row::Audit(row) => row.clone(),
            _ => unreachable!("only audit rows stand there"),
        };
        self.tables.rows(Span::Audit).map(row).collect()
    }

    fn sessions(&self) -> Vec<StoredSession> {
        let session = |row: &Row| match row {
            Row::Session(session) => *session,
            _ => unreachable!("only sessions stand there"),
        };
        self.tables.rows(Span::Sessions).map(session).collect()
    }

    fn verify(&self, log: &[AuditRow]) -> Result<(), Finding> {
        let mut verifier = Verifier::default();
        log.iter().try_for_each(|row| verifier.row(row))?;
        verifier.whole()?;
        verifier.sessions_after(self.sessions())?;
        self.fences.iter().try_for_each(|row| verifier.node_after(row))?;
        verifier.placement_after(&self.placement)
    }
}

/// The chain that an event belongs to.
fn chain(event: &Event) -> Option<Chain> {
    match event {
        Event::StateChange(change) => Some(Chain::Session(change.session())),
        Event::Node(event) => Some(Chain::Node(event.node.node)),
        Event::Placement(_) => Some(Chain::Placement),
        Event::Refusal(_) => None,
    }
}

/// Computes the links of all chains anew, as somebody does who wants to hide something.
fn chain_anew(log: &mut [AuditRow]) {
    let mut heads = std::collections::BTreeMap::new();
    for entry in log.iter_mut().flat_map(|row| &mut row.entries) {
        if let Some(chain) = chain(&entry.event) {
            let head: &mut Head = heads.entry(chain).or_insert(Head::START);
            *head = head.then(&entry.event.to_bytes());
            entry.head = Some(*head);
        }
    }
}

fn lives() -> impl Strategy<Value = Vec<Vec<common::Step>>> {
    prop::collection::vec(steps(), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_whole_log_is_whole_whatever_the_order_of_its_rows(
        lives in lives(),
        order in prop::collection::vec(any::<Index>(), 60),
    ) {
        let past = past(&lives);
        let mut log = past.log();
        prop_assert_eq!(past.verify(&log), Ok(()));
        for (at, other) in order.iter().enumerate().take(log.len()) {
            let other = other.index(log.len());
            log.swap(at, other);
        }
        prop_assert_eq!(past.verify(&log), Ok(()));
    }

    #[test]
    fn a_row_that_is_missing_is_named(lives in lives(), at in any::<Index>()) {
        let past = past(&lives);
        let mut log = past.log();
        let at = at.index(log.len());
        let gone = log.remove(at);
        let found = past.verify(&log);
        match chain(&gone.entries[0].event) {
            // What was refused has no version that could be missed.
            None => prop_assert_eq!(found, Ok(())),
            Some(of) => {
                let is_missing = matches!(found, Err(Finding::Missing { chain, .. }) if chain == of);
                prop_assert!(is_missing, "{:?}", found);
            }
        }
    }

    #[test]
    fn an_event_that_is_there_twice_is_named(lives in lives(), at in any::<Index>()) {
        let past = past(&lives);
        let mut log = past.log();
        let again = at.get(&log).clone();
        log.push(again.clone());
        prop_assert_eq!(past.verify(&log), Err(Finding::DoubleRow(again.key)));
        let row = AuditKey { stream: 9, number: 1 };
        log.last_mut().unwrap().key = row;
        let place = Place { row, at: 0 };
        match (past.verify(&log), &again.entries[0].event) {
            (Ok(()), Event::Refusal(_)) => {}
            // It would have to draw an epoch that is drawn.
            (Err(Finding::Wrong { place: found, .. }), Event::Node(_)) => {
                prop_assert_eq!(found, place);
            }
            (Err(Finding::Double { place: found, .. }), _) => prop_assert_eq!(found, place),
            (found, _) => prop_assert!(false, "{:?}", found),
        }
    }

    #[test]
    fn an_event_that_was_changed_is_found(
        lives in lives(),
        row in any::<Index>(),
        byte in any::<Index>(),
        bits in 1..=u8::MAX,
    ) {
        let past = past(&lives);
        let mut log = past.log();
        let row = row.index(log.len());
        let entry = &mut log[row].entries[0];
        let Some(of) = chain(&entry.event) else { return Ok(()) };
        let mut bytes = entry.event.to_bytes();
        let byte = byte.index(bytes.len());
        bytes[byte] ^= bits;
        let Ok(changed) = Event::from_bytes(&bytes) else { return Ok(()) };
        let same_turn = chain(&changed) == Some(of) && number(&changed) == number(&entry.event);
        entry.event = changed;
        let found = past.verify(&log);
        if same_turn {
            let place = Place { row: log[row].key, at: 0 };
            let is_named = match found {
                Err(Finding::Changed(found) | Finding::Wrong { place: found, .. }) => found == place,
                _ => false,
            };
            prop_assert!(is_named, "{:?} is not {:?}", found, place);
        } else {
            prop_assert!(found.is_err());
        }
    }

    #[test]
    fn one_that_was_changed_is_found_even_if_all_links_were_made_anew(
        lives in lives(),
        row in any::<Index>(),
        byte in any::<Index>(),
        bits in 1..=u8::MAX,
    ) {
        let past = past(&lives);
        let mut log = past.log();
        let row = row.index(log.len());
        let entry = &mut log[row].entries[0];
        let mut bytes = entry.event.to_bytes();
        let byte = byte.index(bytes.len());
        bytes[byte] ^= bits;
        let Ok(changed) = Event::from_bytes(&bytes) else { return Ok(()) };
        if chain(&entry.event).is_none() && chain(&changed).is_none() {
            return Ok(());
        }
        entry.event = changed;
        chain_anew(&mut log);
        prop_assert!(past.verify(&log).is_err());
    }

    #[test]
    fn what_a_store_keeps_is_compared_with_what_the_log_leads_to(lives in lives(), at in any::<Index>()) {
        let past = past(&lives);
        let mut verifier = Verifier::default();
        past.log().iter().try_for_each(|row| verifier.row(row)).unwrap();
        let mut sessions = past.sessions();
        let at = at.index(sessions.len());
        let good = sessions[at];
        let chain = Chain::Session(good.record.id());
        sessions[at].head = Head::new([1; 32]);
        prop_assert_eq!(verifier.sessions_after(sessions.clone()), Err(Finding::Stored(chain)));
        // The session as it was at its birth, whose later events the store would have forgotten.
        sessions[at] = *life(at as u8 + 1, &lives[at])[0].after();
        let found = verifier.sessions_after(sessions.clone());
        prop_assert_eq!(found.is_err(), sessions[at] != good);
        let gone = sessions.remove(at);
        let found = verifier.sessions_after(sessions);
        prop_assert_eq!(found.is_err(), !good.record.is_terminated(), "{:?}", gone);
    }

    #[test]
    fn lines_and_back(lives in lives()) {
        let past = past(&lives);
        let log = past.log();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        JsonLines::open(&path).unwrap().take(&log).unwrap();
        let text = fs::read(&path).unwrap();
        let read: Result<Vec<_>, _> = read_rows(&text[..]).collect();
        prop_assert_eq!(read.unwrap(), log);
    }

    #[test]
    fn a_line_that_was_changed_is_found(at in any::<Index>(), bits in 1..=127_u8) {
        let log = past(&[vec![(0, 1, 1), (3, 9000, 1)]]).log();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit");
        JsonLines::open(&path).unwrap().take(&log).unwrap();
        let mut text = fs::read(&path).unwrap();
        let at = at.index(text.len());
        text[at] ^= bits;
        let read: Result<Vec<_>, _> = read_rows(&text[..]).collect();
        if let Ok(read) = read {
            // Its row or head is another one now, or its last line has no end: the verifier finds that.
            prop_assert_ne!(read, log);
        }
    }
}

fn number(event: &Event) -> u64 {
    match event {
        Event::StateChange(change) => change.version().get(),
        Event::Node(event) => event.number,
        Event::Placement(event) => event.revision.get().into(),
        Event::Refusal(_) => 0,
    }
}

#[test]
fn a_log_may_begin_in_the_middle() {
    let past = past(&[vec![(0, 1, 1), (3, 9000, 1), (2, 9000, 1)]]);
    let writes = life(1, &[(0, 1, 1), (3, 9000, 1), (2, 9000, 1)]);
    let log: Vec<_> = past.log().into_iter().skip(8 + 1).collect();
    let mut verifier = Verifier::default();
    verifier.session_before(writes[0].after());
    log.iter().try_for_each(|row| verifier.row(row)).unwrap();
    verifier.whole().unwrap();
    verifier.sessions_after(past.sessions()).unwrap();
}

#[test]
fn a_refusal_in_a_chain_is_wrong() {
    let past = past(&[]);
    let mut log = past.log();
    let last = log.last_mut().unwrap();
    last.entries[0].head = Some(Head::START);
    let place = Place { row: last.key, at: 0 };
    assert!(
        matches!(past.verify(&log), Err(Finding::Wrong { place: found, .. }) if found == place)
    );
}

#[test]
fn nodes_and_the_placement_are_compared_too() {
    let past = past(&[]);
    let mut verifier = Verifier::default();
    past.log().iter().try_for_each(|row| verifier.row(row)).unwrap();
    let mut other = past.fences[1].clone();
    other.incarnation = Incarnation(99);
    assert_eq!(verifier.node_after(&other), Err(Finding::Stored(Chain::Node(node(2)))));
    let mut other = past.placement.clone();
    other.bytes = [1, 2, 3].into();
    assert_eq!(verifier.placement_after(&other), Err(Finding::Stored(Chain::Placement)));
    let unknown = FenceRow { node: node(7), ..past.fences[0].clone() };
    assert!(matches!(verifier.node_after(&unknown), Err(Finding::Missing { number: 1, .. })));
    assert_eq!(identity(owner(1, 1)).owner, past.fences[0].owner());
}

fn outbox(past: &Past) -> Memory {
    Memory::open(past.tables.clone(), Seen::new(past.tables.position())).unwrap()
}

/// A sink that fails the first time.
struct Failing<S>(S, bool);

impl<S: Sink> Sink for Failing<S> {
    fn take(&mut self, rows: &[AuditRow]) -> io::Result<()> {
        if std::mem::replace(&mut self.1, false) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.take(rows)
    }
}

#[tokio::test]
async fn what_waits_is_exported_once_and_trimmed_only_then() {
    let past = past(&vec![vec![(0, 1, 1), (3, 9000, 1), (2, 9000, 1), (3, 9000, 1)]; 40]);
    let (log, store) = (past.log(), outbox(&past));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");

    let mut sink = Failing(JsonLines::open(&path).unwrap(), true);
    assert!(matches!(export(&store, &mut sink).await, Err(ExportError::Sink(_))));
    assert_eq!(store.tables().rows(Span::Audit).count(), log.len());

    // The rows are safe, and then the store does not answer.
    store.deliver([ownership::store::Delivery::RequestLost]);
    assert!(matches!(export(&store, &mut sink).await, Err(ExportError::Store(_))));
    assert_eq!(store.tables().rows(Span::Audit).count(), log.len());

    // The next exporter finds half a row at the end of the file.
    let mut text = fs::read(&path).unwrap();
    let whole = text.len();
    text.extend_from_within(..60);
    fs::write(&path, &text).unwrap();
    let mut sink = JsonLines::open(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), whole as u64);

    let mut exported = 0;
    loop {
        match export(&store, &mut sink).await.unwrap() {
            0 => break,
            rows => exported += rows,
        }
    }
    assert_eq!(exported, log.len());
    assert_eq!(store.tables().rows(Span::Audit).count(), 0);
    let text = fs::read(&path).unwrap();
    let read: Vec<_> = read_rows(&text[..]).map(Result::unwrap).collect();
    assert_eq!(past.verify(&read), Ok(()));
    assert_eq!(read, log);
}

/// Text that several write to.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn every_event_is_traced_and_security_events_are_warnings() {
    let past = past(&[vec![(0, 1, 1), (3, 9000, 1)]]);
    let (log, text) = (past.log(), Shared::default());
    let writer = text.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::with_default(subscriber.finish(), || Tracing.take(&log)).unwrap();
    let text = String::from_utf8(text.0.lock().unwrap().clone()).unwrap();
    let events = log.iter().flat_map(|row| row.entries.iter().map(move |entry| (row.key, entry)));
    let mut lines = text.lines();
    for (key, entry) in events {
        let line = lines.next().expect("a line for each event");
        let (level, name) = match &entry.event {
            Event::Refusal(_) => ("WARN", "SECURITY_EVENT"),
            Event::StateChange(_) => ("INFO", "STATE_CHANGE"),
            Event::Node(_) => ("INFO", "NODE"),
            Event::Placement(_) => ("INFO", "PLACEMENT"),
        };
        for part in [level, "audit:", &format!("row={key} "), name] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
        if let Event::StateChange(change) = &entry.event {
            let version = format!("\"version\":{}", change.version().get());
            assert!(
                line.contains(&version) && line.contains(&change.session().to_string()),
                "{line}"
            );
        }
    }
    assert_eq!(lines.next(), None);
}

#[test]
fn half_a_row_at_the_end_of_a_log_is_cut_off() {
    let past = past(&[vec![(0, 1, 1)]]);
    let mut row = past.log().remove(0);
    row.entries = vec![row.entries[0].clone(); 3];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let other = AuditRow { key: AuditKey { stream: 0, number: 2 }, ..row.clone() };
    JsonLines::open(&path).unwrap().take(&[row.clone(), other.clone()]).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 6);
    for kept in 3..6 {
        fs::write(&path, lines[..kept].concat()).unwrap();
        let mut sink = JsonLines::open(&path).unwrap();
        sink.take(&[row.clone(), other.clone()]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{kept} lines were there");
    }
}
