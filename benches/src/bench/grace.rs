//! How long a grace period takes while every CPU is busy with packets and threads.

use crate::node::{Node, Sessions};
use anyhow::Result;
use aya::programs::{TestRun, TestRunOptions};
use dataplane_user::{
    config::online_cpus,
    dataplane::grace::{Method, grace_period},
};
use jumpgate_benches::{figure::Figure, packet::native_frame, session::session};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Instant,
};

/// Grace periods that are measured.
const COUNT: usize = 1_000;

/// The 99th percentile, in microseconds, of grace periods on a machine where on every CPU one thread
/// runs the program and another one spins.
pub fn measure() -> Result<Figure> {
    let frame = native_frame(session(0), 64);
    let over = AtomicBool::new(false);
    let (over, frame) = (&over, &frame);
    let times = thread::scope(|scope| -> Result<Vec<f64>> {
        for cpu in online_cpus()? {
            let mut node = Node::new(Sessions::Local(1))?;
            scope.spawn(move || -> Result<()> {
                crate::measure::pin_to_cpu(cpu as usize)?;
                let program = node.dataplane.program("steer_undo")?;
                while !over.load(Ordering::Relaxed) {
                    program.test_run(TestRunOptions {
                        data_in: Some(frame),
                        repeat: 100_000,
                        ..TestRunOptions::default()
                    })?;
                }
                Ok(())
            });
            scope.spawn(move || -> Result<()> {
                crate::measure::pin_to_cpu(cpu as usize)?;
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                Ok(())
            });
        }
        let times = (0..COUNT).map(|_| {
            let start = Instant::now();
            let method = grace_period()?;
            let took = start.elapsed();
            anyhow::ensure!(method == Method::Hop, "{method} was waited for");
            Ok(took.as_nanos() as f64 / 1e3)
        });
        let times = times.collect();
        over.store(true, Ordering::Relaxed);
        times
    });
    let mut times = times?;
    times.sort_by(f64::total_cmp);
    let name = "grace_p99_us".to_owned();
    let (lowest, highest) = (times[0], times[COUNT - 1]);
    Ok(Figure { name, median: times[COUNT * 99 / 100], lowest, highest })
}
