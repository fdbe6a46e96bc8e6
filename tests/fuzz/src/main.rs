//! One of the fuzz targets, named by `JUMPGATE_FUZZ_TARGET`, under libFuzzer.

#![no_main]

use std::sync::OnceLock;

use jumpgate_tests::fuzz::mutate::LONGEST;
use jumpgate_tests::fuzz::{Target, target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(|input: &[u8]| {
    let target = TARGET.get_or_init(|| {
        target(&std::env::var("JUMPGATE_FUZZ_TARGET").expect("JUMPGATE_FUZZ_TARGET names a target"))
    });
    // Beyond that libFuzzer finds nothing new, and keeps to what is shorter.
    (target.run)(&input[..input.len().min(LONGEST)]);
});
