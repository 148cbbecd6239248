#![no_main]

use crescendo_fuzz::{check, weights::torch_legacy::read};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes, read));
