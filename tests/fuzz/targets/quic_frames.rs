//! Fuzzes `proto::quic_frames`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::quic_packet(data));
