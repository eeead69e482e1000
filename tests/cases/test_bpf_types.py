"""The kernel's types in bpf/vmlinux: programs compiled with them are those of the full headers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bpf.vmlinux.relocations import Relocation, Step, relocations
from bpf.vmlinux.trim import Trimming, parsed, without_clashes
from harness.linux import processes

BPF = Path(__file__).resolve().parents[2] / "bpf"
BTF = Path("/sys/kernel/btf/vmlinux")
MACHINES = ("x86_64", "aarch64")
FULL = """
enum state {
	NEW = 0,
	OPEN = 1,
};

enum {
	BPF_ANY = 0,
	BPF_EXIST = 2,
};

typedef unsigned int __u32;

typedef struct {
	struct net *net;
} possible_net_t;

struct address {
	union {
		__u32 word;
		struct {
			unsigned char a: 4;
			unsigned char b: 4;
		};
	} bits;
};

struct head {
	__u32 source;
	struct address to;
};

typedef struct head head;

struct inner {
	int kept;
	void (*call)(struct inner *, int);
	long long int big[2][3];
};

struct sock {
	struct inner inner;
	possible_net_t net_of;
	union {
		struct {
			__u32 deep;
			__u32 other;
		};
		enum state *states;
	};
	struct list_head list;
	void *unused;
};
"""


def _header(source: str, *paths: str) -> str:
    """FULL as it is cut for a source that reads these members: `struct sock.inner`."""
    told = []
    for path in paths:
        root, *members = path.split(".")
        steps = tuple(Step(*each.rsplit("/", 1)) for each in members)
        told.append(Relocation("", 0, "byte_off", root, steps))
    return "\n".join(Trimming(parsed(FULL), source, told).header())


def test_of_a_struct_those_members_stay_that_are_read() -> None:
    found = _header(
        "int f(struct sock *s);",
        "struct sock.struct sock/inner.struct inner/kept",
        "struct sock.struct sock/.struct sock/deep",
        "struct sock.struct sock/net_of.possible_net_t/net",
    )
    assert "struct inner {\n\tint kept;\n};" in found
    assert "\tunion {\n\t\tstruct {\n\t\t\t__u32 deep;\n\t\t};\n\t};\n" in found
    assert "typedef struct {\n\tstruct net *net;\n} possible_net_t;" in found
    for gone in ("other", "states", "list", "unused", "call", "big", "struct head", "enum state"):
        assert gone not in found


def test_formats_stay_whole_whatever_is_read_of_them() -> None:
    found = _header("void f(struct head *at);", "struct head.struct head/source")
    assert FULL[FULL.index("struct head {") : FULL.index("typedef struct head")].strip() in found
    assert FULL[FULL.index("struct address {") : FULL.index("struct head {")].strip() in found


def test_what_a_program_has_by_value_stays_whole() -> None:
    assert "big[2][3]" in _header("void f(void) { struct inner own = {}; }")
    assert "big[2][3]" in _header("int n = sizeof(struct inner);")
    assert "big[2][3]" not in _header("struct inner *f(void);")


def test_a_constant_brings_its_enumeration_unless_the_program_has_one_of_that_name() -> None:
    assert "BPF_EXIST = 2" in _header("f(BPF_ANY)")
    assert "BPF_ANY" not in _header("/* BPF_ANY */")
    own = "enum kind { EXEC, OPEN = 2 };"
    assert "enum state" not in _header(own + "f(OPEN)")
    assert "\tOPEN___kernel = 1,\n" in without_clashes(FULL, own)


@pytest.fixture
def compiled(tmp_path: Path) -> Callable[..., Path]:
    """Compile the programs as bpf/Makefile does, with these variables; where the objects are."""

    def make(name: str, *words: str) -> Path:
        output = tmp_path / name
        argv = ["make", "-s", "-C", str(BPF), f"OUTPUT={output}", *words]
        processes.run(argv, timeout=300)
        return output

    return make


@pytest.mark.parametrize("machine", MACHINES)
def test_every_program_compiles_for_every_architecture(
    compiled: Callable[..., Path], machine: str
) -> None:
    output = compiled("objects", f"MACHINE={machine}")
    found = {path.name.removesuffix(".o") for path in output.glob("*.bpf.o")}
    assert found == {path.name.removesuffix(".c") for path in BPF.glob("*.bpf.c")}
    counter = {"x86_64": "ip", "aarch64": "pc"}[machine]
    asked = {each.named[3].split(".")[-1] for each in relocations(output / "profile.bpf.o")}
    assert {"ip", "pc"} & asked == {counter}


@pytest.mark.skipif(not BTF.exists(), reason="this kernel has no BTF")
def test_programs_ask_the_kernel_for_the_same_as_with_its_own_full_header(
    compiled: Callable[..., Path], tmp_path: Path
) -> None:
    text = processes.run(["bpftool", "btf", "dump", "file", str(BTF), "format", "c"]).stdout
    (tmp_path / "vmlinux.h").write_text(text)
    full, ours = compiled("full", f"VMLINUX={tmp_path}"), compiled("ours")
    told = {path.name: {each.named for each in relocations(path)} for path in ours.glob("*.o")}
    assert told == {
        path.name: {each.named for each in relocations(path)} for path in full.glob("*.o")
    }
    assert ("struct task_struct", "tgid") in {each[2:] for each in told["guard.bpf.o"]}


@pytest.mark.skipif(not BTF.exists(), reason="this kernel has no BTF")
def test_a_header_is_cut_for_the_programs_and_not_for_what_runs_in_the_agent(
    tmp_path: Path,
) -> None:
    tree = tmp_path / "bpf"
    shutil.copytree(BPF, tree, ignore=shutil.ignore_patterns(".output"))
    (tree / "dataplane.c").write_text("#error none of the programs")
    done = processes.run([str(tree / "vmlinux/make"), "x86_64", str(BTF)], timeout=300)
    header = (tree / "vmlinux/x86_64/vmlinux.h").read_text()
    assert "struct task_struct {" in header, done.stderr
    for name in ("uint8_t", "uint64_t", "size_t"):  # <stdint.h>'s, which no program has
        assert f" {name};" not in header


@pytest.mark.parametrize("machine", MACHINES)
def test_formats_are_those_of_the_protocols(tmp_path: Path, machine: str) -> None:
    sizes = {"iphdr": 20, "ipv6hdr": 40, "tcphdr": 20, "udphdr": 8, "in6_addr": 16}
    places = {"iphdr, ttl": 8, "iphdr, daddr": 16, "ipv6hdr, hop_limit": 7, "ipv6hdr, daddr": 24,
              "tcphdr, window": 14, "tcphdr, urg_ptr": 18, "udphdr, check": 6}  # fmt: skip
    facts = [f"sizeof(struct {name}) == {size}" for name, size in sizes.items()]
    facts += [f"__builtin_offsetof(struct {name}) == {at}" for name, at in places.items()]
    source = tmp_path / "formats.c"
    lines = [f'_Static_assert({fact}, "");' for fact in facts]
    source.write_text('#include "vmlinux.h"\n' + "\n".join(lines) + "\n")
    folder = BPF / "vmlinux" / machine.replace("aarch64", "arm64")
    processes.run(["clang", "-target", "bpf", "-fsyntax-only", f"-I{folder}", str(source)])


def test_an_object_is_built_again_if_it_is_of_other_sources(tmp_path: Path) -> None:
    """Where a source is older than the object, too: as after going back to an earlier commit."""
    tree = tmp_path / "bpf"
    shutil.copytree(BPF, tree, ignore=shutil.ignore_patterns(".output"))
    argv = ["make", "-s", "-C", str(tree), "SOURCES=sham.bpf.c"]
    made = tree / ".output" / "sham.bpf.o"
    processes.run(argv)
    before = made.stat().st_mtime_ns
    processes.run(argv)
    assert made.stat().st_mtime_ns == before
    source = tree / "sham.bpf.c"
    source.write_text(source.read_text().replace("sham_exec", "sham_execution"))
    os.utime(source, (1, 1))
    processes.run(argv)
    assert b"sham_execution" in made.read_bytes()


def test_where_there_are_no_types_of_an_architecture_make_says_so(tmp_path: Path) -> None:
    argv = ["make", "-s", "-C", str(BPF), "MACHINE=riscv64", f"OUTPUT={tmp_path}"]
    done = processes.run(argv, check=False)
    assert done.returncode
    assert "vmlinux/README.md says how" in done.stderr
