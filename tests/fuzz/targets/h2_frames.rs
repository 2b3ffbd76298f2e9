//! Fuzzes `proto::h2_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::h2_frames(data));
