//! The WGSL functions that kernels call, and the choice of those that one kernel needs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

const SOURCES: [&str; 2] = [include_str!("integer64.wgsl"), include_str!("float32.wgsl")];

/// One item of the library: a function or a struct, with the comment above it.
struct Item {
    text: &'static str,
    /// Names of the items that it mentions.
    uses: Vec<&'static str>,
}

static ITEMS: LazyLock<BTreeMap<&'static str, Item>> = LazyLock::new(|| {
    // Items are separated by blank lines, and have none inside.
    let texts = || SOURCES.into_iter().flat_map(|source| source.split("\n\n")).map(str::trim);
    let named = || texts().filter_map(|text| Some((name_of(text)?, text)));
    let names: BTreeSet<&str> = named().map(|(name, _)| name).collect();
    let item = |(name, text): (&'static str, &'static str)| {
        let uses =
            words(text).filter(|word| *word != name).filter_map(|word| names.get(word).copied());
        (name, Item { text, uses: uses.collect() })
    };
    named().map(item).collect()
});

/// The items that `code` needs, directly or through others, in order of their names.
pub(super) fn needed_by(code: &str) -> String {
    let mut needed = BTreeSet::new();
    let mut open: Vec<&str> = words(code).collect();
    while let Some(word) = open.pop() {
        if let Some((name, item)) = ITEMS.get_key_value(word)
            && needed.insert(*name)
        {
            open.extend(&item.uses);
        }
    }
    needed.iter().filter_map(|name| ITEMS.get(name)).flat_map(|item| [item.text, "\n\n"]).collect()
}

fn name_of(text: &'static str) -> Option<&'static str> {
    let definition = text
        .lines()
        .find_map(|line| line.strip_prefix("fn ").or_else(|| line.strip_prefix("struct ")));
    words(definition?).next()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_gets_what_it_calls_and_what_that_calls() {
        assert_eq!(needed_by("let v1 = v0 + v0;"), "");
        let turned = needed_by("let v1 = f32_sin(v0);");
        for name in ["fn f32_sin(", "struct Turn ", "fn f32_turn(", "fn pair_product("] {
            assert!(turned.contains(name), "{name} in {turned}");
        }
        assert!(!turned.contains("fn f32_log("));
    }

    #[test]
    fn every_item_of_the_library_has_a_name() {
        let functions = SOURCES.iter().map(|source| source.matches("\nfn ").count());
        let structs = SOURCES.iter().map(|source| source.matches("\nstruct ").count());
        assert_eq!(ITEMS.len(), functions.sum::<usize>() + structs.sum::<usize>());
    }
}
