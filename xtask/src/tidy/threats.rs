//! Every mitigation of the threat model names the test that proves it, or says that there is none yet.
//!
//! A mitigation is a row `| ids | mitigation | tests |` of a table in `SECURITY_THREAT_MODEL.md` whose heading's last
//! column is `Test`. The last cell holds names of test functions in backquotes, or starts with `not yet`.

use std::collections::BTreeSet;

use crate::report::Finding;
use crate::workspace::Tree;

const DOCUMENT: &str = "SECURITY_THREAT_MODEL.md";

/// Rows whose tests are missing.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(DOCUMENT) else {
        return vec![Finding::error(DOCUMENT, "the document is missing")];
    };
    let functions = functions(tree);
    let mut findings = Vec::new();
    let mut rows = 0;
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        if !line.starts_with('|') {
            inside = false;
            continue;
        }
        let last = cells.last().copied().unwrap_or_default();
        if last == "Test" {
            inside = true;
            continue;
        }
        if !inside || last.starts_with("---") {
            continue;
        }
        rows += 1;
        let place = format!("{DOCUMENT}:{}", number + 1);
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        for test in named.iter().filter(|test| !functions.contains(**test)) {
            findings.push(Finding::error(&place, format!("there is no test `{test}`")));
        }
        if named.is_empty() && !last.starts_with("not yet") {
            findings.push(Finding::error(&place, "name a test in backquotes, or say `not yet`"));
        }
    }
    if rows == 0 {
        findings.push(Finding::error(DOCUMENT, "it has no table with a last column `Test`"));
    }
    findings
}

/// Names of all test functions: `fn` below a `#[...test]` in Rust or in `proptest!`, `def test_...` in Python.
fn functions(tree: &Tree) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for (_, text) in tree.with_extension("rs") {
        let mut marked = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[") {
                marked |= line.contains("test]") || line.contains("test(");
            } else if let Some((_, rest)) = line.split_once("fn ") {
                if marked {
                    names.extend(rest.split('(').next());
                }
                marked = false;
            }
        }
    }
    for (_, text) in tree.with_extension("py") {
        let tests = text.lines().filter_map(|line| {
            let line = line.trim_start();
            line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ")
        });
        names.extend(
            tests.filter(|it| it.starts_with("test_")).filter_map(|it| it.split('(').next()),
        );
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(cell: &str) -> String {
        format!(
            "# T\n| Id | Mitigation | Test |\n|---|---|---|\n| HC-S1 | keys | {cell} |\n\n| a | b |\n|---|---|\n| c | d |\n"
        )
    }

    fn found(cell: &str) -> Vec<Finding> {
        let model = model(cell);
        check(&Tree::from([
            (DOCUMENT, model.as_str()),
            (
                "a.rs",
                "#[test]\n#[cfg(unix)]\nfn a_key_is_checked() {}\nfn no_test() {}\n#[tokio::test]\nasync fn later_too() {}",
            ),
            ("b.py", "def test_keys():\n  pass\ndef other(): pass"),
        ]))
    }

    #[test]
    fn tests_that_exist_and_honest_gaps_pass() {
        for cell in [
            "`a_key_is_checked`, `test_keys`",
            "`later_too` on Linux",
            "not yet",
            "not yet: issue 3",
        ] {
            assert_eq!(found(cell), [], "{cell}");
        }
    }

    #[test]
    fn a_missing_test_fails_and_so_does_an_empty_cell() {
        for cell in
            ["`gone`", "", "reviewed", "`no_test`", "`other`", "`a_key_is_checked` and `gone`"]
        {
            assert_eq!(found(cell).len(), 1, "{cell}");
        }
    }

    #[test]
    fn a_model_without_mitigations_fails() {
        assert_eq!(check(&Tree::default()).len(), 1);
        assert_eq!(check(&Tree::from([(DOCUMENT, "nothing")])).len(), 1);
    }
}
