"""One controller's session: what it asks for is done, one thing after the other; for `__main__`.

Commands are open, block, trial, ack, end_block and close; back come hello, ready, done and failed,
and meanwhile phase, file, windows and ask. While something is under way only `ping` and `close` may
come, and what answers an `ask`. A node of the role `load` is told to drive.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from harness import __version__
from harness.errors import DEFECT, HarnessError, NodeError
from harness.linux import cpu_idle, facts, placement
from harness.model import Comparison
from harness.node import attempt, block, receivers
from harness.node.cleanup import Cleanup
from harness.node.driving import Driving
from harness.node.line import Closed, Gone, Line
from harness.node.machine import Machine
from harness.node.testbed import Testbed
from harness.stack import results
from harness.wire import codec
from harness.wire.code import digest
from harness.wire.driving import Call, End
from harness.wire.frames import PIECE, Frame
from harness.wire.spec import BlockSpec, Hello, Session, TrialSpec

GROWING = ("telemetry.spool", "sink.log")  # files that are whole only at the end


class NodeSession:
    """Serves one controller until it hangs up; all that was started has been ended then."""

    def __init__(self, line: Line, shield: Callable[[], None]) -> None:
        self._line, self._shield = line, shield
        self._undo, self._block_undo = Cleanup(), Cleanup()
        self._testbed: Testbed | None = None
        self._driving: Driving | None = None
        self._commands: Mapping[str, Callable[[Frame], None]] = {
            "open": self._open,
            "block": self._block,
            "trial": self._trial,
            "ack": self._acknowledged,
            "end_block": self._end_block,
            "results": self._results,
            "drive": self._drive,
        }

    def serve(self) -> list[str]:
        """Until it closes or is gone; what could not be undone, in sentences."""
        try:
            while True:
                self._do(self._line.next())
        except Closed:
            said = self._end()
            self._line.last_word("closed", warnings=said)
            return said
        except Gone as gone:
            return [f"The node ended: {gone}.", *self._end()]
        except BaseException:
            self._end()
            raise

    def _do(self, frame: Frame) -> None:
        """Do what is asked; an error goes back to whoever asked."""
        command = self._commands.get(frame.kind)
        try:
            if command is None:
                raise NodeError(f"The node knows no command {frame.kind!r}.", next_step=DEFECT)
            command(frame)
        except HarnessError as error:
            self._line.reply("failed", error=error.to_dict())
        except Gone:
            raise
        except Exception as error:
            told = attempt.told(error, "node", NodeError)
            self._line.reply("failed", error=told.to_dict())

    def _open(self, frame: Frame) -> None:
        session = codec.load(Session, frame.head["session"])
        _require_same_code(session)
        self._line.lease_seconds = session.lease_seconds
        if session.role == "measure":
            receivers.check(session.receiver)
        self._machine = machine = Machine(session.run, session.run_dir)
        machine.up()
        self._undo.later(machine.down)
        self._undo.later(self._send_rest)
        for name in ("trials", "logs"):
            (machine.work / name).mkdir(exist_ok=True)
        found, self._place = (
            facts.facts(),
            placement.placement(session.service_cpus, session.load_workers),
        )
        ends = ExitStack()
        self._undo.later(ends.close)
        if session.role == "measure":
            self._receiver = receivers.start(
                session.receiver, machine, self._place, ends, self._line.tell
            )
        else:
            self._driving = Driving(machine, self._place)
            ends.callback(self._driving.stop)
        ends.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
        os.sched_setaffinity(0, self._place.orchestrator)
        hello = Hello(
            facts=found,
            placement=self._place,
            idle_poll=ends.enter_context(cpu_idle.polling(session.idle_poll)),
            work=str(machine.work),
        )
        if session.role == "measure":
            hello = replace(
                hello, otlp_url=self._receiver.receiver.url,
                components=self._receiver.components, stays=self._receiver.stays,
            )  # fmt: skip
        self._line.reply("hello", hello=codec.dump(hello))

    def _block(self, frame: Frame) -> None:
        spec = codec.load(BlockSpec, frame.head["block"])
        self._close_block()
        ends = ExitStack()
        self._block_undo.later(ends.close)
        try:
            self._testbed, ready = block.start(
                self._machine, self._place, self._receiver.receiver, spec, ends,
                self._line.attend, self._line.tell, self._line.ask,
            )  # fmt: skip
        except HarnessError:
            self._close_block()
            self._send(self._machine.work / "logs")
            raise
        self._line.reply("ready", block=codec.dump(ready))

    def _trial(self, frame: Frame) -> None:
        spec = codec.load(TrialSpec, frame.head["trial"])
        if self._testbed is None:
            raise NodeError(
                "There is no service to run a trial on.", "A block comes first.", DEFECT
            )
        folder = self._machine.work / "trials" / spec.name
        folder.mkdir()
        result = attempt.run(self._testbed, spec, folder)
        if result.status == "failed":
            self._receiver.failed = True
        self._send(folder, new=True)
        self._line.send_windows(result.windows)
        self._line.reply("done", result=codec.dump(replace(result, windows=())))

    def _acknowledged(self, frame: Frame) -> None:
        """A trial is stored: its files can go."""
        name = Path(str(frame.head["trial"])).name
        shutil.rmtree(self._machine.work / "trials" / name, ignore_errors=True)

    def _end_block(self, _frame: Frame) -> None:
        said = self._close_block()
        self._send(self._machine.work / "logs")
        self._line.reply("done", warnings=said)

    def _results(self, frame: Frame) -> None:
        """Figures of the run into the stack that takes the telemetry."""
        rows = [Comparison(**row) for row in frame.head["rows"]]
        results.send(self._receiver.receiver.url, str(frame.head["run"]), rows)
        self._line.reply("done")

    def _drive(self, frame: Frame) -> None:
        """Load for a service on another node; what its driver said goes with its end."""
        if self._driving is None:
            raise NodeError(
                "This node makes no load for others.", "It was opened to measure.", DEFECT
            )
        call = codec.load(Call, frame.head["call"])
        found, path = self._driving.do(call)
        if path is not None:
            with path.open("rb") as stream:
                while piece := stream.read(PIECE):
                    self._line.reply("requests", piece)
            path.unlink()
        if isinstance(call.does, End):
            self._send(self._machine.work / "logs")
        self._line.reply("driven", found=found)

    def _close_block(self) -> list[str]:
        self._testbed = None
        return self._block_undo.run()

    def _end(self) -> list[str]:
        self._shield()
        self._line.over = True  # no question is asked any more whether to go on
        return [*self._close_block(), *self._undo.run()]

    def _send_rest(self) -> None:
        """What is still there at the end, to whoever is still there."""
        with contextlib.suppress(Gone):
            self._send(self._machine.work)

    def _send(self, folder: Path, new: bool = False) -> None:
        """Send what lies below a folder under the names that it has in the run's own folder.

        Of a trial all of it is new; what is said of a block and of the run may be added to what an
        earlier node said, and is not sent again.
        """
        work = self._machine.work
        for path in sorted(each for each in folder.rglob("*") if each.is_file()):
            if folder != work and path.name in GROWING:
                continue
            name = path.relative_to(work)
            with path.open("rb") as stream:
                self._line.send_file(str(name), stream, new=new or name.parts[0] == "trials")
            if not new:
                path.unlink()


def _require_same_code(session: Session) -> None:
    if (session.version, session.code) != (__version__, digest()):
        raise NodeError(
            f"The node runs {__version__} ({digest()}), the controller {session.version} "
            f"({session.code}).",
            "What they say to each other could mean different things.",
            "Let the target install the same version again: remove what is installed there.",
        )
