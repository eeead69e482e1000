"""What systemctl prints in, a unit's cgroup and first process out."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError, NeedError
from harness.linux import units
from harness.linux.units import Unit

RUNS = """\
MainPID=812
ControlGroup=/system.slice/nginx.service
Id=nginx.service
LoadState=loaded
ActiveState=active
"""
STOPPED = """\
MainPID=0
ControlGroup=
Id=nginx.service
LoadState=loaded
ActiveState=inactive
"""
UNKNOWN = """\
MainPID=0
ControlGroup=
Id=nginz.service
LoadState=not-found
ActiveState=inactive
"""


def test_a_unit_that_runs_has_a_cgroup_and_a_first_process() -> None:
    assert units.parse("nginx", RUNS) == Unit("nginx.service", "/system.slice/nginx.service", 812)


def test_a_unit_that_does_not_run_is_told_with_how_to_start_it() -> None:
    with pytest.raises(InputError) as caught:
        units.parse("nginx", STOPPED)
    assert "nginx.service does not run: it is inactive" in caught.value.what
    assert "systemctl start nginx.service" in caught.value.next_step


def test_an_unknown_unit_is_told() -> None:
    with pytest.raises(InputError, match=r"There is no unit 'nginz'\. systemd says: not-found"):
        units.parse("nginz", UNKNOWN)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/nginx.service", "nginx.service"),
        ("/system.slice/nginx.service/workers", "nginx.service"),
        ("/system.slice/system-web.slice/web@2.service", "web@2.service"),
        ("/system.slice/run-r5.scope", "run-r5.scope"),
        ("/user.slice/user-0.slice/session-3.scope", ""),  # everything of a login
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/web.service", ""),
        ("/docker/abc", ""),
        ("/", ""),
    ],
)
def test_a_cgroup_tells_its_unit(path: str, unit: str) -> None:
    assert units.of(path) == unit


def test_cgroups_that_systemd_keeps_are_told_from_others() -> None:
    assert units.is_of_systemd("/user.slice/user-0.slice/session-3.scope")
    assert not units.is_of_systemd("/sys/fs/cgroup/unified/docker/abc")


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(units, "SYSTEMD", tmp_path)
    return tmp_path / "systemctl"


def test_systemctl_is_asked(systemctl: Path) -> None:
    systemctl.write_text(f"#!/bin/sh\n[ \"$3 $4\" = '-- nginx' ] && /bin/cat <<X\n{RUNS}X\n")
    systemctl.chmod(0o755)
    assert units.find("nginx").main_pid == 812


def test_a_systemctl_that_fails_is_a_sentence(systemctl: Path) -> None:
    systemctl.write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2; exit 1\n")
    systemctl.chmod(0o755)
    with pytest.raises(NeedError, match="Failed to connect to bus"):
        units.find("nginx")


def test_without_systemctl_the_other_options_are_named(systemctl: Path) -> None:
    with pytest.raises(NeedError, match=r"systemctl is not installed.*--pid, --cgroup"):
        units.find("nginx")


def test_where_systemd_does_not_run_the_other_options_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SYSTEMD", tmp_path / "none")
    with pytest.raises(NeedError, match=r"systemd does not run here.*--pid, --cgroup"):
        units.find("nginx")
