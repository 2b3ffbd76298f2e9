//! Fuzzes `proto::packet`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::ip_packet(data));
