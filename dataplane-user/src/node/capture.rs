//! Capturing a session's packets: one capture at a time, for as long as somebody asks for them.

use super::{Node, Refusal, hex, lock};
use crate::{
    api::{CapturedPacket, CapturedPackets},
    dataplane::{
        capture::{self, CaptureError, Captured},
        clock::{boottime, monotonic},
    },
};
use dataplane_ebpf::wire_id::Key;
use nix::net::if_::if_indextoname;
use ownership::SessionId;
use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};

/// After how long without a question a capture ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the packets of an answer may take as JSON, in bytes.
const ANSWER: usize = 768 * 1024;

/// What a packet takes as JSON beside its bytes; more than that.
const AROUND: usize = 256;

/// A capture that goes on.
pub(super) struct Capture {
    number: u64,
    session: SessionId,
    /// When somebody asked last, by CLOCK_MONOTONIC.
    asked: Duration,
    /// What was lost in captures before.
    lost_before: u64,
}

/// Begins to capture a session's packets, also those that come when it has ended. Returns the
/// capture's number. The first time, loads the program without having the node.
pub(super) fn start_capture(node: &Mutex<Node>, session: &str) -> Result<u64, Refusal> {
    {
        let mut node = lock(node);
        node.check_capture(session)?;
        if node.dataplane.can_capture().map_err(CaptureError::from)? {
            return node.start_capture(session);
        }
        node.loads_capture = true;
    }
    let loaded = load(node);
    let mut node = lock(node);
    node.loads_capture = false;
    loaded?;
    node.start_capture(session)
}

/// Loads the program that captures.
fn load(node: &Mutex<Node>) -> Result<(), CaptureError> {
    let mut late = capture::late()?;
    lock(node).dataplane.exchange(&mut late)?;
    let loaded = late.load();
    lock(node).dataplane.exchange(&mut late)?;
    Ok(loaded?)
}

impl Node {
    /// Whether a session's packets can be captured now; it must be one of this node's.
    fn check_capture(&mut self, session: &str) -> Result<SessionId, Refusal> {
        let id = self.find_session(session)?;
        self.holds.check_goes_on()?;
        self.expire_capture();
        match self.capture.is_some() || self.loads_capture {
            true => Err(Refusal::CaptureRuns),
            false => Ok(id),
        }
    }

    fn start_capture(&mut self, session: &str) -> Result<u64, Refusal> {
        let id = self.check_capture(session)?;
        self.dataplane.capture.clear().map_err(CaptureError::from)?;
        let lost_before = self.dataplane.capture.lost().map_err(CaptureError::from)?;
        let session = &self.sessions[&id];
        let keys: Vec<Key> =
            session.wire_ids.iter().filter_map(|bytes| self.key(session.service, bytes)).collect();
        for key in keys {
            self.dataplane.capture.watch(key.hash).map_err(CaptureError::from)?;
        }
        self.dataplane.begin_capture(&mut self.attached)?;
        self.captures += 1;
        self.capture =
            Some(Capture { number: self.captures, session: id, asked: monotonic(), lost_before });
        Ok(self.captures)
    }

    /// Some captured packets, in the order in which they were steered; none if there are no more
    /// now.
    pub fn next_captured(&mut self, number: u64) -> Result<CapturedPackets, Refusal> {
        let running = self.capture.as_mut().filter(|capture| capture.number == number);
        let capture = running.ok_or(Refusal::NoCapture(number))?;
        capture.asked = monotonic();
        let (now, unix) = (boottime(), SystemTime::now());
        let unix = unix.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (mut size, mut some) = (0, Vec::new());
        while size < ANSWER
            && let Some(captured) = self.dataplane.capture.take_next()
        {
            size += AROUND + 2 * captured.frame.len();
            some.push(captured);
        }
        let lost = self.dataplane.capture.lost().map_err(CaptureError::from)?;
        let lost = lost.saturating_sub(capture.lost_before);
        let packets = some.iter().map(|captured| {
            let Captured { header, verdict, frame } = captured;
            let ago = now.saturating_sub(Duration::from_nanos(header.time));
            let service = self.services.iter().find(|known| known.index == header.service);
            let interface = if_indextoname(header.ingress);
            CapturedPacket {
                time_ns: unix.saturating_sub(ago).as_nanos() as u64,
                interface: interface.map_or_else(
                    |_| format!("interface {}", header.ingress),
                    |name| name.to_string_lossy().into_owned(),
                ),
                cpu: header.cpu,
                service: service.map(|service| service.name.clone()),
                verdict: verdict.name().to_owned(),
                length: header.frame_length,
                frame: hex(frame),
            }
        });
        Ok(CapturedPackets { packets: packets.collect(), lost })
    }

    /// Ends a capture.
    pub fn stop_capture(&mut self, number: u64) -> Result<(), Refusal> {
        match &self.capture {
            Some(capture) if capture.number == number => Ok(self.end_capture()?),
            _ => Err(Refusal::NoCapture(number)),
        }
    }

    /// Ends the capture if nobody asks for its packets any more.
    pub fn expire_capture(&mut self) {
        let is_forgotten = |capture: &Capture| monotonic().saturating_sub(capture.asked) > PATIENCE;
        if self.capture.as_ref().is_some_and(is_forgotten) {
            tracing::warn!("nobody asks for captured packets any more: the capture ends");
            self.abandon_capture();
        }
    }

    /// Ends the capture, if there is one, when there is nobody to tell of an error.
    pub fn abandon_capture(&mut self) {
        if let Err(error) = self.end_capture() {
            let error: &dyn std::error::Error = &error;
            tracing::error!(
                error,
                "the program that captures is still attached: start the daemon again"
            );
        }
    }

    fn end_capture(&mut self) -> Result<(), CaptureError> {
        match self.capture.take() {
            Some(_) => self.dataplane.end_capture(&mut self.attached),
            None => Ok(()),
        }
    }

    /// A session has lost a wire id.
    pub(super) fn forget_captured_key(&mut self, id: SessionId, key: Key) {
        if self.capture.as_ref().is_some_and(|capture| capture.session == id)
            && let Err(error) = self.dataplane.capture.unwatch(key.hash)
        {
            tracing::warn!(%error, "packets with a wire id that was removed are captured still");
        }
    }

    /// A session has a new wire id.
    pub(super) fn capture_key(&mut self, id: SessionId, key: Key) {
        if self.capture.as_ref().is_some_and(|capture| capture.session == id)
            && let Err(error) = self.dataplane.capture.watch(key.hash)
        {
            tracing::warn!(%error, "packets with a new wire id are not captured");
        }
    }
}
