//! Values on the command line.

use std::ffi::OsString;
use std::io::Read;

use holo_core::{ErrorCode, Failure, check_name, limits};

/// Makes a parser of ours one of clap's: the message without its `error:`, which clap puts before it.
pub(crate) fn argument<T>(
    parse: fn(&str) -> Result<T, Failure>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        parse(text).map_err(|failure| match failure.help {
            Some(help) => format!("{} [{}]\n  help: {help}", failure.message, failure.code),
            None => format!("{} [{}]", failure.message, failure.code),
        })
    }
}

/// A name for a node.
///
/// # Errors
///
/// [`ErrorCode::InvalidArgument`]; see [`check_name`].
pub(crate) fn node_name(text: &str) -> Result<String, Failure> {
    check_name("node", text).map(|()| text.to_owned())
}

/// A name for a cluster.
///
/// # Errors
///
/// As [`node_name`].
pub(crate) fn cluster_name(text: &str) -> Result<String, Failure> {
    check_name("cluster", text).map(|()| text.to_owned())
}

/// What standard input holds, for a secret that shall not stand in the list of processes.
///
/// # Errors
///
/// [`ErrorCode::FileFailed`] when it cannot be read.
pub(crate) fn stdin_text() -> Result<String, Failure> {
    let mut text = String::new();
    let most = u64::try_from(limits::TICKET_TEXT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    std::io::stdin().lock().take(most).read_to_string(&mut text).map_err(|source| {
        Failure::new(ErrorCode::FileFailed, format!("cannot read standard input: {source}"))
    })?;
    Ok(text)
}

/// `holo shutdown --cluster` means all nodes, while `--cluster ADDRS` says where the cluster is, there as everywhere: what
/// has no addresses behind it becomes `--all`.
pub(crate) fn whole_cluster(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let Some(verb) = arguments.iter().position(|it| it.eq_ignore_ascii_case("shutdown")) else {
        return arguments;
    };
    for place in verb + 1..arguments.len() {
        let no_value =
            arguments.get(place + 1).is_none_or(|next| next.as_encoded_bytes().starts_with(b"-"));
        if arguments[place] == "--cluster" && no_value {
            arguments[place] = "--all".into();
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_addresses_is_the_whole_cluster_of_a_shutdown() {
        let rewritten = |line: &str| {
            let words = whole_cluster(line.split(' ').map(OsString::from));
            words.join(std::ffi::OsStr::new(" ")).into_string()
        };
        assert_eq!(
            rewritten("holo shutdown --cluster --now"),
            Ok("holo shutdown --all --now".into())
        );
        assert_eq!(
            rewritten("holo SHUTDOWN --now --cluster"),
            Ok("holo SHUTDOWN --now --all".into())
        );
        for same in [
            "holo shutdown --cluster a:1 --node n",
            "holo --cluster a:1 shutdown --all",
            "holo status --cluster",
        ] {
            assert_eq!(rewritten(same), Ok(same.into()));
        }
    }
}
