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
        ("~/bin/server ~/a b~ =~ x~/y", {},
         ("/home/me/bin/server", "/home/me/a", "b~", "=~", "x~/y")),
        ("~", {}, ("/home/me",)),
        ("HOME_OF=~ P=~/a:~/b:c~ ./server Q=~/a -v ~/x:~/y",
         {"HOME_OF": "/home/me", "P": "/home/me/a:/home/me/b:c~"},
         ("./server", "Q=~/a", "-v", "/home/me/x:~/y")),
        (r"""'~/a' \~/b "~/c" ~'/d' ~nobody-of-this-name/e ~:""", {},
         ("~/a", "~/b", "~/c", "~/d", "~nobody-of-this-name/e", "~:")),
        ("sh -c 'exec ~/server *.conf'", {}, ("sh", "-c", "exec ~/server *.conf")),
        ("java -cp 'lib/*' Main", {}, ("java", "-cp", "lib/*", "Main")),
        ("~root/x", {}, ("/root/x",)),
    ],
)  # fmt: skip
def test_words_are_read_as_in_a_shell(
    text: str,
    variables: dict[str, str],
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
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
        ("./server>log", ">"),
        ("java -cp lib/* Main", "*"),
        ("LOGS=*.log ./server", "*"),
        ("$HOME/server", "$HOME"),
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


def test_a_folder_of_this_machine_is_none_of_another_one() -> None:
    with pytest.raises(InputError, match="holds '~', which would be") as raised:
        command.parse("PORT=1 ~/bin/server", here=False)
    assert "on another one" in raised.value.why
    assert command.parse("'~/bin/server' b~", here=False) == ({}, ("~/bin/server", "b~"))


def test_a_quote_that_does_not_end_is_told() -> None:
    with pytest.raises(InputError, match="cannot be read: No closing quotation"):
        command.parse("./server 'x")
