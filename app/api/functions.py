"""Functions that a model may call, in the words of the task `completion`, whatever the dialect calls their parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from app.api.fields import inside
from app.api.json_text import read_json
from app.errors import InvalidInput


def as_tools(functions: Sequence[Mapping[str, Any]], *, schema: str) -> list[dict[str, Any]] | None:
    """functions: name, description, parameters (a JSON schema), strict; None is unset. schema: what the dialect calls
    the parameters, below `tools[i]`. Raises InvalidInput."""
    names = [function["name"] for function in functions]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InvalidInput(f'tools: "{twice}" stands there twice.', param="tools")
    for index, function in enumerate(functions):
        parameters = function.get("parameters")
        if parameters and parameters.get("type", "object") != "object":
            param = inside(f"tools[{index}]", schema)
            raise InvalidInput(f"{param} must be the schema of an object.", param=param)
    tools = [
        {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}
        for function in functions
    ]
    return tools or None


def tool_names(num_tools: int, *, function: str, schema: str) -> dict[str, str]:
    """For `Wanted.names`. function: what the dialect calls a function, below `tools[i]`; "" if it is the tool."""
    names = {}
    for index in range(num_tools):
        ours = f"tools[{index}].function"
        names[f"{ours}.parameters"] = inside(f"tools[{index}]", schema)
        names[ours] = inside(f"tools[{index}]", function) if function else f"tools[{index}]"
    return names


def choice_of(mode: str, names: Sequence[str], known: Collection[str], *, param: str = "tool_choice") -> dict[str, Any]:
    """A `ToolChoice`: mode none, auto or required; names: none for all. Raises InvalidInput."""
    if mode == "required" and not known:
        raise InvalidInput(f"{param}: there are no tools.", param=param)
    for name in names:
        if name not in known:
            raise InvalidInput(f'{param}: there is no tool "{name}" among the tools.', param=param)
    return {"mode": mode, "names": list(names)} if names else {"mode": mode}


def arguments_of(call: str) -> dict[str, Any]:
    """A call's arguments, read. What is no JSON object, because it was cut say, stands under `arguments`."""
    try:
        given = read_json(call or "{}")
    except ValueError:
        given = None
    return given if isinstance(given, dict) else {"arguments": call}
