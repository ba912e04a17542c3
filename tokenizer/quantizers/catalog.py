"""Catalog of the methods: what `registry` knows of them, read from the sources of this package without running them.

Importing a method imports torch, which takes seconds. What a list of methods says is written down in each file: the
arguments of `@register`, and the constructor's options with their types and defaults. Where these name a constant, a
type or a base class, the name is followed to the file of this package that defines it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizer.quantizers.notation import STAGES

_PACKAGE = __name__.rpartition(".")[0]
_BUILTINS: dict[str, Any] = {
    **{plain.__name__: plain for plain in (bool, int, float, str, tuple)},
    "Any": Any,
    "Literal": Literal,
    "Mapping": Mapping,
}


@dataclass(frozen=True)
class CatalogEntry:
    """A method, as its file describes it.

    Attributes:
        name: that it is registered under.
        summary: one line of what it is.
        options: declared type and default of each option.
    """

    name: str
    summary: str
    options: Mapping[str, tuple[Any, Any]]

    @property
    def is_combinator(self) -> bool:
        """Whether it is made of other quantizers."""
        return STAGES in self.options


def method_catalog(folder: Path | None = None) -> dict[str, CatalogEntry]:
    """Return all methods by name, those that a program has registered from outside included.

    Args:
        folder: that holds the sources, in place of this package's own.

    Raises:
        ValueError: a file writes an option in a way that cannot be read without running it.
    """
    package = _Package(Path(__file__).parent if folder is None else folder)
    entries = {entry.name: entry for module in package.modules() for entry in module.entries()}
    registry = sys.modules.get(f"{_PACKAGE}.registry")  # nothing can have been registered where it was never imported
    outside = {} if registry is None else registry.METHODS
    return entries | {
        name: CatalogEntry(name, method.summary, method.options)
        for name, method in outside.items()
        if name not in entries
    }


class _Package:
    """The files of a package, each parsed once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parsed: dict[str, _Module] = {}

    def modules(self) -> Iterator[_Module]:
        """Yield the modules that may hold methods."""
        for path in sorted(self._folder.glob("*.py")):
            if "@register(" in path.read_text("utf-8"):
                yield self.module(path.stem)

    def module(self, name: str) -> _Module:
        """Return one module."""
        if name not in self._parsed:
            self._parsed[name] = _Module(self._folder / f"{name}.py", self)
        return self._parsed[name]


class _Module:
    """The syntax tree of one file, and where its names come from."""

    def __init__(self, path: Path, package: _Package) -> None:
        self._path, self.package = path, package
        self.classes: dict[str, ast.ClassDef] = {}
        self.constants: dict[str, ast.expr] = {}
        self.imports: dict[str, str] = {}
        for node in ast.parse(path.read_text("utf-8")).body:
            match node:
                case ast.ClassDef(name=name):
                    self.classes[name] = node
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.constants[name] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self.constants[name] = value
                case ast.ImportFrom(module=str(module), names=names) if module.startswith(f"{_PACKAGE}."):
                    self.imports.update((alias.name, module.removeprefix(f"{_PACKAGE}.")) for alias in names)

    def entries(self) -> Iterator[CatalogEntry]:
        """Yield the methods that the file registers."""
        for made in self.classes.values():
            for decorator in made.decorator_list:
                match decorator:
                    case ast.Call(func=ast.Name(id="register"), args=[name, summary]):
                        yield CatalogEntry(self.value(name), self.value(summary), self.options(made))

    def options(self, made: ast.ClassDef) -> dict[str, tuple[Any, Any]]:
        """Return type and default of each option of a class, after those of the class above if it takes `**shared`."""
        own: dict[str, tuple[Any, Any]] = {}
        for node in made.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                own = {name: (self.value(wanted), self.value(default)) for name, wanted, default in _written(node)}
                if node.args.kwarg is None:
                    return own
        match made.bases:
            case [ast.Name(id=above), *_] if (origin := self.origin(above)) is not None and above in origin.classes:
                inherited = origin.options(origin.classes[above])
                return {name: option for name, option in inherited.items() if name not in own} | own
        return own

    def origin(self, name: str) -> _Module | None:
        """Return the module of this package that defines a name which this one uses."""
        if name in self.imports:
            return self.package.module(self.imports[name]).origin(name)
        return self if name in self.classes or name in self.constants else None

    def value(self, node: ast.expr) -> Any:
        """Return what an expression of literals, types and constants stands for."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.Name(id=name) if name in _BUILTINS:
                return _BUILTINS[name]
            case ast.Name(id=name) if (origin := self.origin(name)) is not None and name in origin.constants:
                return origin.value(origin.constants[name])
            case ast.Tuple(elts=items):
                return tuple(map(self.value, items))
            case ast.Dict(keys=[*keys], values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return {self.value(key): self.value(value) for key, value in pairs if key is not None}
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.value(operand)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                return self.value(left) * self.value(right)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self.value(left) | self.value(right)
            case ast.Subscript(value=value, slice=parameters):
                return self.value(value)[self.value(parameters)]
        raise ValueError(f"{self._path}:{node.lineno}: {ast.unparse(node)} cannot be read without running it")


def _written(constructor: ast.FunctionDef) -> Iterator[tuple[str, ast.expr, ast.expr]]:
    """Yield name, annotation and default of each parameter that has both."""
    plain, arguments = [*constructor.args.posonlyargs, *constructor.args.args], constructor.args
    with_default = plain[len(plain) - len(arguments.defaults) :]
    pairs = [
        *zip(with_default, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for parameter, default in pairs:
        if parameter.annotation is not None and default is not None:
            yield parameter.arg, parameter.annotation, default
