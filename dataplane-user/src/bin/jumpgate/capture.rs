//! `jumpgate capture`

use crate::output::say;
use anyhow::{Context, Result};
use dataplane_user::api::{CapturedPacket, CapturedPackets, Client};
use pcap_file::{
    DataLink,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
        },
    },
};
use std::{
    borrow::Cow,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

/// How often the daemon is asked for more.
const TICK: Duration = Duration::from_millis(20);

/// Timestamps are in nanoseconds: 10^-9 s.
const RESOLUTION: u8 = 9;

/// When to end.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// After so many packets.
    pub count: Option<u64>,
    /// After so long.
    pub time: Option<Duration>,
}

/// Writes a session's packets to a file.
pub fn capture(client: &mut Client, session: &str, file: &Path, limits: Limits) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    let (written, lost) = runtime.block_on(run(client, session, file, limits))?;
    say!("{written} packets in {}, {lost} more were lost: they came too fast", file.display())
}

async fn run(
    client: &mut Client,
    session: &str,
    path: &Path,
    limits: Limits,
) -> Result<(u64, u64)> {
    let mut terminate = signal(SignalKind::terminate()).context("handling SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("handling SIGINT")?;
    let file = File::create_new(path).with_context(|| {
        format!("making {}, which must not be there yet, failed", path.display())
    })?;
    let writing = || format!("writing to {} failed", path.display());
    let mut file = CaptureFile::new(file).with_context(writing)?;
    let capture = match client.start_capture(session) {
        Ok(capture) => capture,
        Err(error) => {
            // Nothing is in it.
            std::fs::remove_file(path).with_context(|| format!("removing {}", path.display()))?;
            return Err(error.into());
        }
    };
    let end = limits.time.map(|time| Instant::now() + time);
    let (mut written, mut is_last) = (0, false);
    let lost = loop {
        let CapturedPackets { packets, lost } = client.next_captured(capture)?;
        let is_empty = packets.is_empty();
        for packet in packets {
            if limits.count.is_some_and(|count| written >= count) {
                break;
            }
            file.write(&packet).with_context(writing)?;
            written += 1;
        }
        file.flush().with_context(writing)?;
        if limits.count.is_some_and(|count| written >= count) || is_last && is_empty {
            break lost;
        }
        if is_last || !is_empty {
            // What has come until now is written; but a flood does not put off the end for ever.
            let is_late = end.is_some_and(|end| Instant::now() > end + Duration::from_secs(1));
            if is_late {
                break lost;
            }
        }
        let tick = if is_empty { TICK } else { Duration::ZERO };
        tokio::select! {
            _ = terminate.recv(), if !is_last => is_last = true,
            _ = interrupt.recv(), if !is_last => is_last = true,
            () = tokio::time::sleep(tick) => {}
        }
        is_last |= end.is_some_and(|end| Instant::now() >= end);
    };
    client.stop_capture(capture)?;
    Ok((written, lost))
}

/// A pcapng file.
struct CaptureFile {
    writer: PcapNgWriter<BufWriter<File>>,
    /// The interfaces that it describes, in their order.
    interfaces: Vec<String>,
}

impl CaptureFile {
    fn new(file: File) -> Result<Self> {
        Ok(Self { writer: PcapNgWriter::new(BufWriter::new(file))?, interfaces: Vec::new() })
    }

    fn write(&mut self, packet: &CapturedPacket) -> Result<()> {
        let interface = self.interface(&packet.interface)?;
        let data = unhex(&packet.frame).context("the daemon sent a frame that is no frame")?;
        self.writer.write_pcapng_block(EnhancedPacketBlock {
            interface_id: interface,
            timestamp: Duration::from_nanos(packet.time_ns),
            original_len: packet.length,
            data: Cow::Owned(data),
            options: vec![EnhancedPacketOption::Comment(Cow::Owned(format!(
                "verdict: {}",
                packet.verdict
            )))],
        })?;
        Ok(())
    }

    /// The number of an interface, which is described when it is named first.
    fn interface(&mut self, name: &str) -> Result<u32> {
        if let Some(known) = self.interfaces.iter().position(|known| known == name) {
            return Ok(known as u32);
        }
        self.writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(name.to_owned())),
                InterfaceDescriptionOption::IfTsResol(RESOLUTION),
            ],
        })?;
        self.interfaces.push(name.to_owned());
        Ok(self.interfaces.len() as u32 - 1)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.writer.get_mut().flush()?)
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let byte = |at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(byte).collect()
}
