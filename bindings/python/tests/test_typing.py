"""The stubs of the native half name what it really has."""

from __future__ import annotations

import ast
from pathlib import Path

import holocompute
from holocompute import _native

PACKAGE = Path(holocompute.__file__).parent


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


def test_stubs_and_native_half_have_the_same_names() -> None:
    tree = ast.parse((PACKAGE / "_native.pyi").read_text())
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    real = {name for name in dir(_native) if not name.startswith("_")}
    assert functions | set(classes) == real
    for name, stub in classes.items():
        methods = {node.name for node in stub.body if isinstance(node, ast.FunctionDef)}
        assert methods == {member for member in dir(getattr(_native, name)) if not member.startswith("_")}, name
