//! Rules about single files: length, names, words.

use std::path::Path;

use crate::report::Finding;
use crate::workspace::Tree;

/// Lines that a source file may have.
const LINES_MAX: usize = 1000;
/// Lines past which a source file should be split.
const LINES_WANTED: usize = 600;
/// Lines of a `lib.rs`: one screen of what the crate is, with its example.
const LIB_LINES_MAX: usize = 100;

/// Files that may be longer than [`LINES_MAX`], each with its reason.
const LONG_FILES: [(&str, &str); 0] = [];

/// Names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 6] = ["util", "utils", "common", "helpers", "types", "misc"];

/// Marks of work that somebody meant to come back to. Split so that this file does not contain them.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimplement", "ed!("),
    concat!("#[", "ignore"),
    concat!("FIX", "ME"),
    concat!("pytest.mark.", "skip("),
];

/// Places that exist on one machine only, and settings that bend where packages come from.
const FOREIGN: [&str; 6] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tmp", "/t/"),
    concat!("index", "-url"),
    concat!("replace", "-with"),
    concat!("find", "-links"),
];

/// Hosts that a plain `http://` address may name: this machine, and the namespace of a licence.
const PLAIN_HTTP_HOSTS: [&str; 4] = ["127.0.0.1", "localhost", "www.apache.org", "www.w3.org"];

/// Source files are short.
pub(super) fn length(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for extension in ["rs", "py", "wgsl"] {
        for (path, text) in tree.with_extension(extension) {
            let lines = text.lines().count();
            let excepted = LONG_FILES.iter().any(|(long, _)| *long == path);
            if lines > LINES_MAX && !excepted {
                let message = format!("{lines} lines; at most {LINES_MAX} are allowed: split it");
                findings.push(Finding::error(path, message));
            } else if lines > LINES_WANTED {
                findings.push(Finding::warning(
                    path,
                    format!("{lines} lines; {LINES_WANTED} are plenty"),
                ));
            }
        }
    }
    findings
}

/// No file, folder or inline module has a name that says nothing.
pub(super) fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("rs").chain(tree.with_extension("py")) {
        let stem = Path::new(path).with_extension("");
        for name in stem.iter().filter_map(|name| name.to_str()) {
            if EMPTY_NAMES.contains(&name) {
                findings.push(Finding::error(
                    path,
                    format!("{name:?} says nothing: name what is inside"),
                ));
            }
        }
        let inline = text.lines().filter_map(|line| line.trim_start().split_once("mod "));
        for (before, rest) in inline {
            let visibility_only = before.is_empty() || before.starts_with("pub");
            if let Some((name, _)) = rest.split_once(" {")
                && visibility_only
                && EMPTY_NAMES.contains(&name)
            {
                findings.push(Finding::error(path, format!("module {name:?} says nothing")));
            }
        }
    }
    findings
}

/// Every member of the workspace has the workspace's lints.
pub(super) fn inherited_lints(tree: &Tree) -> Vec<Finding> {
    let Some(root) = tree.text("Cargo.toml") else {
        return vec![Finding::error("Cargo.toml", "there is none at the top of the workspace")];
    };
    let members = match toml::from_str::<toml::Table>(root) {
        Ok(table) => table
            .get("workspace")
            .and_then(|workspace| workspace.get("members")?.as_array().cloned())
            .unwrap_or_default(),
        Err(error) => return vec![Finding::error("Cargo.toml", error.to_string())],
    };
    let mut findings = Vec::new();
    if members.is_empty() {
        findings.push(Finding::error("Cargo.toml", "the workspace lists no members"));
    }
    for member in members.iter().filter_map(toml::Value::as_str) {
        let path = format!("{member}/Cargo.toml");
        let inherits = tree.text(&path).and_then(|text| toml::from_str::<toml::Table>(text).ok());
        let inherits = inherits.and_then(|table| table.get("lints")?.get("workspace")?.as_bool());
        if inherits != Some(true) {
            findings.push(Finding::error(path, "add `[lints]` with `workspace = true`"));
        }
    }
    findings
}

/// Nothing is left half done.
pub(super) fn unfinished_work(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("rs").chain(tree.with_extension("py")) {
        for (number, line) in text.lines().enumerate() {
            for mark in UNFINISHED.iter().filter(|mark| line.contains(**mark)) {
                let place = format!("{path}:{}", number + 1);
                findings.push(Finding::error(
                    place,
                    format!("{mark} marks unfinished work: finish or remove it"),
                ));
            }
        }
    }
    findings
}

