"""Mutants of Python source, made by its syntax tree; the rest of the text stays as it is.

Not made, because no test could or should tell them:

 - of annotations, imports, what is for type checkers, docstrings, other text and `__repr__`: no
   behaviour, or wording;
 - of a sleep, a number above ten, a float (these are seconds) or what is added to one: speed and
   settings;
 - a name, or in a constructor an attribute, that is never set: every use of it is an error;
 - the condition of an `if` that does one thing, which is dropped: to do it always is noticed first;
 - a comparison with a version of Python, of which a run has one;
 - another index: the same;
 - the return at the end of a function: nothing is left to be done, or every caller misses it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

from mutant_rules import LARGEST, Mutant, flipped

Function = ast.FunctionDef | ast.AsyncFunctionDef

OPPOSITE = {"==": "!=", "is": "is not", "in": "not in"}
OPPOSITE |= {new: old for old, new in OPPOSITE.items()}
SHIFTED = ("<", "<=", ">", ">=")
SIGNS = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
# Arguments of which line a warning names, and of what cannot come.
CHECKS = ("stacklevel", "strict")
SECONDS = ("float", "Timeout")  # types
CONSTRUCTORS = ("__init__", "__new__", "__repr__")


def mutants(file: str, source: bytes) -> Iterator[Mutant]:
    """Of a file's Python; strings stay as they are, also those that are Lua."""
    yield from _Python(file, source).mutants()


class _Python:
    def __init__(self, file: str, source: bytes) -> None:
        self.file, self.source = file, source
        self.tree = ast.parse(source)
        self.begins = [0]
        for line in source.splitlines(keepends=True):
            self.begins.append(self.begins[-1] + len(line))
        self.users = self._users()
        self.all_lines = tuple(range(1, len(self.begins)))

    def mutants(self) -> Iterator[Mutant]:
        yield from self._body(self.tree.body, "", None)

    # -- where things stand ---------------------------------------------------------------------

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        start = self.begins[node.lineno - 1] + node.col_offset
        return start, self.begins[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr) -> str:
        start, end = self._span(node)
        return self.source[start:end].decode()

    def _users(self) -> dict[str, tuple[int, ...]]:
        """The lines where a name is read: what tells of a constant's value."""
        found: dict[str, list[int]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
                name = node.id if isinstance(node, ast.Name) else node.attr
                found.setdefault(name, []).append(node.lineno)
        return {name: tuple(lines) for name, lines in found.items()}

    # -- statements -----------------------------------------------------------------------------

    def _body(
        self, body: list[ast.stmt], scope: str, function: Function | None
    ) -> Iterator[Mutant]:
        for statement in body:
            yield from self._statement(statement, scope, function)

    def _statement(
        self, statement: ast.stmt, scope: str, function: Function | None
    ) -> Iterator[Mutant]:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from self._definition(statement, scope)
            return
        if _is_no_behaviour(statement):
            return
        scope = scope if function else scope or _target(statement)
        if function:
            lines: tuple[int, ...] = (statement.lineno,)
        else:
            lines = self.users.get(_target(statement), ()) or self.all_lines
        if function and _can_go(statement, function):
            start, end = self._span(statement)
            inside = _inside(function)
            yield Mutant(self.file, scope, "drop", start, end, "pass", lines, inside)
        for child in ast.iter_child_nodes(statement):
            if isinstance(child, ast.expr) and child is not getattr(statement, "annotation", None):
                found = self._expression(child, scope, lines, _is_test(statement, child))
                found = (each._replace(function=_inside(function)) for each in found)
                if _is_told_by_its_body(statement, function):
                    found = (each for each in found if each.rule != "negate")
                if _is_of_seconds(child):
                    found = (each for each in found if not each.new.isdigit())
                yield from found
            elif isinstance(child, ast.withitem):
                found = self._expression(child.context_expr, scope, lines)
                yield from (each._replace(function=_inside(function)) for each in found)
            elif isinstance(child, ast.match_case):
                if child.guard:
                    found = self._expression(child.guard, scope, lines, True)
                    yield from (each._replace(function=_inside(function)) for each in found)
                yield from self._body(child.body, scope, function)
            elif isinstance(child, ast.excepthandler):
                yield from self._body(child.body, scope, function)
            elif isinstance(child, ast.stmt):
                yield from self._statement(child, scope, function)

    def _definition(self, node: Function | ast.ClassDef, scope: str) -> Iterator[Mutant]:
        name = f"{scope}.{node.name}" if scope else node.name
        if isinstance(node, ast.ClassDef):
            yield from self._body(node.body, name, None)
            return
        if node.name == "__repr__" or any("overload" in ast.dump(d) for d in node.decorator_list):
            return
        first, *_ = node.body
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            if len(node.body) == 1:
                return  # a docstring or "..." is all
            _, first, *_ = node.body
        inside = tuple(range(first.lineno, (node.end_lineno or first.lineno) + 1))
        for argument, default in _defaults(node.args):
            if not _is_of_seconds(argument.annotation):
                yield from self._expression(default, name, inside)
        yield from self._body(node.body, name, node)

    # -- expressions ----------------------------------------------------------------------------

    def _expression(
        self, node: ast.expr, scope: str, lines: tuple[int, ...], is_test: bool = False
    ) -> Iterator[Mutant]:
        def mutant(rule: str, start: int, end: int, new: str) -> Mutant:
            return Mutant(self.file, scope, rule, start, end, new, lines)

        if isinstance(node, ast.JoinedStr):
            return  # a text; and before Python 3.12 nobody knows where its parts stand
        if isinstance(node, ast.Compare) and "version_info" in self._text(node.left):
            return
        if is_test and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield mutant("negate", *self._span(node), f"({self._text(node.operand)})")
        elif is_test and not isinstance(node, ast.Constant):
            yield mutant("negate", *self._span(node), f"(not ({self._text(node)}))")
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool):
                yield mutant("swap", *self._span(node), str(not node.value))
            elif isinstance(node.value, int) and node.value <= LARGEST:
                yield mutant("shift", *self._span(node), str(node.value + 1))
        elif isinstance(node, ast.Compare):
            for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops):
                sign = SIGNS[type(operator)]
                if sign in SHIFTED:
                    yield mutant("shift", *self._between(left, right, sign), flipped(sign))
                elif not is_test:
                    yield mutant("negate", *self._between(left, right, sign), OPPOSITE[sign])
        elif isinstance(node, ast.BoolOp):
            old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
            for left, right in pairwise(node.values):
                yield mutant("swap", *self._between(left, right, old), new)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.comprehension):
                yield from self._expression(child.iter, scope, lines)
                for condition in child.ifs:
                    yield from self._expression(condition, scope, lines, True)
            elif isinstance(child, ast.keyword):
                if child.arg not in CHECKS:
                    yield from self._expression(child.value, scope, lines)
            elif isinstance(node, ast.Subscript) and isinstance(child, ast.Constant):
                continue
            elif isinstance(child, ast.expr):
                yield from self._expression(child, scope, lines, _is_test(node, child))

    def _between(self, left: ast.expr, right: ast.expr, sign: str) -> tuple[int, int]:
        """Where the operator between two operands stands."""
        start, stop = self._span(left)[1], self._span(right)[0]
        start = self.source.index(sign.split()[0].encode(), start, stop)
        end = self.source.index(sign.split()[-1].encode(), start, stop) + len(sign.split()[-1])
        return start, end


