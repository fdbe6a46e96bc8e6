//! Every packet is found: what was sent was received, or is named among what was refused or lost.

mod af_xdp;
mod scene;

use anyhow::{Result, ensure};
use dataplane_ebpf::hold::RECORD_MIN;
use dataplane_ebpf::loss::Loss;
use dataplane_user::api::Client as Api;
use jumpgate_tests::address::Family;
use jumpgate_tests::probe;
use jumpgate_tests::require_root;

use scene::{A, LONG, PATIENCE, QUEUE, RING, SHORT, Scene, TOO_LONG, Target, UNFIT};

#[test]
fn without_trouble_everything_arrives() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        for number in 0..200 {
            scene.send(scene.served, number % 2, if number % 3 == 0 { LONG } else { SHORT })?;
            if number % 20 == 0 {
                scene.settle()?;
            }
        }
        let found = scene.settle()?;
        ensure!(found.received == 200, "{family:?}: {found:?}");
        found.only(&[], &[])?;
    }
    Ok(())
}

fn what_a_full_cpu_queue_drops_is_found(mut scene: Scene) -> Result<()> {
    let burst = 4 * QUEUE;
    scene.with_busy_cpu(|scene| (0..burst).try_for_each(|_| scene.send(scene.served, 1, SHORT)))?;
    let found = scene.settle()?;
    found.only(&[Loss::CpuQueueFull], &[])?;
    // What CPU 1 had taken before it was busy, and what waited.
    ensure!(found.of(Loss::CpuQueueFull) >= u64::from(burst - QUEUE) / 2, "{found:?}");
    ensure!(found.received >= u64::from(QUEUE), "{found:?}");
    Ok(())
}

#[test]
fn what_a_full_cpu_queue_drops_is_found_in_the_driver() -> Result<()> {
    require_root!();
    what_a_full_cpu_queue_drops_is_found(Scene::new(Family::V4)?)
}

#[test]
fn what_a_full_cpu_queue_drops_is_found_in_the_generic_path() -> Result<()> {
    require_root!();
    what_a_full_cpu_queue_drops_is_found(Scene::in_generic_path(Family::V4)?)
}

#[test]
fn what_a_full_socket_buffer_drops_is_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        scene.small_buffers()?;
        for batch in 0..10 {
            for _ in 0..20 {
                scene.send(scene.served, batch % 2, LONG)?;
            }
            // Nobody reads, but the CPU's queue must not overflow too.
            let through = |scene: &Scene| -> Result<bool> {
                let stats = Api::connect(scene.daemons[A].socket())?.stats()?;
                let delivered = stats.services["served"].admissions.get("delivered").copied();
                Ok(delivered.unwrap_or(0) == u64::from(scene.sent))
            };
            ensure!(probe::until(PATIENCE, || through(&scene).unwrap_or(false)));
        }
        let found = scene.settle()?;
        found.only(&[Loss::UdpBufferFull], &[])?;
        ensure!(found.received > 0 && found.received < 100, "{family:?}: {found:?}");
    }
    Ok(())
}

#[test]
fn packets_with_wrong_checksums_are_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        for cpu in [0, 1] {
            for rest in [SHORT, LONG] {
                for _ in 0..5 {
                    scene.send(scene.served, cpu, rest)?;
                    // In the payload; of a short packet in its number.
                    scene.send_corrupt(scene.served, cpu, rest, -1)?;
                }
            }
        }
        let found = scene.settle()?;
        found.only(&[Loss::UdpChecksum], &[])?;
        ensure!(found.of(Loss::UdpChecksum) == 20, "{family:?}: {found:?}");
        ensure!(found.received == 20, "{family:?}: {found:?}");
    }
    Ok(())
}

#[test]
fn packets_with_wrong_ip_headers_are_found() -> Result<()> {
    require_root!();
    let mut scene = Scene::new(Family::V4)?;
    for _ in 0..7 {
        scene.send_misheaded(scene.served, 0)?;
        scene.send(scene.served, 0, LONG)?;
    }
    let found = scene.settle()?;
    found.only(&[Loss::IpChecksum], &[])?;
    ensure!(found.of(Loss::IpChecksum) == 7 && found.received == 7, "{found:?}");
    Ok(())
}

