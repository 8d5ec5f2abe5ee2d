"""A small interpreter of the States Language: what the state machine of the restore test uses, and nothing else.

Waiting takes no time. Anything unknown raises an `AssertionError`, so that the definition cannot use it unnoticed.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from fnmatch import fnmatchcase
from typing import Any, Final

State = Mapping[str, Any]
Api = Callable[[str, Mapping[str, Any]], Any]

_FIELDS: Final = {
    "Choice": {"Choices", "Default"},
    "Fail": {"Error", "Cause", "CausePath"},
    "Parallel": {"Branches", "ResultPath", "Catch", "Next"},
    "Pass": {"Parameters", "Next"},
    "Succeed": set[str](),
    "Task": {
        *("Resource", "Parameters", "ResultSelector", "ResultPath", "Retry", "Catch", "TimeoutSeconds", "Next"),
    },
    "Wait": {"Seconds", "Next"},
}
_FILTER: Final = re.compile(r"\$\.(\w+)\[\?\(@\.(\w+) == '(\w+)'\)\]\.(\w+)")

_INTRINSICS: Final[Mapping[str, Callable[..., Any]]] = {
    "ArrayGetItem": lambda array, index: array[index],
    "Format": lambda template, *values: template.format(*values),
    "MathAdd": lambda first, second: first + second,
    "StringSplit": lambda text, separator: [part for part in text.split(separator) if part],
}


class Failed(Exception):
    """A call of AWS, or the execution, failed.

    Args:
        error: The name of the error.
        cause: Its description.
    """

    def __init__(self, error: str, cause: str = "") -> None:
        super().__init__(f"{error}: {cause}")
        self.error, self.cause = error, cause


class Execution:
    """Runs a definition with a stand-in for the APIs.

    Args:
        call: Called with the resource, such as `rds:deleteDBInstance`, and the parameters; it returns or raises.

    Attributes:
        waited: The seconds that the execution has waited.
        visited: The names of the states that were entered.
    """

    def __init__(self, call: Api) -> None:
        self._call = call
        self.waited = 0.0
        self.visited: list[str] = []

    def run(self, machine: State, value: Any) -> Any:
        """Return the output of *machine*; raises `Failed` if it ends in a failure."""
        name: str | None = machine["StartAt"]
        while name is not None:
            assert len(self.visited) < 5000, "the execution does not end"
            self.visited.append(name)
            state = machine["States"][name]
            unknown = state.keys() - {"Type"} - _FIELDS[state["Type"]]
            assert not unknown, f"{name} has {unknown}"
            name, value = self._step(state, value)
        return value

    def _step(self, state: State, value: Any) -> tuple[str | None, Any]:
        match state["Type"]:
            case "Succeed":
                return None, value
            case "Fail":
                path = state.get("CausePath")
                raise Failed(state["Error"], state.get("Cause", "") if path is None else found(value, path))
            case "Wait":
                self.waited += state["Seconds"]
                return state["Next"], value
            case "Pass":
                return state["Next"], filled(state["Parameters"], value)
            case "Choice":
                chosen = (choice["Next"] for choice in state["Choices"] if holds(choice, value))
                return next(chosen, state["Default"]), value
        try:
            return state["Next"], with_result(value, state, self._result(state, value))
        except Failed as failed:
            return self._caught(state, value, failed)

    def _result(self, state: State, value: Any) -> Any:
        if state["Type"] == "Parallel":
            return [self.run(branch, deepcopy(value)) for branch in state["Branches"]]
        attempts: dict[int, int] = {}
        while True:
            try:
                parameters = json.loads(json.dumps(filled(state["Parameters"], value)))
                result = self._call(
                    state["Resource"].removeprefix("arn:aws:states:::").removeprefix("aws-sdk:"), parameters
                )
                return filled(state["ResultSelector"], result) if "ResultSelector" in state else result
            except Failed as failed:
                rules = list(enumerate(state.get("Retry", [])))
                number, rule = next(((n, rule) for n, rule in rules if matches(rule, failed)), (-1, {"MaxAttempts": 0}))
                if attempts.get(number, 0) >= rule["MaxAttempts"]:
                    raise
                self.waited += rule["IntervalSeconds"] * rule["BackoffRate"] ** attempts.get(number, 0)
                attempts[number] = attempts.get(number, 0) + 1

    def _caught(self, state: State, value: Any, failed: Failed) -> tuple[str, Any]:
        for rule in state.get("Catch", []):
            if matches(rule, failed):
                return rule["Next"], with_result(value, rule, {"Error": failed.error, "Cause": failed.cause})
        raise failed


def matches(rule: State, failed: Failed) -> bool:
    """Return whether a rule of `Retry` or `Catch` names the error; a failed call of AWS is a `States.TaskFailed`."""
    # Nothing catches an error of the definition itself.
    return failed.error != "States.Runtime" and bool(
        {failed.error, "States.ALL", "States.TaskFailed"} & {*rule["ErrorEquals"]}
    )


def with_result(value: Any, rule: State, result: Any) -> Any:
    """Return the input of a state with its result at `ResultPath`."""
    path = rule.get("ResultPath", "$")
    if path is None:
        return value
    return result if path == "$" else {**value, path.removeprefix("$."): result}


def found(value: Any, path: str) -> Any:
    """Return the value at a reference path, or the list of values of a filter."""
    if match := _FILTER.fullmatch(path):
        items, key, expected, member = match.groups()
        return [each[member] for each in value[items] if each.get(key) == expected]
    for part in re.findall(r"\w+", path.removeprefix("$")):
        try:
            value = value[int(part) if part.isdigit() else part]
        except (KeyError, IndexError, TypeError):
            raise Failed("States.Runtime", f"{path} is not in the input") from None
    return value


def filled(template: Any, value: Any) -> Any:
    """Return a payload template with its references replaced."""
    if not isinstance(template, dict):
        return template
    return {
        name.removesuffix(".$"): evaluated(each, value) if name.endswith(".$") else filled(each, value)
        for name, each in template.items()
    }


def evaluated(expression: str, value: Any) -> Any:
    """Return the value of a path, of text or a number in a call, or of an intrinsic function."""
    if expression.startswith("$"):
        return found(value, expression)
    if expression.startswith("'"):
        return expression.strip("'")
    if not expression.startswith("States."):
        return json.loads(expression)
    name, _, rest = expression.removeprefix("States.").partition("(")
    return _INTRINSICS[name](*(evaluated(each, value) for each in _arguments(rest.removesuffix(")"))))


def _arguments(text: str) -> Iterable[str]:
    depth, start = 0, 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    yield text[start:].strip()


def holds(choice: State, value: Any) -> bool:
    """Return whether a rule of a `Choice` holds."""
    if "And" in choice:
        return all(holds(each, value) for each in choice["And"])
    ((operator, expected),) = ((key, each) for key, each in choice.items() if key not in ("Variable", "Next"))
    if operator == "IsPresent":
        try:
            found(value, choice["Variable"])
        except Failed:
            return not expected
        return bool(expected)
    actual = found(value, choice["Variable"])
    match operator:
        case "StringEquals" | "BooleanEquals":
            return bool(actual == expected)
        case "StringMatches":
            return fnmatchcase(actual, expected)
        case "NumericGreaterThanEquals":
            return bool(actual >= expected)
    raise AssertionError(f"the operator {operator} is unknown")
