//! libFuzzer on [`lab_fuzz::join_frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lab_fuzz::join_frame(data));
