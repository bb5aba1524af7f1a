//! Expressions without a cluster.

use holo_client::DType;
use holo_core::expr::{self, Input};
use pyo3::prelude::*;

use crate::error::refused;

/// Type-checks an expression over inputs of `(name, dtype)` and returns the dtype of its value.
#[pyfunction]
pub(crate) fn expression_dtype(text: &str, inputs: Vec<(String, String)>) -> PyResult<String> {
    let inputs: Result<Vec<Input>, _> = inputs
        .into_iter()
        .map(|(name, dtype)| Ok(Input { name, dtype: DType::parse(&dtype)? }))
        .collect();
    let parsed = expr::parse(text, &inputs.map_err(refused)?).map_err(refused)?;
    Ok(parsed.program.output_dtype().name().to_owned())
}