#[test]
fn packets_without_a_socket_are_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::new(family)?;
        for _ in 0..6 {
            // The selector refuses these, and the kernel says that nobody has the port.
            scene.send(scene.half, 1, SHORT)?;
            // Of these the selector never hears.
            scene.send(scene.unserved, 0, SHORT)?;
        }
        let found = scene.settle()?;
        found.only(&[Loss::UdpNoPort], &[])?;
        ensure!(found.of(Loss::UdpNoPort) == 6, "{family:?}: {found:?}");
        ensure!(found.refused == [("no-socket", 6)], "{family:?}: {found:?}");
    }
    Ok(())
}

/// Held packets find no room in the ring while the daemon stands still, then none within its bounds;
/// those that were kept are delivered here or sent to another node, which does not know them.
fn held_packets_are_found(family: Family) -> Result<()> {
    let mut scene = Scene::holding(family)?;
    scene.hold()?;
    scene.daemons[A].pause()?;
    // No less than the ring holds, of records of the smallest class.
    let room = (RING - 1) / RECORD_MIN as u64;
    for number in 0..2 * room {
        scene.send(scene.held, number as usize % 2, SHORT)?;
    }
    scene.daemons[A].resume()?;
    ensure!(probe::until(PATIENCE, || scene.waits(room).unwrap_or(false)));
    for cpu in [0, 1] {
        scene.send(scene.held, cpu, TOO_LONG)?;
        for rest in [SHORT, LONG, UNFIT] {
            scene.send(scene.moving, cpu, rest)?;
        }
        scene.send_corrupt(scene.moving, cpu, LONG, -1)?;
        // Of the session that is released here there is no room for more.
        scene.send(scene.held, cpu, SHORT)?;
    }
    let found = scene.settle()?;
    ensure!(found.received == 0, "{found:?}");
    ensure!(found.refused == [("hold-full", room), ("hold-too-long", 2)], "{found:?}");
    let waiting = found.kept("waiting");
    let overflow = found.kept("overflow");
    ensure!(overflow > 2 && waiting + overflow == room + 10, "{found:?}");
    let moving = 8;

    let here = scene.release_here()?;
    ensure!(here.here == waiting - moving && here.overflow == overflow, "{here:?}");
    let away = scene.release_away()?;
    ensure!(away.away == moving - 2 && away.too_big == 2 && away.lost() == 2, "{away:?}");
    let found = scene.settle()?;
    ensure!(found.received == here.here, "{found:?}");
    found.only(&[], &[("overflow", overflow), ("too-big", 2)])?;
    // The other node was not told of them.
    let refused = [("not-newer", away.away), ("hold-full", room), ("hold-too-long", 2)];
    ensure!(found.refused == refused, "{found:?}");
    Ok(())
}

#[test]
fn held_packets_are_found_over_ipv4() -> Result<()> {
    require_root!();
    held_packets_are_found(Family::V4)
}

#[test]
fn held_packets_are_found_over_ipv6() -> Result<()> {
    require_root!();
    held_packets_are_found(Family::V6)
}

#[test]
fn held_packets_with_wrong_checksums_are_found() -> Result<()> {
    require_root!();
    for family in Family::ALL {
        let mut scene = Scene::holding(family)?;
        scene.hold()?;
        for cpu in [0, 1] {
            scene.send(scene.held, cpu, LONG)?;
            scene.send_corrupt(scene.held, cpu, LONG, -1)?;
            scene.send_corrupt(scene.held, cpu, SHORT, -1)?;
            scene.send_misheaded(scene.held, cpu)?;
        }
        ensure!(probe::until(PATIENCE, || scene.waits(8).unwrap_or(false)));
        let counts = scene.release_here()?;
        let found = scene.settle()?;
        ensure!(found.received == 2 && found.refused.is_empty(), "{family:?}: {found:?}");
        ensure!(found.of(Loss::UdpChecksum) == 4, "{family:?}: {found:?}");
        match family {
            // The kernel would write the right sum into what the keeper sends.
            Family::V4 => {
                ensure!((counts.here, counts.failed) == (6, 2), "{counts:?}");
                found.only(&[Loss::UdpChecksum], &[("failed", 2)])?;
            }
            Family::V6 => {
                ensure!((counts.here, counts.failed) == (8, 0), "{counts:?}");
                found.only(&[Loss::IpHeader, Loss::UdpChecksum], &[])?;
                ensure!(found.of(Loss::IpHeader) == 2, "{found:?}");
            }
        }
    }
    Ok(())
}

