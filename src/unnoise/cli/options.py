"""Options that belong together, as a class whose fields they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def grouped(f: Callable[..., None]) -> Callable[..., None]:
    """A command of a function of which some arguments are dataclasses: in place of each, its fields are the
    command's options, in their order.
    """
    hints = get_type_hints(f, include_extras=True)
    groups = {k: hints[k] for k in inspect.signature(f).parameters if is_dataclass(hints[k])}
    parameters: list[inspect.Parameter] = []
    for p in inspect.signature(f).parameters.values():
        if p.name in groups:
            parameters += _fields(groups[p.name])
        else:
            parameters.append(_option(p.name, p.default, hints[p.name]))

    def called(**values: Any) -> None:
        made = {k: g(**{o.name: values.pop(o.name) for o in fields(g)}) for k, g in groups.items()}
        f(**values, **made)

    called.__name__, called.__doc__, called.__module__ = f.__name__, f.__doc__, f.__module__
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    return called


def _fields(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    default = lambda o: inspect.Parameter.empty if o.default is MISSING else o.default
    return [_option(o.name, default(o), hints[o.name]) for o in fields(group)]


def _option(name: str, default: Any, hint: Any) -> inspect.Parameter:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(name, kind, default=default, annotation=hint)
