//! Fuzzes `proto::client_hello`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::client_hello(data));
