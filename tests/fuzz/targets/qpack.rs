//! Fuzzes `proto::qpack_section`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::proto::qpack_section(data));
