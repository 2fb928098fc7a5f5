//! libFuzzer on [`lab_fuzz::root`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lab_fuzz::root(data));
