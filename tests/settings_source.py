"""What config/settings.py reads from the environment, taken from its source."""

import ast
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

# Stands for the default of a variable that has none, or whose default is no plain value.
UNSTATED = object()


def variables() -> dict[str, object]:
    """Return the names of the environment variables, with the defaults that the source states."""
    found: dict[str, object] = {}
    for node in ast.walk(ast.parse((CHECKOUT / "config/settings.py").read_text())):
        name = _name(node)
        if name:
            assert isinstance(node, ast.Call)
            # SECRET_KEY is read twice: with a default under DEBUG, and without.
            found[name] = UNSTATED if name in found else _default(node)
    return found


def _name(node: ast.AST) -> str | None:
    """Return the variable that a call such as env.int("NAME") or pairs("NAME") reads."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return None
    function = node.func.value if isinstance(node.func, ast.Attribute) else node.func
    reads = isinstance(function, ast.Name) and function.id in {"env", "pairs"}
    return str(node.args[0].value) if reads else None


def _default(call: ast.Call) -> object:
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    try:
        return ast.literal_eval(given["default"])
    except (KeyError, ValueError):
        return UNSTATED
