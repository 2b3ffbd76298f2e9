//! Fuzzes `proto::http1_response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::http1_response(data));
