#![no_main]

use crescendo_fuzz::{check, weights::torch_zip::read};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check(bytes, read));
