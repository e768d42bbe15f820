"""Which small faults a module can have: each is one edit of its text, so a report shows the line as it is written."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

_COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "+"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
}
_OTHER_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_CONDITIONS = (ast.Compare, ast.BoolOp, ast.Constant)  # negated by other operators, or not worth it


@dataclass(frozen=True)
class Mutant:
    """One fault: bytes `start` to `end` of the module's source become `new`.

    Attributes:
        operator: the kind of fault.
        start: where the edit begins.
        end: where it ends.
        new: what stands there instead.
        lines: the lines of the module whose execution shows the fault; all of it where there are none, as for what is
            executed when the module is imported.
    """

    operator: str
    start: int
    end: int
    new: bytes
    lines: range

    def applied(self, source: bytes) -> bytes:
        """The module with the fault in it."""
        return source[: self.start] + self.new + source[self.end :]


def mutants(source: bytes) -> list[Mutant]:
    """All faults of a module, in the order of its text; each gives valid Python that differs from the original."""
    tree = ast.parse(source)
    original, found = ast.dump(tree), dict[tuple[int, int, bytes], Mutant]()
    for mutant in _Module(source).faults(tree):
        try:
            changed = ast.dump(ast.parse(mutant.applied(source)))
        except SyntaxError:  # an edit between parentheses that belong to something else
            continue
        if changed != original:
            found.setdefault((mutant.start, mutant.end, mutant.new), mutant)
    return sorted(found.values(), key=lambda mutant: (mutant.start, mutant.end, mutant.new))


class _Module:
    """Walks one module. Docstrings, annotations, decorators, messages and log calls are left as they are."""

    def __init__(self, source: bytes) -> None:
        self._source = source
        self._begins = [0]
        for line in source.splitlines(keepends=True):
            self._begins.append(self._begins[-1] + len(line))
        self._in_function = self._in_constructor = False
        self._bound: set[str] = set()  # names that have a value already, in the function at hand

    def faults(self, tree: ast.Module) -> Iterator[Mutant]:
        """The faults of the whole module, not checked for being valid."""
        yield from self._block(tree.body)

    def _span(self, node: ast.expr | ast.stmt | ast.keyword) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._begins[node.lineno - 1] + node.col_offset, self._begins[node.end_lineno - 1] + node.end_col_offset

    def _text(self, node: ast.expr) -> bytes:
        start, end = self._span(node)
        return self._source[start:end]

    def _mutant(self, operator: str, start: int, end: int, new: str | bytes) -> Mutant:
        first, last = (self._source.count(b"\n", 0, place) + 1 for place in (start, end))
        lines = range(first, last + 1) if self._in_function else range(0)
        return Mutant(operator, start, end, new.encode() if isinstance(new, str) else new, lines)

    def _replaced(self, operator: str, node: ast.expr | ast.stmt, new: str | bytes) -> Mutant:
        return self._mutant(operator, *self._span(node), new)

    def _between(self, operator: str, left: ast.expr, right: ast.expr, old: str, new: str) -> Iterator[Mutant]:
        """Replace an operator, which has no place of its own in the tree."""
        start, end = self._span(left)[1], self._span(right)[0]
        found = re.search(old.encode(), self._source[start:end])
        if found:
            yield self._mutant(operator, start + found.start(), start + found.end(), new)

    def _block(self, body: Sequence[ast.stmt], *, of_function: bool = False) -> Iterator[Mutant]:
        for place, statement in enumerate(body):
            if _is_text(statement) or _is_log(statement):
                continue
            yield from self._removed(statement, last=of_function and place == len(body) - 1)
            yield from self._statement(statement)

    def _removed(self, statement: ast.stmt, *, last: bool) -> Iterator[Mutant]:
        """A statement that is left out, where what follows can be executed all the same."""
        if not self._in_function:
            return
        match statement:
            case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Break() | ast.Continue():
                yield self._replaced("statement removed", statement, "pass")
            case ast.Return() if not last:
                yield self._replaced("return removed", statement, "pass")
            case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple()]) if not self._in_constructor:
                yield self._replaced("statement removed", statement, "pass")
            case ast.Assign(targets=[ast.Name(id=name)]) if name in self._bound:
                yield self._replaced("statement removed", statement, "pass")

    def _statement(self, statement: ast.stmt) -> Iterator[Mutant]:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from self._function(statement)
            case ast.ClassDef():
                yield from self._block(statement.body)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                return
            case ast.AnnAssign():
                yield from self._expressions([statement.value])
            case ast.AugAssign():
                old, new = _ARITHMETIC.get(type(statement.op), ("", ""))
                if old:
                    yield from self._between("arithmetic", statement.target, statement.value, re.escape(old), new)
                yield from self._expressions([statement.value])
            case ast.Try():
                for handler in statement.handlers:
                    if handler.type is not None:
                        yield self._replaced("exception not caught", handler.type, "()")
                for block in (statement.body, *(handler.body for handler in statement.handlers)):
                    yield from self._block(block)
                yield from self._block(statement.orelse)
                yield from self._block(statement.finalbody)
            case _:
                if isinstance(statement, ast.If | ast.While):
                    yield from self._negated(statement.test)
                yield from self._expressions(ast.iter_child_nodes(statement))
                for field in ("body", "orelse"):
                    yield from self._block(getattr(statement, field, []))
                for case in getattr(statement, "cases", []):
                    yield from self._block(case.body)
        if self._in_function and isinstance(statement, ast.Assign | ast.AnnAssign | ast.For | ast.With):
            names = (node for node in ast.walk(statement) if isinstance(node, ast.Name))
            self._bound |= {name.id for name in names if isinstance(name.ctx, ast.Store)}

    def _function(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Mutant]:
        yield from self._expressions([*function.args.defaults, *function.args.kw_defaults])
        outside = self._in_function, self._in_constructor, self._bound
        arguments = function.args
        self._in_function, self._in_constructor = True, function.name in ("__init__", "__post_init__")
        self._bound = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        yield from self._block(function.body, of_function=True)
        self._in_function, self._in_constructor, self._bound = outside

    def _expressions(self, nodes: Iterable[ast.AST | None]) -> Iterator[Mutant]:
        for node in nodes:
            if isinstance(node, ast.expr | ast.comprehension | ast.keyword | ast.withitem):
                yield from self._expression(node)

    def _expression(self, node: ast.AST) -> Iterator[Mutant]:
        match node:
            case ast.Compare(left=left, ops=ops, comparators=rights):
                for operand, operator, right in zip((left, *rights), ops, rights, strict=False):
                    for new in _COMPARISONS[type(operator)]:
                        old = _WORDS[type(operator)]
                        yield from self._between("comparison", operand, right, old, new)
                    if isinstance(right, ast.Constant) and isinstance(right.value, str):
                        yield self._replaced("text compared with", right, '"another text"')
            case ast.BoolOp(values=values, op=operator):
                old, new = ("and", "or") if isinstance(operator, ast.And) else ("or", "and")
                for left, right in pairwise(values):
                    yield from self._between("boolean", left, right, rf"\b{old}\b", new)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._replaced("negation", node, b"(" + self._text(operand) + b")")
            case ast.BinOp(left=left, right=right, op=operator) if not (_is_text(left) or _is_text(right)):
                old, new = _ARITHMETIC.get(type(operator), ("", ""))
                if old:
                    yield from self._between("arithmetic", left, right, re.escape(old), new)
            case ast.IfExp(test=test):
                yield from self._negated(test)
            case ast.comprehension(ifs=conditions):
                for condition in conditions:
                    yield from self._negated(condition)
            case ast.Constant(value=bool(value)):
                yield self._replaced("constant", node, str(not value))
            case ast.Constant(value=int(value) | float(value)):
                yield self._replaced("constant", node, repr(value + 1))
            case ast.Call():
                yield from self._call(node)
            case ast.JoinedStr():
                return
        yield from self._expressions(ast.iter_child_nodes(node))

    def _call(self, call: ast.Call) -> Iterator[Mutant]:
        if isinstance(call.func, ast.Name) and call.func.id in _OTHER_CALLS:
            yield self._replaced("other call", call.func, _OTHER_CALLS[call.func.id])
        if isinstance(call.func, ast.Name) and call.func.id == "Field":  # bounds and descriptions of options
            return
        parts: list[ast.expr | ast.keyword] = [*call.args, *call.keywords]
        for place, part in enumerate(parts):
            if isinstance(part, ast.keyword) and part.arg is not None:
                yield from self._dropped("argument dropped", parts, place)
            if isinstance(part, ast.keyword) and part.arg == "update" and isinstance(part.value, ast.Dict):
                yield from self._dropped_items(part.value)

    def _dropped(self, operator: str, parts: Sequence[ast.expr | ast.keyword], place: int) -> Iterator[Mutant]:
        start, end = self._span(parts[place])
        if place:
            start = self._span(parts[place - 1])[1]
        elif len(parts) > 1:
            end = self._span(parts[1])[0]
        yield self._mutant(operator, start, end, "")

    def _dropped_items(self, items: ast.Dict) -> Iterator[Mutant]:
        for place, (key, value) in enumerate(zip(items.keys, items.values, strict=True)):
            start, end = self._span(key or value)[0], self._span(value)[1]
            if key is None:
                continue
            if place:
                start = self._span(items.values[place - 1])[1]
            elif len(items.values) > 1 and (following := items.keys[1]) is not None:
                end = self._span(following)[0]
            yield self._mutant("update dropped", start, end, "")

    def _negated(self, condition: ast.expr) -> Iterator[Mutant]:
        plain_negation = isinstance(condition, ast.UnaryOp) and isinstance(condition.op, ast.Not)
        if not plain_negation and not isinstance(condition, _CONDITIONS):
            yield self._replaced("condition", condition, b"not (" + self._text(condition) + b")")


_WORDS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: r"\bis\b",
    ast.IsNot: r"\bis\s+not\b",
    ast.In: r"\bin\b",
    ast.NotIn: r"\bnot\s+in\b",
}


def _is_text(node: ast.AST) -> bool:
    """Whether it is a text, or a statement that is nothing but a text."""
    if isinstance(node, ast.Expr):
        node = node.value
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_log(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
    return False
