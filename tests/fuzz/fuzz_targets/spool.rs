#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| netpoll_fuzz::spool::run(input));
