//! Fuzzes `proto::multipart_form`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::multipart_form(data));
