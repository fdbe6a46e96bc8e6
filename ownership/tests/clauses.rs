//! The table of clauses is whole: each clause of the two documents has a row, and the tests that rows
//! name are there.

use std::{collections::BTreeSet, fs, path::Path};

const TABLE: &str = include_str!("../src/clauses.md");

/// The list of tests that every store runs.
const CONFORMANCE: &str = include_str!("conformance/mod.rs");

const DOCUMENTS: [(&str, &str); 2] = [
    ("O", include_str!("../../docs/spec/ownership-model.md")),
    ("V", include_str!("../../docs/spec/versioning-model.md")),
];

/// The numbers of a document's clauses: headings that begin with one, such as `# 3. Title` and
/// `## 2.1 Title`.
fn clauses(letter: &str, document: &str) -> Vec<String> {
    let headings = document.lines().filter(|line| line.starts_with('#'));
    let number = |heading: &str| {
        let number =
            heading.trim_start_matches('#').split_whitespace().next()?.trim_end_matches('.');
        number.starts_with(|c: char| c.is_ascii_digit()).then(|| format!("{letter} {number}"))
    };
    headings.filter_map(number).collect()
}

/// The table's rows: clause, and the tests that show it.
fn rows() -> Vec<(&'static str, Vec<&'static str>)> {
    let rows = TABLE.lines().filter(|line| line.starts_with("| ")).skip(2);
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [clause, _, _, shown] = cells[..] else { panic!("four cells in {row}") };
        let names = shown.split('`').filter(|name| !name.trim().is_empty());
        (clause, names.collect())
    })
    .collect()
}

#[test]
fn every_clause_has_a_row_and_every_row_a_clause() {
    let demanded: BTreeSet<_> =
        DOCUMENTS.iter().flat_map(|(letter, document)| clauses(letter, document)).collect();
    assert_eq!(demanded.len(), 10 + 2 + 14, "the numbered clauses of both documents");
    let there: BTreeSet<_> = rows().iter().map(|(clause, _)| clause.to_string()).collect();
    assert_eq!(demanded, there);
}

#[test]
fn every_row_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (clause, tests) in rows() {
        assert!(!tests.is_empty(), "{clause} is shown by nothing");
        for name in tests {
            let (file, test) = name.split_once("::").expect("a file and a test");
            let source = fs::read_to_string(root.join(file));
            let source = source.unwrap_or_else(|error| panic!("{clause}: {file}: {error}"));
            assert!(is_test(&source, test), "{clause}: {file} has no test {test}");
        }
    }
}

/// Whether a source has a test of this name: a function with a test attribute, or one of the suite
/// that all stores run.
fn is_test(source: &str, name: &str) -> bool {
    let shared = ["(", "<"].map(|open| format!("pub async fn {name}{open}"));
    if shared.iter().any(|head| source.contains(head)) {
        return CONFORMANCE.split_whitespace().any(|word| word.trim_end_matches(';') == name);
    }
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    lines.iter().enumerate().any(|(at, line)| {
        line.contains(&head)
            && lines[..at]
                .iter()
                .rev()
                .take_while(|line| line.starts_with("#[") || line.starts_with("//"))
                .any(|line| line.starts_with("#[test") || line.starts_with("#[tokio::test"))
    })
}
