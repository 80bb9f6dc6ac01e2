//! A method that does nothing, and one that gives a string which it holds.

use pyo3::prelude::*;
use pyo3::types::PyString;

#[pyclass(frozen)]
struct Empty(Py<PyString>);

#[pymethods]
impl Empty {
    #[new]
    fn new(text: Py<PyString>) -> Self {
        Self(text)
    }

    fn nothing(&self) {}

    fn held(&self, py: Python<'_>) -> Py<PyString> {
        self.0.clone_ref(py)
    }
}

#[pymodule(gil_used = false)]
mod empty {
    #[pymodule_export]
    use super::Empty;
}
