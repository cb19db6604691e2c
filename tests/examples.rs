//! The library's examples run, and end well. `cargo test` builds them beside the tests.

use std::{path::PathBuf, process::Command};

fn example(name: &str) -> String {
    let tests = std::env::current_exe().unwrap();
    let path: PathBuf = tests.ancestors().nth(2).unwrap().join("examples").join(name);
    let output = Command::new(&path).output().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[test]
fn sender() {
    let said = example("sender");
    assert!(said.contains("submitted                         1000") && said.contains("balanced"), "{said}");
}

#[test]
fn echo() {
    let said = example("echo");
    assert!(said.contains("100 of 100 echoes came back") && !said.contains("NOT BALANCED"), "{said}");
}

#[test]
fn two_clients() {
    let said = example("two_clients");
    assert!(said.contains("client \"with a hook\" holds it") && said.contains("[\"still delivered\"]"), "{said}");
}
