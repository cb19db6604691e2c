//! The fuzz targets' corpus through the very functions that the fuzzers call, without a fuzzing toolchain: what was
//! once found stays fixed. `make fuzz` looks for more; tests/fuzz/README.md.

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::{
    collections::BTreeSet,
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus")
}

fn replay(target: &str) {
    let (_, run) = fuzz::TARGETS.iter().find(|(name, _)| *name == target).expect("a target of that name");
    let mut count = 0;
    let entries = fs::read_dir(corpus().join(target)).expect("a corpus");
    let paths: BTreeSet<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    for path in paths {
        let input = fs::read(&path).expect("an input");
        assert!(catch_unwind(|| run(&input)).is_ok(), "fails on {}", path.display());
        count += 1;
    }
    assert!(count >= 5, "{count} inputs: the corpus of {target} is gone");
    // The empty input and single bytes are in no corpus.
    run(&[]);
    (0..=255).for_each(|byte| run(&[byte]));
}

#[test]
fn frame() {
    replay("frame");
}

#[test]
fn netconsole() {
    replay("netconsole");
}

#[test]
fn syslog() {
    replay("syslog");
}

#[test]
fn options() {
    replay("options");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn spool() {
    replay("spool");
}

/// Every target has its corpus and its fuzzer, and every corpus a target.
#[test]
fn nothing_is_left_out() {
    let names = |path: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(path).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").path());
        names.map(|path| path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned()).collect()
    };
    let targets = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&corpus()), targets);
    assert_eq!(names(&corpus().join("../fuzz_targets")), targets);
}
