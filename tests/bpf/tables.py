"""Programs without frame pointers whose chain of calls is known, for test_profile_tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.linux import processes

# each has something to do after its call, which is therefore no jump
LIBRARY = """
#include <stdlib.h>
volatile unsigned long sink;
int compare(const void *a, const void *b) {
    for (int i = 0; i < 2000; i++) sink = sink * 31 + i;
    return (*(int *)a > *(int *)b) - (*(int *)a < *(int *)b) + (sink == 1);
}
void in_library(int *numbers, int count) {
    qsort(numbers, count, sizeof(int), compare);
    sink++;
}
"""
SORTS = """
extern volatile unsigned long sink;
void in_library(int *, int);
static int numbers[64];
void sorts(void) {
    for (int i = 0; i < 64; i++) numbers[i] = (i * 37) % 64;
    in_library(numbers, 64);
    sink++;
}
"""
# with an argument: by a child at a time, which ends
PROGRAM = """
#include <sys/wait.h>
#include <unistd.h>
extern volatile unsigned long sink;
void sorts(void);
__attribute__((noinline)) void recurses(int left) {
    volatile char room[40];
    room[0] = left;
    if (left) recurses(left - 1); else sorts();
    sink += room[0];
}
__attribute__((noinline)) void begins(void) { recurses(5); sink++; }
int main(int argc, char **argv) {
    for (;;) {
        if (argc > 1 && fork()) { wait(0); continue; }
        for (int i = 0; i < 25; i++) begins();
        if (argc > 1) _exit(0);
    }
}
"""
CHAIN = ["main", "begins", *6 * ["recurses"], "sorts", "in_library", "compare"]
# what ODD says holds while `burns` runs, DEEP calls below main
ODD = """
volatile unsigned long sink;
__attribute__((noinline)) void burns(void) {
    for (int i = 0; i < 200000; i++) sink = sink * 31 + i;
}
__attribute__((noinline)) void odd(int left) {
    if (left) odd(left - 1);
    else {
        __asm__ volatile(".cfi_remember_state\\n" WHAT);
        burns();
        __asm__ volatile(".cfi_restore_state");
    }
    sink++;
}
int main(void) { for (;;) odd(DEEP); }
"""
OPTIONS = ("-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-inline")
# what it calls is walked by a table, what called it too, and it by its frame pointer
BARE = ("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-omit-frame-pointer")


def built(directory: Path, linked: Sequence[str] = (), middle: Sequence[str] = ()) -> Path:
    """PROGRAM and SORTS, with LIBRARY as a shared library, which is `libsorting.so` beside it."""
    for name, text in (("library", LIBRARY), ("sorts", SORTS), ("program", PROGRAM)):
        (directory / f"{name}.c").write_text(text)
    library = str(directory / "libsorting.so")
    _compile(directory, "-fPIC", "-shared", "-o", library, "library.c")
    _compile(directory, *linked[:1], *middle, "-c", "-o", "sorts.o", "sorts.c")
    _compile(directory, *linked, "-o", "program", "program.c", "sorts.o", library)
    return directory / "program"


def built_odd(directory: Path, directives: str = "", deep: int = 0) -> Path:
    """ODD, in which these directives describe the caller of `burns` otherwise than it is."""
    (directory / "odd.c").write_text(ODD)
    _compile(directory, f'-DWHAT="{directives}"', f"-DDEEP={deep}", "-o", "odd", "odd.c")
    return directory / "odd"


def _compile(directory: Path, *arguments: str) -> None:
    processes.run(["clang", *OPTIONS, *arguments], cwd=directory)
