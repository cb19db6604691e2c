//! The table of `docs/faults.md`.

/// `docs/faults.md` names tests and counters: each is there.
#[test]
fn the_tests_and_counters_of_the_table_are_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let table = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let mut sources = String::new();
    let mut folders = vec![root.join("tests"), root.join("engine/src")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let quoted = |cell: &str| -> Vec<String> { cell.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let (mut tests, mut counters) = (0, 0);
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<_> = row.trim_matches('|').split('|').collect();
        assert_eq!(cells.len(), 4, "{row}");
        let named = quoted(cells[3]);
        assert!(!named.is_empty(), "no test: {row}");
        for name in named {
            let declared = format!("fn {name}() {{");
            let before = sources.find(&declared).map(|at| &sources[..at]);
            let before = before.unwrap_or_else(|| panic!("there is no test {name}: {row}"));
            let attribute = before.trim_end().rsplit("\n\n").next().unwrap();
            assert!(attribute.contains("#[test]"), "{name} is no test");
            tests += 1;
        }
        for name in quoted(cells[2]) {
            // Declared by `counters!`, or a key of the ledger.
            let declared =
                sources.contains(&format!("        {name},\n")) || sources.contains(&format!("(\"{name}\", "));
            assert!(declared || sources.contains(&format!("&str = \"{name}\"")), "there is no counter {name}: {row}");
            counters += 1;
        }
    }
    assert!(tests > 30 && counters > 15, "{tests} tests, {counters} counters");
}
