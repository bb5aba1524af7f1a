//! `demo/a[0:10, ::2]`: an array, and perhaps a slice of it.

use holo_client::AnyArray;
use holo_core::{ArrayName, ErrorCode, Failure, Selection};

/// An array and the slice of it that is meant, not yet checked against the array's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The array's name.
    pub(super) name: String,
    slice: Option<String>,
}

impl Target {
    /// Whether the whole array is meant.
    pub(super) fn is_whole(&self) -> bool {
        self.slice.is_none()
    }

    /// The elements that are meant.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`] for what is no slice, [`ErrorCode::OutOfRange`] for one that leaves the array.
    pub(super) fn select(&self, array: &AnyArray) -> Result<Selection, Failure> {
        let shape = array.layout().shape();
        match &self.slice {
            None => Ok(Selection::all(shape)),
            Some(slice) => {
                Selection::parse(slice, shape).map_err(|failure| failure.context(&self.name))
            }
        }
    }
}

impl Target {
    /// Reads a name with or without a slice.
    ///
    /// # Errors
    ///
    /// [`ErrorCode::InvalidArgument`].
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let (name, slice) = match text.find('[') {
            Some(at) => (text[..at].trim_end(), Some(text[at..].to_owned())),
            None => (text, None),
        };
        if slice.as_ref().is_some_and(|slice| !slice.ends_with(']')) {
            return Err(Failure::new(
                ErrorCode::InvalidArgument,
                format!("{text:?}: the slice has no end"),
            )
            .help("write it like 'demo/a[0:10, ::2]', in quotes"));
        }
        ArrayName::new(name)?;
        Ok(Self { name: name.to_owned(), slice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_name_with_or_without_a_slice() {
        let whole = Target::parse("demo/a").unwrap();
        assert!(whole.is_whole());
        let part = Target::parse("demo/a[0:10, ::2]").unwrap();
        assert_eq!((part.name.as_str(), part.slice.as_deref()), ("demo/a", Some("[0:10, ::2]")));
        for bad in ["", "[1]", "demo/a[1", "a b[1]"] {
            assert_eq!(Target::parse(bad).unwrap_err().code, ErrorCode::InvalidArgument, "{bad:?}");
        }
    }
}
