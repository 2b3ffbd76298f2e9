//! Fuzzes `proto::dtls12`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::dtls12_server(data));
