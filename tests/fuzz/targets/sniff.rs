//! Fuzzes `proto::sniff_bytes`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::sniff_bytes(data));
