//! libFuzzer on [`lab_fuzz::token`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lab_fuzz::token(data));
