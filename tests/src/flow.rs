//! Numbered packets of many sessions, and an application that notes what it reads.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dataplane_ebpf::dissect::native::{HEADER, Header, TYPE_DATA};
use dataplane_ebpf::marker::{Token, recognise};

use crate::inbox::Inbox;
use crate::netns::Namespace;

/// Sends numbered packets of sessions, from 0 on, again and again, until it is stopped.
#[derive(Debug)]
pub struct Flow {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Flow {
    /// Starts to send a packet of each session to a service every `pace`, from as many addresses as
    /// are given.
    pub fn start(
        namespace: &Namespace,
        from: &[IpAddr],
        server: SocketAddr,
        sessions: &[[u8; 16]],
        pace: Duration,
    ) -> Result<Self> {
        let bind = |&address: &IpAddr| namespace.run(|| UdpSocket::bind((address, 0)));
        let sockets: Vec<_> = from.iter().map(bind).collect::<Result<_, _>>()?;
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (over, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let sessions = sessions.to_vec();
        let thread = thread::spawn(move || {
            let start = Instant::now();
            let mut round = 0_u64;
            while !over.load(Ordering::Relaxed) {
                for (index, &session) in sessions.iter().enumerate() {
                    let (header, length) =
                        Header { kind: TYPE_DATA, session, owner: None }.encode();
                    let mut packet = header[..length].to_vec();
                    packet.extend((index as u32).to_be_bytes());
                    packet.extend(round.to_be_bytes());
                    // A session keeps its address, so that its packets stay in order on the way.
                    sockets[index % sockets.len()].send_to(&packet, server).context("sending")?;
                }
                round += 1;
                count.store(round, Ordering::Release);
                let next = start + pace * round as u32;
                thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            Ok(())
        });
        Ok(Self { stop, rounds, thread: Some(thread) })
    }

    /// How many packets of each session were sent.
    pub fn sent(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Stops, and returns how many packets of each session were sent.
    pub fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(self.sent())
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads the sockets of one node, notes the numbers of each session's packets in the order in which
/// they came, and passes markers on.
#[derive(Debug)]
pub struct Reader {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Vec<u64>>>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Reader {
    /// Starts to read packets of `sessions` sessions.
    pub fn start(
        inbox: Inbox,
        sessions: usize,
        mut acknowledge: impl FnMut(Token) + Send + 'static,
    ) -> Self {
        let (stop, paused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let log = Arc::new(Mutex::new(vec![Vec::new(); sessions]));
        let (over, waits, notes) = (Arc::clone(&stop), Arc::clone(&paused), Arc::clone(&log));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                if waits.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let Some(received) = inbox.take()? else {
                    thread::sleep(Duration::from_micros(100));
                    continue;
                };
                if let Some(token) = recognise(&received.payload) {
                    acknowledge(token);
                    continue;
                }
                let body = received.payload.get(HEADER..HEADER + 12).context("a short packet")?;
                let (session, number) = body.split_at(4);
                let session = u32::from_be_bytes(session.try_into()?) as usize;
                let number = u64::from_be_bytes(number.try_into()?);
                notes.lock().expect("nobody panics")[session].push(number);
            }
            Ok(())
        });
        Self { stop, paused, log, thread: Some(thread) }
    }

    /// Stops reading for a while, or goes on.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// The numbers of each session's packets so far.
    pub fn log(&self) -> Vec<Vec<u64>> {
        self.log.lock().expect("nobody panics").clone()
    }

    /// How many packets of each session were read so far.
    pub fn counts(&self) -> Vec<usize> {
        self.log.lock().expect("nobody panics").iter().map(Vec::len).collect()
    }

    /// How many packets were read so far.
    pub fn total(&self) -> usize {
        self.counts().iter().sum()
    }

    /// Fails if the thread has.
    pub fn check(&mut self) -> Result<()> {
        let ended = self.thread.as_ref().is_some_and(JoinHandle::is_finished);
        match self.thread.take_if(|_| ended) {
            Some(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            None => Ok(()),
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => eprintln!("reader: {error:#}"),
                Err(_) => eprintln!("reader: the thread panicked"),
            }
        }
    }
}

/// Fails unless these are the numbers from 0 to `count`, each once; returns how many came after a
/// higher one.
pub fn overtaken(numbers: &[u64], count: u64) -> Result<u64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let mut twice: Vec<_> = sorted.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    twice.truncate(10);
    ensure!(twice.is_empty(), "came twice: {twice:?}");
    let lost: Vec<_> = (0..count).filter(|n| sorted.binary_search(n).is_err()).collect();
    ensure!(lost.is_empty(), "{} of {count} lost: {:?}", lost.len(), &lost[..lost.len().min(10)]);
    ensure!(sorted.len() as u64 == count, "{} packets, {count} sent", sorted.len());
    let mut highest = None;
    let mut overtaken = 0;
    for &number in numbers {
        overtaken += u64::from(highest > Some(number));
        highest = highest.max(Some(number));
    }
    Ok(overtaken)
}