/// No file depends on one machine's paths or on where it gets its packages from.
pub(super) fn foreign_places(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in &tree.files {
        for (number, line) in text.lines().enumerate() {
            let place = || format!("{path}:{}", number + 1);
            for needle in FOREIGN.iter().filter(|needle| line.contains(**needle)) {
                findings.push(Finding::error(place(), format!("{needle} belongs to one machine")));
            }
            for rest in line.split("http://").skip(1) {
                let host: String =
                    rest.chars().take_while(|c| c.is_alphanumeric() || ".-".contains(*c)).collect();
                if !host.is_empty() && !PLAIN_HTTP_HOSTS.contains(&host.as_str()) {
                    findings.push(Finding::error(place(), format!("plain http to {host}")));
                }
            }
            let source = line.strip_prefix("source = ").filter(|_| path == "Cargo.lock");
            if source.is_some_and(|source| !source.contains("rust-lang/crates.io-index")) {
                findings.push(Finding::error(place(), "a package from elsewhere than crates.io"));
            }
        }
    }
    findings
}

/// A `lib.rs` is one screen: what the crate is, then its modules.
pub(super) fn one_screen_lib(tree: &Tree) -> Vec<Finding> {
    let libs = tree.with_extension("rs").filter(|(path, _)| path.ends_with("src/lib.rs"));
    libs.filter_map(|(path, text)| {
        let lines = text.lines().count();
        (lines > LIB_LINES_MAX).then(|| {
            let message = format!("{lines} lines; a lib.rs is one screen and an example, at most {LIB_LINES_MAX}: move code to modules");
            Finding::error(path, message)
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Level;

    #[test]
    fn a_long_file_is_warned_of_and_a_longer_one_fails() {
        let (long, longer) = ("x\n".repeat(601), "x\n".repeat(1001));
        let tree = Tree::from([("a.rs", long.as_str()), ("b.rs", longer.as_str()), ("c.rs", "x")]);
        let found = length(&tree);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].level, found[0].place.as_str()), (Level::Warning, "a.rs"));
        assert_eq!((found[1].level, found[1].place.as_str()), (Level::Error, "b.rs"));
    }

    #[test]
    fn names_that_say_nothing_are_found_as_files_folders_and_inline_modules() {
        let tree = Tree::from([
            ("a/src/util.rs", ""),
            ("a/src/helpers/x.rs", ""),
            ("a/src/y.rs", "mod page;\npub(crate) mod misc {\n}"),
            ("a/src/typed.rs", "// a mod common to all {"),
        ]);
        let places: Vec<_> = names(&tree).into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["a/src/helpers/x.rs", "a/src/util.rs", "a/src/y.rs"]);
    }

    #[test]
    fn a_member_without_the_workspace_lints_is_found() {
        let tree = Tree::from([
            ("Cargo.toml", "[workspace]\nmembers = ['a', 'b', 'c']"),
            ("a/Cargo.toml", "[lints]\nworkspace = true"),
            ("b/Cargo.toml", "[lints]\nworkspace = false"),
        ]);
        let places: Vec<_> =
            inherited_lints(&tree).into_iter().map(|finding| finding.place).collect();
        assert_eq!(places, ["b/Cargo.toml", "c/Cargo.toml"]);
        assert_eq!(inherited_lints(&Tree::default()).len(), 1);
        assert_eq!(inherited_lints(&Tree::from([("Cargo.toml", "[workspace]")])).len(), 1);
    }

    #[test]
    fn every_mark_of_unfinished_work_is_found_with_its_line() {
        for mark in UNFINISHED {
            let text = format!("fn a() {{\n    {mark}\n}}");
            let found = unfinished_work(&Tree::from([("a.rs", text.as_str())]));
            assert_eq!(found.len(), 1, "{mark}");
            assert_eq!(found[0].place, "a.rs:2");
        }
    }

    #[test]
    fn paths_and_hosts_of_one_machine_are_found() {
        for needle in FOREIGN {
            let text = format!("see {needle}x");
            assert_eq!(foreign_places(&Tree::from([("a.md", text.as_str())])).len(), 1, "{needle}");
        }
        let plain = "http:".to_owned() + "//";
        let hosts = format!("{plain}127.0.0.1:80 {plain}mirror.lan/x {plain} {plain}localhost");
        assert_eq!(foreign_places(&Tree::from([("a.md", hosts.as_str())])).len(), 1);
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"git+https://x\"";
        let found = foreign_places(&Tree::from([("Cargo.lock", lock)]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "Cargo.lock:2");
    }

    #[test]
    fn a_lib_of_two_screens_is_found() {
        let (one, two) = ("x\n".repeat(100), "x\n".repeat(101));
        let tree = Tree::from([("a/src/lib.rs", one.as_str()), ("b/src/lib.rs", two.as_str())]);
        let found = one_screen_lib(&tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, "b/src/lib.rs");
    }
}
