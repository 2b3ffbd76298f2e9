//! Fuzzes `proto::http1_body`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::http1_body(data));
