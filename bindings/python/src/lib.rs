//! The native half of the Python package `holocompute`: handles, bytes and programs.
//!
//! NumPy's semantics (operators, indexing, dtypes, repr) live in the Python half; this half moves bytes and errors
//! between it and `holo-client`, and waits without holding the interpreter.
//!
//! # Not here
//!
//! Anything that decides: `holo-client` and `holo-core`.

mod array;
mod cluster;
mod error;
mod program;
mod waiting;

use pyo3::prelude::*;

/// `holocompute._native`.
#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add_class::<cluster::NativeCluster>()?;
    module.add_class::<array::NativeArray>()?;
    module.add_function(wrap_pyfunction!(cluster::connect, module)?)?;
    module.add_function(wrap_pyfunction!(cluster::local, module)?)?;
    module.add_function(wrap_pyfunction!(program::expression_dtype, module)?)?;
    Ok(())
}
