//! libFuzzer on [`lab_fuzz::sync_message`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| lab_fuzz::sync_message(data));
