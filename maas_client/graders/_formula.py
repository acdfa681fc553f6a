"""The formula of ``multi``, which combines the scores of its graders."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping

from maas_client.errors import ConfigError
from maas_client.graders._models import Multi

_MAX_FORMULA_CHARS = 1000
_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min, "max": max, "abs": abs, "floor": math.floor, "ceil": math.ceil,
    "exp": math.exp, "sqrt": math.sqrt, "log": math.log,
}  # fmt: skip


def _parse_formula(grader: Multi) -> ast.expr:
    text = grader.calculate_output
    if len(text) > _MAX_FORMULA_CHARS:
        raise ConfigError(
            f"calculate_output has more than {_MAX_FORMULA_CHARS} characters", hint="Shorten it."
        )
    try:
        return ast.parse(text.strip().replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ConfigError(
            f"calculate_output is no formula: {text[:80]}",
            hint="Use names of the graders, numbers, + - * / ^, and min max abs floor ceil exp sqrt log.",
        ) from None


def check_formula(grader: Multi) -> None:
    """Raise ``ConfigError`` for a formula that has anything but numbers, graders and known functions."""
    try:
        _calculate(_parse_formula(grader), dict.fromkeys(grader.graders, 0.5), is_check=True)
    except (RecursionError, OverflowError):
        raise ConfigError(
            "calculate_output is nested too deeply, or has too large a number"
        ) from None


def evaluate_formula(grader: Multi, scores: Mapping[str, float]) -> float:
    """Return the value; ``invalid_grade`` where there is none (a division by zero)."""
    try:
        value = _calculate(_parse_formula(grader), scores)
    except (ArithmeticError, ValueError, TypeError):
        return grader.invalid_grade
    return value if math.isfinite(value) else grader.invalid_grade


def _calculate(node: ast.expr, scores: Mapping[str, float], *, is_check: bool = False) -> float:
    def calculate(inner: ast.expr) -> float:
        return _calculate(inner, scores, is_check=is_check)

    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id not in scores:
            raise ConfigError(
                f"calculate_output names {node.id}, which is no grader",
                hint=f"Use one of {', '.join(scores)}.",
            )
        return scores[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = calculate(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and isinstance(node.op, (*_OPERATORS, ast.Pow)):
        left, right = calculate(node.left), calculate(node.right)
        if is_check:
            return 0.5
        if isinstance(node.op, ast.Pow):
            return math.pow(left, right)
        return _OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id)
        arguments = [calculate(argument) for argument in node.args]
        has_right_count = bool(arguments) and (
            len(arguments) == 1 or node.func.id in ("min", "max")
        )
        if function is not None and has_right_count:
            is_list = node.func.id in ("min", "max")
            return (
                0.5 if is_check else float(function(arguments) if is_list else function(*arguments))
            )
    raise ConfigError(
        f"calculate_output has {ast.unparse(node)[:60]}, which a formula may not have",
        hint="Use names of the graders, numbers, + - * / ^, and min max abs floor ceil exp sqrt log.",
    )
