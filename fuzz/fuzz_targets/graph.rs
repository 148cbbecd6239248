#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| crescendo_fuzz::graph(bytes));
