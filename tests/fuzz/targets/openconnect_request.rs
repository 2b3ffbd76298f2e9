//! Fuzzes `proto::openconnect`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::openconnect_request(data));
