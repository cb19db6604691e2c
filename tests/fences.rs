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

/// How far above its use an atomic's reason may stand.
const REASON_LINES: usize = 8;

/// Each use of an ordering has its reason: a label (`M1`) of which the file says what it pairs with, or, where it is relaxed,
/// that word and why; either near the use or where the atomic is declared.
#[test]
fn every_ordering_has_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    files.retain(|file| !file.strip_prefix(root).unwrap().to_str().unwrap().contains("tests"));
    assert!(files.len() > 100, "the sources are found: {}", files.len());
    let (mut found, mut uses) = (Vec::new(), 0);
    for file in &files {
        let text = fs::read_to_string(file).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        // Tests stand at the end of a file.
        let opens_tests = |pair: &[&str]| {
            pair[0].starts_with("#[cfg(")
                && pair[0].contains("test")
                && pair[1].contains("mod ")
                && pair[1].ends_with('{')
        };
        lines.truncate(lines.windows(2).position(opens_tests).unwrap_or(lines.len()));
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| says_ordering(line)) {
            uses += 1;
            let near = &lines[at.saturating_sub(REASON_LINES)..=at];
            let reason = |comments: &[&str]| says_why(comments, line.contains("::Relaxed"));
            if !reason(near) && !declared(&lines, line).is_some_and(reason) {
                found.push(format!("{}:{}: {}", file.strip_prefix(root).unwrap().display(), at + 1, line.trim()));
            }
        }
    }
    assert!(uses > 50, "the uses are found: {uses}");
    let found = found.join("\n");
    assert!(found.is_empty(), "an ordering without its reason; CONTRIBUTING.md says what is wanted:\n{found}");
}

fn says_ordering(line: &str) -> bool {
    let code = line.split("//").next().unwrap();
    ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"].iter().any(|name| code.contains(&format!("Ordering::{name}")))
}

/// Whether the comments name a label, or, for a relaxed use, the word.
fn says_why(lines: &[&str], relaxed: bool) -> bool {
    let comments = lines.iter().filter_map(|line| line.split_once("//")).map(|(_, comment)| comment);
    let is_label = |word: &str| matches!(word.as_bytes(), [b'A'..=b'Z', b'0'..=b'9']);
    comments
        .flat_map(|comment| comment.split(|c: char| !c.is_alphanumeric()))
        .any(|word| if relaxed { word.eq_ignore_ascii_case("relaxed") } else { is_label(word) })
}

/// The lines above and at the declaration of the atomic that `line` uses: a field or a static of this file.
fn declared<'a>(lines: &'a [&'a str], line: &str) -> Option<&'a [&'a str]> {
    let call =
        [".load(", ".store(", ".swap(", ".fetch_", ".compare_exchange("].iter().find_map(|call| line.find(call))?;
    let name = line[..call].rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next()?;
    let at = lines.iter().position(|line| line.contains(&format!("{name}: ")) && line.contains("Atomic"))?;
    Some(&lines[at.saturating_sub(REASON_LINES)..=at])
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
