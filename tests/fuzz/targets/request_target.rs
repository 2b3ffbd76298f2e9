//! Fuzzes `proto::request_target`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::request_target(data));
