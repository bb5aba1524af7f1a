//! Documents that describe a format carry a hash of the code that defines it, so that neither changes alone.
//!
//! A pin is a line `<!-- pin: 0123456789abcdef of folder/*.rs file.rs -->`. It covers product code only: the text of a
//! file up to its first `#[cfg(test)]`, without comments on lines of their own and without spaces.

use crate::report::Finding;
use crate::workspace::Tree;

const START: &str = "<!-- pin: ";
const END: &str = " -->";

/// Documents that must have a pin, with the file that it must cover at least.
const PINNED: [(&str, &str); 1] = [("docs/wire-format.md", "holo-core/src/wire/header.rs")];

/// Every pin fits the code that it covers.
pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.with_extension("md") {
        let pins: Vec<Pin<'_>> = text.lines().filter_map(Pin::parse).collect();
        for pin in &pins {
            match hash(tree, &pin.covers) {
                Some(hash) if hash == pin.hash => {}
                Some(_) => {
                    let message = format!(
                        "{} changed: update {path}, then run `cargo xtask tidy --pin`",
                        pin.covers.join(" ")
                    );
                    findings.push(Finding::error(path, message));
                }
                None => findings
                    .push(Finding::error(path, format!("a pin covers no file: {:?}", pin.covers))),
            }
        }
        for (_, covered) in PINNED.iter().filter(|(document, _)| *document == path) {
            if !pins.iter().any(|pin| pin.covers.iter().any(|pattern| matches(pattern, covered))) {
                findings.push(Finding::error(path, format!("no pin covers {covered}")));
            }
        }
    }
    for (document, _) in PINNED.iter().filter(|(document, _)| tree.text(document).is_none()) {
        findings.push(Finding::error(*document, "the document is missing"));
    }
    findings
}

/// Documents whose pins no longer fit, with renewed ones.
pub(super) fn renewed(tree: &Tree) -> Vec<(String, String)> {
    let mut documents = Vec::new();
    for (path, text) in tree.with_extension("md") {
        let lines = text.split_inclusive('\n').map(|line| {
            let renewed = Pin::parse(line).and_then(|pin| {
                let hash = hash(tree, &pin.covers)?;
                Some(line.replacen(pin.hash, &hash, 1))
            });
            renewed.unwrap_or_else(|| line.to_owned())
        });
        let lines: String = lines.collect();
        if lines != text {
            documents.push((path.to_owned(), lines));
        }
    }
    documents
}

/// One pin of a document.
struct Pin<'a> {
    hash: &'a str,
    covers: Vec<&'a str>,
}

impl<'a> Pin<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let inner = line.trim_end().strip_prefix(START)?.strip_suffix(END)?;
        let (hash, covers) = inner.split_once(" of ")?;
        Some(Self { hash, covers: covers.split_whitespace().collect() })
    }
}

/// Hash of all covered files in order of their paths; `None` when a pattern covers none.
fn hash(tree: &Tree, patterns: &[&str]) -> Option<String> {
    let mut state = Fnv::new();
    for pattern in patterns {
        let mut covered = tree.files.iter().filter(|(path, _)| matches(pattern, path)).peekable();
        covered.peek()?;
        for (path, text) in covered {
            // Neither bytes nor paths contain a zero: it parts one from the next.
            state.feed(path.as_bytes());
            state.feed(&[0]);
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = product.lines().filter(|line| !line.trim_start().starts_with("//"));
            code.flat_map(str::split_whitespace).for_each(|word| state.feed(word.as_bytes()));
            state.feed(&[0]);
        }
    }
    Some(format!("{:016x}", state.0))
}

/// Whether `path` is `pattern`, or lies directly in the folder of a pattern `folder/*.extension`.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == path,
        Some((folder, ending)) => path
            .strip_prefix(folder)
            .and_then(|rest| rest.strip_suffix(ending))
            .is_some_and(|name| !name.contains('/') && name != "tests"),
    }
}

/// FNV-1a of 64 bits: stable, and enough to notice a change that nobody hides.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "docs/wire-format.md";
    const PIN: &str = "# Wire\n<!-- pin: 0 of holo-core/src/wire/*.rs -->\nmore\n";

    fn tree(header: &str, document: &str) -> Tree {
        Tree::from([("holo-core/src/wire/header.rs", header), (DOCUMENT, document)])
    }

    #[test]
    fn a_changed_format_needs_a_renewed_pin() {
        let stale = tree("one", PIN);
        assert_eq!(check(&stale).len(), 1);
        let renewal = renewed(&stale);
        assert_eq!(renewal.len(), 1);
        let fresh = tree("one", &renewal[0].1);
        assert_eq!(check(&fresh), []);
        assert_eq!(renewed(&fresh), []);
        let found = check(&tree("two", &renewal[0].1));
        assert!(found[0].message.contains("update docs/wire-format.md"), "{found:?}");
    }

    #[test]
    fn tests_comments_and_spaces_are_no_part_of_a_format() {
        let (_, document) = renewed(&tree("one {}\n\n#[cfg(test)]\nmod tests {}", PIN)).remove(0);
        assert_eq!(check(&tree("/// Says why.\none {\n}\n", &document)), []);
        assert_eq!(check(&tree("one {2}", &document)).len(), 1);
    }

    #[test]
    fn a_document_without_its_pin_or_with_an_empty_one_is_found() {
        assert_eq!(check(&tree("one", "# Wire\n")).len(), 1);
        assert_eq!(check(&tree("one", "<!-- pin: 0 of nowhere/*.rs -->\n")).len(), 2);
        assert_eq!(check(&Tree::default()).len(), 1);
    }

    #[test]
    fn the_hash_is_the_published_one() {
        let mut state = Fnv::new();
        state.feed(b"foobar");
        assert_eq!(state.0, 0x8594_4171_f739_67e8);
    }
}
