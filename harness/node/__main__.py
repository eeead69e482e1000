"""`python -m harness.node`: the node side of an evaluation; a target starts it.

python -m harness.node                    a session on stdin and stdout, see wire.frames
python -m harness.node QUESTION [JSON]   one answer as JSON on stdout: ANSWERS
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import HarnessError
from harness.linux.stop_signals import interruptible
from harness.node import answers
from harness.node.line import Line
from harness.node.session import NodeSession

ANSWERS: Mapping[str, Callable[..., Any]] = {
    "describe": answers.describe,
    "doctor": answers.doctor,
    "unmet": answers.unmet,
    "obtain": answers.obtain,
    "clean": answers.clean,
    "entry": answers.entry,
    "rehearse": answers.rehearse,
    "tuning": answers.tuning,
    "tune": answers.tune,
    "restore": answers.restore,
    "require_here": answers.require_here,
    "flushed": answers.flushed,
    "programs": answers.programs,
    "programs_left": answers.programs_left,
}


def main(arguments: Sequence[str]) -> int:
    """Serve a session, or give one answer; the exit code."""
    if arguments:
        return _answer(*arguments)
    # whoever prints or reads, a child of ours among them, must not do so in between
    source, sink = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), 0)
    try:
        with interruptible() as stop:
            said = NodeSession(Line(source, sink), stop.shield).serve()
    except KeyboardInterrupt:
        return 130
    for sentence in said:
        print(sentence, file=sys.stderr)
    return 0


def _answer(name: str, *about: str) -> int:
    if name not in ANSWERS:
        print(f"There is no answer to {name!r}.", file=sys.stderr)
        return 2
    try:
        found: Any = {"answer": ANSWERS[name](*map(json.loads, about))}
    except HarnessError as error:
        found = {"error": error.to_dict()}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