def _inside(function: Function | None) -> range:
    """The lines of a function."""
    return range(function.lineno, (function.end_lineno or 0) + 1) if function else range(0)


def _is_test(parent: ast.AST, child: ast.expr) -> bool:
    """Whether a value is asked for being true or false, and for nothing else."""
    return child is getattr(parent, "test", None)


def _is_told_by_its_body(statement: ast.stmt, function: Function | None) -> bool:
    """Whether all it decides is one statement, which is dropped: harder to notice than always."""
    if not isinstance(statement, ast.If) or statement.orelse or function is None:
        return False
    return len(statement.body) == 1 and _can_go(statement.body[0], function)


def _defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr]]:
    """The arguments that have a default, with it."""
    positional = [*arguments.posonlyargs, *arguments.args]
    yield from zip(reversed(positional), reversed(arguments.defaults))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        if default is not None:
            yield argument, default


def _is_of_seconds(node: ast.expr | None) -> bool:
    """Whether it is of floats: these are seconds."""
    for part in ast.walk(node) if node else ():
        if isinstance(part, ast.Name) and part.id in SECONDS:
            return True
        if isinstance(part, ast.Constant) and isinstance(part.value, float):
            return True
    return False


def _target(statement: ast.stmt) -> str:
    """The name that a statement sets."""
    targets = statement.targets if isinstance(statement, ast.Assign) else ()
    for target in (*targets, getattr(statement, "target", None)):
        if isinstance(target, ast.Name):
            return target.id
    return ""


def _is_no_behaviour(statement: ast.stmt) -> bool:
    """Whether it says something to type checkers or people only, or declares."""
    if isinstance(statement, ast.If):
        return isinstance(statement.test, ast.Name) and statement.test.id == "TYPE_CHECKING"
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return True
    if isinstance(statement, ast.Raise):
        return "NotImplementedError" in ast.dump(statement)
    declares = (ast.Import, ast.ImportFrom, ast.Global, ast.Nonlocal, ast.Pass)
    return isinstance(statement, declares)


def _can_go(statement: ast.stmt, function: Function) -> bool:
    """Whether the function is still a program without it, and does something else."""
    if isinstance(statement, ast.Return):
        return statement is not function.body[-1]
    if isinstance(statement, ast.Raise | ast.Continue | ast.Break | ast.Delete | ast.AugAssign):
        return True
    if isinstance(statement, ast.Expr):
        called = (
            statement.value.value if isinstance(statement.value, ast.Await) else statement.value
        )
        if isinstance(called, ast.Yield):
            return False  # no generator any more
        name = getattr(called.func, "attr", "") if isinstance(called, ast.Call) else ""
        return name not in ("sleep", "_sleep")
    if isinstance(statement, ast.Assign):
        target = statement.targets[0]
        if isinstance(target, ast.Subscript):
            return True
        if isinstance(target, ast.Attribute):
            return function.name not in CONSTRUCTORS
        return isinstance(target, ast.Name) and target.id in _bound_before(statement, function)
    return False


def _bound_before(statement: ast.stmt, function: Function) -> set[str]:
    """The names that the function has before a statement: what it takes and what it has set."""
    arguments = function.args
    names = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    for node in ast.walk(function):
        is_set = isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        if is_set and node.lineno < statement.lineno:
            names.add(node.id)
    return names
