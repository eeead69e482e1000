"""What one of our processes answers another that told it to do something it cannot do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from harness.errors import LoadError
from harness.wire.control import Client, ControlError, Server
from tests.waiting import PATIENCE_SECONDS


def test_an_error_in_sentences_is_told_as_it_is_and_a_defect_by_its_class(tmp_path: Path) -> None:
    def refuse(_: dict[str, Any]) -> dict[str, Any]:
        raise LoadError("The service answered nothing.", "It is asleep.")

    def fail(_: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("x")

    server = Server(tmp_path / "s", {"refuse": refuse, "fail": fail})
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with Client(tmp_path / "s") as client:
            with pytest.raises(
                ControlError, match=r"^The service answered nothing. It is asleep.$"
            ):
                client.call("refuse")
            with pytest.raises(ControlError, match=r"^KeyError: 'x'$"):
                client.call("fail")
            with pytest.raises(
                ControlError, match=r"^There is no command 'nonsense'; refuse, fail are\.$"
            ):
                client.call("nonsense")
    finally:
        server.stop()
        thread.join(PATIENCE_SECONDS)
