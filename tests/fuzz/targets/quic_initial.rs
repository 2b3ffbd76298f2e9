//! Fuzzes `proto::quic_initial`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::quic_initial_datagrams(data));
