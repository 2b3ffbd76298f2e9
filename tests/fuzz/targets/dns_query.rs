//! Fuzzes `proto::dns`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::dns_query(data));
