"""What a Python source says about its functions: their words, and the functions that they call.

Sources are parsed with `ast`; nothing is imported and nothing is executed.
"""

import ast
import builtins
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Function", "functions_of", "split_words"]

_HUMP = re.compile(r"(?<=[^\W_A-Z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_WORD = re.compile(r"[^\W_]+")

_Definition = ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_DEFINITIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)

# Fields of a node that are no nodes, or hold no code that runs: not worth a visit.
_PASSIVE = frozenset(
    {"arg", "asname", "attr", "id", "module", "name", "names", "rest", "kwd_attrs"}
    | {"annotation", "returns", "type_comment", "type_params", "ctx", "op", "ops"}
    | {"conversion", "is_async", "kind", "level", "simple"}
)
_FIELDS = {
    kind: tuple(name for name in reversed(kind._fields) if name not in _PASSIVE)
    for kind in vars(ast).values()
    if isinstance(kind, type) and issubclass(kind, ast.AST)
}
# What a nested definition runs where it stands; its body is a scope of its own.
_FIELDS |= dict.fromkeys(_DEFINITIONS, ("args", "decorator_list"))
_FIELDS[ast.ClassDef] = ("keywords", "bases", "decorator_list")
_FIELDS[ast.arguments] = ("kw_defaults", "defaults")
_FIELDS[ast.Constant] = ()

_TELLING = {ast.Call, ast.Name, *_SCOPES, *_IMPORTS}
_BUILTINS = {name: name for name in dir(builtins)}


class Function(NamedTuple):
    """One function or method: an example of the learning problem."""

    name: str  # qualified: package.module.Class.method
    text: str  # lower-case words, separated by spaces
    calls: list[str]  # names of what it calls, in the order of the source, each once


def split_words(text: str) -> list[str]:
    """Split text or identifiers into lower-case words, at humps and underscores too.

    Examples
    --------
    >>> split_words("readHTTPResponse(max_bytes=1024)")
    ['read', 'http', 'response', 'max', 'bytes', '1024']
    """
    return _WORD.findall(_HUMP.sub(" ", text).lower())


def functions_of(source: bytes, module: str, *, is_package: bool = False) -> list[Function]:
    """Every function and method in a source file that calls something.

    A call is named as the imports of the file resolve it (`np.ones()` is `numpy.ones`); a function
    or class of the file itself is named by its module; a method of an object whose type is not
    known is `.method`. Calls inside a nested function belong to that function; those inside a
    lambda or a comprehension belong to the function around it.

    Parameters
    ----------
    source : bytes
        The file as it is on disk.
    module : str
        Dotted name of the module, against which relative imports are resolved.
    is_package : bool
        Whether the file is an `__init__.py`.

    Returns
    -------
    list of Function
        In the order of the source.

    Raises
    ------
    SyntaxError, ValueError, RecursionError, MemoryError
        If Python cannot parse the file.

    Examples
    --------
    >>> source = b"import numpy as np\\ndef makeGrid(size): return np.ones(size).tolist()"
    >>> functions_of(source, "grid")
    [Function(name='grid.makeGrid', text='make grid size', calls=['.tolist', 'numpy.ones'])]
    """
    if b"def" not in source:
        return []  # tables of data take long to parse
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like: not our code
        tree = ast.parse(source)
    parts = module.split(".")
    package = parts if is_package else parts[:-1]
    statements = list(_statements(tree.body))
    known = dict(_BUILTINS)
    for node in statements:
        if isinstance(node, _SCOPES):
            known[node.name] = f"{module}.{node.name}"
        elif isinstance(node, _IMPORTS):
            known |= _imported(node, package)
    scopes = [node for node in statements if isinstance(node, _SCOPES)]
    return [found for scope in scopes for found in _walk(scope, module, (), known, package)]


def _walk(
    scope: _Definition | ast.ClassDef,
    module: str,
    outer: tuple[str, ...],
    known: dict[str, str],
    package: list[str],
) -> Iterator[Function]:
    """Yield the function that `scope` is, then those inside it."""
    names = (*outer, scope.name)
    inner: list[ast.AST]
    if isinstance(scope, ast.ClassDef):
        inner = list(_statements(scope.body))
    else:
        inner = list(_nodes(scope.body))
        known = _local_names(scope, inner, known, package)
        called = (_called(node.func, known) for node in inner if isinstance(node, ast.Call))
        calls = list(dict.fromkeys(name for name in called if name))
        if calls:
            yield Function(".".join((module, *names)), _text(scope, names), calls)
    for node in inner:
        if isinstance(node, _SCOPES):
            yield from _walk(node, module, names, known, package)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a module or class, also under if, try and with; no expressions."""
    for statement in body:
        yield statement
        if isinstance(statement, _SCOPES):
            continue
        for block in ("body", "handlers", "orelse", "finalbody"):
            yield from _statements(getattr(statement, block, []))


def _nodes(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    """The calls, names, scopes and imports that run with a function's body, in source order."""
    stack = list(reversed(body))
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind in _TELLING:
            yield node
        for field in _FIELDS.get(kind, ()):  # None, and other plain values, have none
            value = getattr(node, field)
            if type(value) is list:
                stack += value[::-1]
            else:
                stack.append(value)


def _local_names(
    function: _Definition, nodes: list[ast.AST], known: dict[str, str], package: list[str]
) -> dict[str, str]:
    """`known` as the function sees it: without the names that it binds, with what it imports."""
    bound = {argument.arg for argument in _arguments(function)}
    imported: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Store):
                bound.add(node.id)
        elif isinstance(node, _SCOPES):
            bound.add(node.name)
        elif isinstance(node, _IMPORTS):
            imported |= _imported(node, package)
    hidden = bound & known.keys()
    if not (hidden or imported):
        return known
    known = known | imported
    for name in hidden - imported.keys():
        del known[name]
    return known


def _imported(node: ast.Import | ast.ImportFrom, package: list[str]) -> dict[str, str]:
    """Local name -> qualified name of everything that an import statement binds."""
    if isinstance(node, ast.Import):
        roots = {alias.name.split(".")[0] for alias in node.names if alias.asname is None}
        renamed = {alias.asname: alias.name for alias in node.names if alias.asname is not None}
        return {root: root for root in roots} | renamed
    base = package[: len(package) + 1 - node.level] if node.level else []
    prefix = ".".join([*base, *([node.module] if node.module else [])])
    return {
        alias.asname or alias.name: f"{prefix}.{alias.name}" if prefix else alias.name
        for alias in node.names
    }


def _called(target: ast.expr, known: dict[str, str]) -> str | None:
    """The name that a call goes by, or None when it has none, as in `table[key]()`."""
    attributes: list[str] = []
    while isinstance(target, ast.Attribute):
        attributes.append(target.attr)
        target = target.value
    if isinstance(target, ast.Name) and target.id in known:
        return ".".join((known[target.id], *reversed(attributes)))
    if attributes:
        return f".{attributes[0]}"
    return target.id if isinstance(target, ast.Name) else None


def _text(function: _Definition, names: tuple[str, ...]) -> str:
    arguments = [a.arg for a in _arguments(function) if a.arg not in ("self", "cls")]
    documentation = ast.get_docstring(function, clean=False) or ""
    return " ".join(split_words(" ".join((*names, *arguments, documentation))))


def _arguments(function: _Definition) -> list[ast.arg]:
    a = function.args
    optional = [argument for argument in (a.vararg, a.kwarg) if argument is not None]
    return [*a.posonlyargs, *a.args, *a.kwonlyargs, *optional]
