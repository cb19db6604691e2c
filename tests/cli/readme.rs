//! README's queries, run by the tools that they are for on files that the program wrote.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use super::{outputs::sink, support::*};

/// The queries' texts are taken from README.md itself.
#[test]
fn readme_queries_give_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut payloads = Vec::new();
    let mut expected = Vec::new();
    for at in 0..400_u64 {
        let (severity, failed) = (at % 8, at % 3 == 0);
        let message = if failed { format!("sda: I/O error {at}") } else { format!("sda: all well {at}") };
        if severity <= 3 && failed {
            expected.push(message.clone());
        }
        payloads.push(match at % 2 {
            0 => (514, format!("<{}>1 - web1 smartd 1 - - {message}", 8 + severity).into_bytes()),
            _ => (6666, format!("{severity},{at},{at}000,-,caller=T1;{message}\n SUBSYSTEM=block\n").into_bytes()),
        });
    }
    sink(dir.path(), &payloads, &["--output", "parquet"]);
    fs::rename(dir.path().join("out"), dir.path().join("logs")).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/readme_queries.py");
    let run = run(Command::new("python3").arg(script).arg(dir.path()), b"").ends(0);
    if run.stdout.starts_with("skipped") {
        println!("SKIPPED README's queries: {}", run.stdout);
        return;
    }
    let found: Value = serde_json::from_str(run.stdout.lines().last().unwrap()).unwrap();
    expected.sort();
    for tool in ["duckdb", "polars"] {
        let rows = found[tool].as_array().unwrap();
        let mut messages: Vec<_> = rows.iter().map(|row| row["message"].as_str().unwrap().to_owned()).collect();
        messages.sort();
        assert_eq!(messages, expected, "{tool}");
        let times: Vec<_> = rows.iter().map(|row| row["time"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{tool}: {times:?}");
        let hosts = rows.iter().filter(|row| row["host"] == "web1").count();
        assert_eq!(hosts, rows.iter().filter(|row| row["app"] == "smartd").count());
        assert!(0 < hosts && hosts < rows.len(), "{tool}: {hosts} of {}", rows.len());
    }
    // A field by its name, of the kernel's lines alone.
    for row in found["duckdb"].as_array().unwrap() {
        let of_kernel = row["host"] == "10.99.0.2";
        let subsystem = row.as_object().unwrap().iter().find(|(name, _)| name.contains("SUBSYSTEM")).unwrap().1;
        assert_eq!(*subsystem == "block", of_kernel, "{row}");
    }
}
