//! libFuzzer on [`lab_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lab_fuzz::frame(data));
