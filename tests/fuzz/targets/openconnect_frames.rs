//! Fuzzes `proto::openconnect::frame`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::openconnect_frames(data));
