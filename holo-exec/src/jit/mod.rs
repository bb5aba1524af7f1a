//! The expression compiler.

mod expression;

pub use expression::Expression;
