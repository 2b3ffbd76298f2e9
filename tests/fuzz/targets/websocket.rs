//! Fuzzes `proto::websocket`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::websocket_frames(data));