/// A CPU's queue, sockets' buffers, the hold ring and the daemon's bounds overflow, headers, payloads
/// and checksums are wrong, sockets and sessions are missing, and one sum covers it all.
fn in_all_trouble_at_once_every_packet_is_found(family: Family) -> Result<()> {
    let mut scene = Scene::holding(family)?;
    scene.hold()?;
    scene.small_buffers()?;
    scene.daemons[A].pause()?;
    scene.with_busy_cpu(|scene| {
        for number in 0..1_600_usize {
            let cpu = number / 2 % 2;
            match number % 16 {
                0 => scene.send_corrupt(scene.served, cpu, LONG, -1)?,
                1 => scene.send_corrupt(scene.served, cpu, SHORT, -1)?,
                2 => scene.send_misheaded(scene.served, cpu)?,
                3 => scene.send(scene.half, cpu, SHORT)?,
                4 => scene.send(scene.unserved, cpu, LONG)?,
                5 => scene.send(Target { sessions: [[7; 16]; 2], ..scene.served }, cpu, SHORT)?,
                6 | 7 => scene.send(scene.held, cpu, LONG)?,
                8 => scene.send_corrupt(scene.held, cpu, LONG, -1)?,
                9 => scene.send_misheaded(scene.held, cpu)?,
                10 => scene.send(scene.moving, cpu, SHORT)?,
                11 => scene.send(scene.moving, cpu, [TOO_LONG, UNFIT][number / 16 % 2])?,
                _ => scene.send(scene.served, cpu, LONG)?,
            }
        }
        Ok(())
    })?;
    scene.daemons[A].resume()?;
    let there = scene.settle()?;
    ensure!(there.kept("waiting") > 0, "{there:?}");
    let here = scene.release_here()?;
    let away = scene.release_away()?;
    ensure!(here.here > 0 && away.away > 0, "{here:?}, {away:?}");
    let found = scene.settle()?;
    let ip = match family {
        Family::V4 => Loss::IpChecksum,
        Family::V6 => Loss::IpHeader,
    };
    for loss in [Loss::CpuQueueFull, ip, Loss::UdpNoPort, Loss::UdpChecksum, Loss::UdpBufferFull] {
        ensure!(found.of(loss) > 0, "no {loss:?}: {found:?}");
    }
    for loss in ["overflow", "too-big"] {
        ensure!(found.kept(loss) > 0, "no {loss}: {found:?}");
    }
    ensure!(found.kept("waiting") == 0, "{found:?}");
    ensure!((found.kept("failed") > 0) == (family == Family::V4), "{found:?}");
    let names: Vec<_> = found.refused.iter().map(|(name, _)| *name).collect();
    let refused = ["no-session", "not-newer", "hold-full", "hold-too-long", "no-socket"];
    ensure!(names == refused, "{found:?}");
    ensure!(found.received > 0, "{found:?}");
    Ok(())
}

#[test]
fn in_all_trouble_at_once_every_packet_is_found_over_ipv4() -> Result<()> {
    require_root!();
    in_all_trouble_at_once_every_packet_is_found(Family::V4)
}

#[test]
fn in_all_trouble_at_once_every_packet_is_found_over_ipv6() -> Result<()> {
    require_root!();
    in_all_trouble_at_once_every_packet_is_found(Family::V6)
}
