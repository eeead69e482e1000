"""A user's command: what is before the program, and what would need a shell."""

from __future__ import annotations

import pytest

from harness.errors import InputError
from harness.plan import command


@pytest.mark.parametrize(
    ("text", "variables", "words"),
    [
        ("./server --port 8080", {}, ("./server", "--port", "8080")),
        ("PORT=8080 LOG= ./server A=1", {"PORT": "8080", "LOG": ""}, ("./server", "A=1")),
        ("GREETING='good day' ./server", {"GREETING": "good day"}, ("./server",)),
        ("JAVA_OPTS=-Da=b java", {"JAVA_OPTS": "-Da=b"}, ("java",)),
        ("./a=b x", {}, ("./a=b", "x")),
        ("PORT=8080", {"PORT": "8080"}, ()),
        ("", {}, ()),
        ("nginx -g 'daemon off;'", {}, ("nginx", "-g", "daemon off;")),
        ("sh -c 'a && exec b | c'", {}, ("sh", "-c", "a && exec b | c")),
        ('sh -c "echo $PORT"', {}, ("sh", "-c", "echo $PORT")),
        (r"./server \$x a\;b", {}, ("./server", "$x", "a;b")),
        ("./server http://h/?a=1&b=2 x->y {port}", {},
         ("./server", "http://h/?a=1&b=2", "x->y", "{port}")),
    ],
)  # fmt: skip
def test_words_are_read_as_in_a_shell(
    text: str, variables: dict[str, str], words: tuple[str, ...]
) -> None:
    assert command.parse(text) == (variables, words)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("./server | tee log", "|"),
        ("cd app && ./server", "&&"),
        ("cd app;./server", ";"),
        ("./server --port $PORT", "$PORT"),
        ("./server ${PORT}", "${PORT}"),
        ("./server $(cat port)", "$("),
        ("./server `cat port`", "`"),
        ("./server > log", ">"),
        ("./server 2>&1", "2>&"),
        ("./server &", "&"),
        ("( ./server )", "("),
    ],
)
def test_what_needs_a_shell_is_named(text: str, found: str) -> None:
    with pytest.raises(InputError) as raised:
        command.parse(text)
    assert f"{found!r}, which is for a shell" in raised.value.what
    assert "sh -c" in raised.value.next_step


def test_a_quote_that_does_not_end_is_told() -> None:
    with pytest.raises(InputError, match="cannot be read: No closing quotation"):
        command.parse("./server 'x")
