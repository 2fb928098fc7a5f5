//! libFuzzer on [`lab_fuzz::audit`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lab_fuzz::audit(data));
