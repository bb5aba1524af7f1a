//! Text to [`Program`].

use crate::expr::{Input, Program};
use crate::{ErrorCode, Failure};

/// What a text says.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The name that the value is assigned to, if any.
    pub target: Option<String>,
    /// The value.
    pub program: Program,
}

/// Reads an expression over `inputs`.
///
/// # Errors
///
/// [`ErrorCode::ExpressionInvalid`] with a line that points at the place, [`ErrorCode::TooLarge`].
pub fn parse(text: &str, inputs: &[Input]) -> Result<Parsed, Failure> {
    let message = format!("{text:?} over {} inputs", inputs.len());
    Err(Failure::new(ErrorCode::NotYet, message))
}
