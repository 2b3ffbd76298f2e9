//! Fuzzes `policy::domain_list`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sluice_fuzz::policy::domain_list(data));
