//! Fuzzes `proto::grpc`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::grpc_messages(data));
