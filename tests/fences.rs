//! Rules of the sources that no compiler holds.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where `unsafe` may stand, and why. Everywhere else it is an error.
const UNSAFE_ALLOWED: &[(&str, &str)] = &[
    ("engine/src/dpdk/", "the owners of DPDK's objects, and a signal to EAL's threads"),
    (
        "engine/src/wire/checksum/simd.rs",
        "calls functions that are compiled for AVX-512 and AVX2, after asking the CPU",
    ),
    ("ffi/", "the raw bindings, and the test of their layout"),
    ("tests/fuzz/", "libFuzzer's entry points, made by its macro"),
    ("tests/engine_lifecycle.rs", "an allocator that counts what is not freed"),
    ("tests/fences.rs", "says the word"),
];

#[test]
fn unsafe_stands_in_the_fenced_module_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["engine", "ffi", "bench", "tests", "docker"] {
        sources(&root.join(folder), &mut files);
    }
    assert!(files.len() > 100, "the sources are found: {}", files.len());
    let mut found = Vec::new();
    let mut used = vec![false; UNSAFE_ALLOWED.len()];
    for file in &files {
        let name = file.strip_prefix(root).unwrap().to_str().unwrap();
        let text = fs::read_to_string(file).unwrap();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| says_unsafe(line)) {
            match UNSAFE_ALLOWED.iter().position(|(allowed, _)| name.starts_with(allowed)) {
                Some(at) => used[at] = true,
                None => found.push(format!("{name}:{}: {}", number + 1, line.trim())),
            }
        }
    }
    let found = found.join("\n");
    assert!(found.is_empty(), "unsafe outside of the fence; see UNSAFE_ALLOWED in tests/fences.rs:\n{found}");
    for (used, (allowed, _)) in used.iter().zip(UNSAFE_ALLOWED).filter(|(_, (allowed, _))| !allowed.contains("fuzz")) {
        assert!(used, "{allowed} says no unsafe any more: take it out of the list");
    }
}

/// Whether code says it: as a word of its own, or by letting the lint off. Comments do not count.
fn says_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let word = |at: usize| {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        !code[..at].ends_with(is_name) && !code[at + "unsafe".len()..].starts_with(is_name)
    };
    code.match_indices("unsafe").any(|(at, _)| word(at)) || code.contains("(unsafe_code)")
}

#[test]
fn the_word_is_recognised() {
    for line in
        ["unsafe {", "pub unsafe fn x()", "#![allow(unsafe_code)]", "let x = unsafe { y };", "#[unsafe(no_mangle)]"]
    {
        assert!(says_unsafe(line), "{line}");
    }
    for line in ["// unsafe", "let not_unsafe = 1;", "unsafe_op();", "//! no `unsafe` here"] {
        assert!(!says_unsafe(line), "{line}");
    }
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
