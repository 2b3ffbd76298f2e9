//! Fuzzes `proto::tcp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::tcp_packet(data));
