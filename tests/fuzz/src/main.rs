//! The fuzzer: libFuzzer's `main`, and the target that the environment names.

#![no_main]

use std::sync::OnceLock;

use tests_fuzz::{TARGETS, Target};

/// Names the target.
const TARGET: &str = "MESHBOOT_FUZZ_TARGET";

static CHOSEN: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var(TARGET).unwrap_or_default();
        let found = TARGETS.into_iter().find(|target| target.name == name);
        CHOSEN.get_or_init(|| found.expect("the environment names a target"));
    },
    |octets: &[u8]| {
        if let Some(target) = CHOSEN.get() {
            (target.run)(octets);
        }
    }
);
