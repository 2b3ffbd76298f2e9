//! Fuzzes `proto::h3_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::h3_frames(data));
