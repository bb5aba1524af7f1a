//! Documents agree with the code and with each other.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use crate::report::Finding;
use crate::workspace::Tree;

const ERRORS: &str = "docs/errors.md";
const CODES: &str = "holo-core/src/error.rs";

/// `docs/errors.md` has exactly one row `| HC1001 | title | retry | exit | ... |` per code, as the code says it.
pub(super) fn errors_are_listed(tree: &Tree) -> Vec<Finding> {
    let (Some(code), Some(document)) = (tree.text(CODES), tree.text(ERRORS)) else {
        return vec![Finding::error(ERRORS, format!("it or {CODES} is missing"))];
    };
    let mut wanted: BTreeMap<String, String> = code.lines().filter_map(row_of_code).collect();
    let mut findings = Vec::new();
    if wanted.is_empty() {
        findings.push(Finding::error(CODES, "no error code was found in it"));
    }
    for line in document.lines().filter(|line| line.starts_with("| HC")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let number = cells[1];
        match wanted.remove(number) {
            None => findings
                .push(Finding::error(ERRORS, format!("{number} is no code, or is listed twice"))),
            Some(row) => {
                let is = cells.get(2..5).map(|cells| cells.join(" | ")).unwrap_or_default();
                if is != row {
                    findings.push(Finding::error(
                        ERRORS,
                        format!("{number} must read `{row}`, not `{is}`"),
                    ));
                }
            }
        }
    }
    for (number, row) in wanted {
        findings.push(Finding::error(ERRORS, format!("add a row `| {number} | {row} | ... |`")));
    }
    findings
}

/// Number and row of a line `Name = 1001, "title", Never, exit 2;`.
fn row_of_code(line: &str) -> Option<(String, String)> {
    let (name, rest) = line.trim().split_once(" = ")?;
    let (number, rest) = rest.split_once(", \"")?;
    let (title, rest) = rest.split_once("\", ")?;
    let (retry, rest) = rest.split_once(", exit ")?;
    let exit = rest.strip_suffix(';')?;
    let plain = name.chars().all(char::is_alphanumeric) && number.parse::<u16>().is_ok();
    plain.then(|| (format!("HC{number}"), format!("{title} | {} | {exit}", retry.to_lowercase())))
}

/// Relative links of Markdown files lead to files of this checkout.
pub(super) fn links_lead_somewhere(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("md") {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(char::is_whitespace) {
                continue;
            }
            let full = Path::new(path).with_file_name(target);
            let full = normal(&full);
            let known = tree.files.keys().any(|file| {
                file.strip_prefix(&full)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            });
            if !known {
                findings.push(Finding::error(path, format!("the link to {target} leads nowhere")));
            }
        }
    }
    findings
}

/// The path without `.` and `..`, with `/` between names and none at the end.
fn normal(path: &Path) -> String {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    plain.to_string_lossy().replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "macro = 1\n    NotFound = 1101, \"not found\", Never, exit 3;\n    WrongNode = 1104, \"wrong node\", Later, exit 6;\n";

    fn found(document: &str) -> Vec<Finding> {
        errors_are_listed(&Tree::from([(CODES, SOURCE), (ERRORS, document)]))
    }

    #[test]
    fn a_complete_table_passes() {
        let table =
            "| HC1101 | not found | never | 3 | x |\n| HC1104 | wrong node | later | 6 | y |\n";
        assert_eq!(found(table), []);
    }

    #[test]
    fn missing_wrong_double_and_unknown_rows_are_found() {
        let first = "| HC1101 | not found | never | 3 | x |\n";
        let second = "| HC1104 | wrong node | later | 6 | y |\n";
        for table in [
            first.to_owned(),
            format!("{first}| HC1104 | wrong node | never | 6 | y |\n"),
            format!("{first}{second}{second}"),
            format!("{first}{second}| HC7 | x | never | 1 | |\n"),
        ] {
            assert_eq!(found(&table).len(), 1, "{table}");
        }
        assert_eq!(errors_are_listed(&Tree::default()).len(), 1);
    }

    #[test]
    fn a_link_to_nowhere_is_found() {
        let text = "[a](b/c.md) [b](../README.md#x) [c](https://example.org/x) [d](#here) [e](b) [f](gone.md)";
        let tree = Tree::from([("docs/a.md", text), ("docs/b/c.md", ""), ("README.md", "")]);
        let found = links_lead_somewhere(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("gone.md"));
    }
}
