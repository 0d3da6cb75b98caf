"""Run with `python3 -m unittest` in the folder `python`."""

import json
import os
import pathlib
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
import unittest
from unittest import mock

import lindos

PACKAGE = pathlib.Path(__file__).resolve().parents[1]


class Case(unittest.TestCase):
    """A fresh folder, and no variable of Lindos but those that the test sets."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LINDOS_")}
        patch = mock.patch.dict(os.environ, kept, clear=True)
        patch.start()
        self.addCleanup(patch.stop)
        os.environ["LINDOS_STACKS"] = "off"

    def path(self, name):
        return os.path.join(self.folder, name)

    def listen(self):
        reader = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(reader.close)
        reader.settimeout(10)
        reader.bind(self.path("socket"))
        os.environ["LINDOS_SOCKET"] = self.path("socket")
        return reader

    def write(self, *names):
        for name in names:
            pathlib.Path(self.path(name)).write_text("x")


class Progress(Case):
    def test_a_step_is_one_json_object(self):
        reader = self.listen()
        lindos.step(120, loss=2.31, tokens=983040, total_steps=400)
        expected = {"step": 120, "loss": 2.31, "tokens": 983040, "total_steps": 400}
        self.assertEqual(json.loads(reader.recv(4096)), expected)

    def test_what_is_not_given_is_not_sent(self):
        reader = self.listen()
        lindos.step(3)
        self.assertEqual(reader.recv(4096), b'{"step":3}')

    def test_a_checkpoint_has_an_absolute_path(self):
        reader = self.listen()
        lindos.checkpoint(120, pathlib.Path("step-120.pt"), seconds=0.04)
        expected = {"step": 120, "path": os.path.abspath("step-120.pt"), "seconds": 0.04}
        self.assertEqual(json.loads(reader.recv(4096)), {"checkpoint": expected})

    def test_tensors_are_read_by_their_item(self):
        class Tensor:
            def item(self):
                return 1.5

        reader = self.listen()
        lindos.step(1, loss=Tensor())
        self.assertEqual(json.loads(reader.recv(4096)), {"step": 1, "loss": 1.5})

    def test_a_loss_that_json_cannot_say_is_left_out(self):
        reader = self.listen()
        for loss in (float("nan"), float("inf"), "high", object()):
            lindos.step(1, loss=loss)
            self.assertEqual(reader.recv(4096), b'{"step":1}')

    def test_outside_lindos_nothing_happens(self):
        lindos.step(1, loss=2.0)
        lindos.checkpoint(1, "x")
        self.assertIsNone(lindos.job())
        self.assertEqual(lindos.epoch(), 1)

    def test_a_missing_socket_is_no_error(self):
        os.environ["LINDOS_SOCKET"] = self.path("nobody")
        lindos.step(1)
        os.environ["LINDOS_SOCKET"] = self.path("x" * 500)
        lindos.step(1)

    def test_a_full_socket_does_not_block(self):
        reader = self.listen()
        for n in range(10_000):
            lindos.step(n)
        self.assertEqual(json.loads(reader.recv(4096)), {"step": 0})

    def test_nonsense_is_no_error(self):
        self.listen()
        lindos.step("many")
        lindos.step(None)
        lindos.checkpoint(1, None)
        lindos.checkpoint(1, "x" * 100_000)

    def test_a_forked_child_has_a_socket_of_its_own(self):
        reader = self.listen()
        lindos.step(1)
        reader.recv(4096)
        child = os.fork()
        if child == 0:
            lindos.step(2)
            os._exit(0)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.assertEqual(json.loads(reader.recv(4096)), {"step": 2})

    def test_job_and_epoch_are_read(self):
        os.environ.update(LINDOS_JOB="job-7", LINDOS_EPOCH="3")
        self.assertEqual((lindos.job(), lindos.epoch()), ("job-7", 3))



class Recorder:
    """Stands in for PyTorch with NCCL and a GPU: the one function that is asked, in its own format."""

    def __init__(self):
        self.entries, self.next_id, self.reads = [], 0, 0

    def did(self, *durations_ms, **more):
        for took in durations_ms:
            entry = {"record_id": self.next_id, "state": "completed", "retired": True, **more}
            if took is not None:
                entry["duration_ms"] = took
            self.entries.append(entry)
            self.next_id += 1

    def dump(self, includeCollectives, includeStackTraces, onlyActive):
        assert includeCollectives and not includeStackTraces and not onlyActive
        self.reads += 1
        return pickle.dumps({"version": "2.10", "entries": self.entries})


class Waits(Case):
    def setUp(self):
        super().setUp()
        self.reader = self.listen()
        for name in ("_said_s", "_recorder"):
            patch = mock.patch.object(lindos._waits, name, None)
            patch.start()
            self.addCleanup(patch.stop)
        clock = mock.patch.object(lindos._waits.time, "monotonic", lambda: self.now)
        self.now = 1000.0
        clock.start()
        self.addCleanup(clock.stop)

    def torch(self):
        recorder = Recorder()
        torch = types.SimpleNamespace(
            distributed=types.SimpleNamespace(is_initialized=lambda: True),
            _C=types.SimpleNamespace(
                _distributed_c10d=types.SimpleNamespace(_dump_nccl_trace=recorder.dump)
            ),
        )
        patch = mock.patch.dict(sys.modules, {"torch": torch})
        patch.start()
        self.addCleanup(patch.stop)
        os.environ["TORCH_NCCL_ENABLE_TIMING"] = "1"
        return recorder

    def told(self):
        lindos.step(1)
        return json.loads(self.reader.recv(4096)).get("waited")

    def test_the_scripts_own_word_adds_up(self):
        self.assertIsNone(self.told())
        lindos.waited(1.5)
        with lindos.waiting():
            self.now += 2
        with self.assertRaises(KeyError), lindos.waiting():
            self.now += 0.25
            raise KeyError
        for nonsense in (-1, float("nan"), float("inf"), None, "long"):
            lindos.waited(nonsense)
        self.assertEqual(self.told(), 3.75)

    def test_what_collectives_took_is_told_with_the_step_at_which_it_was_read(self):
        recorder = self.torch()
        self.assertIsNone(self.told())
        self.now += 10
        recorder.did(200, 300)
        recorder.did(None, retired=False)
        self.assertEqual(self.told(), 0.5)
        self.now += 9
        self.assertIsNone(self.told(), "it was not read again")
        self.now += 1
        # What was under way is over.
        recorder.entries[2].update(duration_ms=100, retired=True)
        recorder.did(400)
        self.assertEqual(self.told(), 1.0)
        self.now += 10
        self.assertEqual(self.told(), 1.0)
        self.assertEqual(recorder.reads, 4)

    def test_parts_of_a_group_have_no_time_and_hold_up_nothing(self):
        recorder = self.torch()
        for took in (300, 500):
            recorder.did(None, None, retired=False, state="scheduled", is_p2p=True)
            recorder.did(took, profiling_name="nccl:coalesced")
            recorder.did(100)
        self.assertEqual(self.told(), 1.0)
        self.now += 10
        recorder.did(None, None, retired=False, state="scheduled", is_p2p=True)
        self.assertIsNone(self.told(), "nothing of it is over: it says nothing of these steps")
        self.now += 10
        recorder.did(700, profiling_name="nccl:coalesced")
        self.assertEqual(self.told(), 1.7)

    def test_a_recorder_that_numbers_anew_is_followed(self):
        recorder = self.torch()
        recorder.did(*[100] * 5)
        self.assertEqual(self.told(), 0.5)
        recorder.entries, recorder.next_id = [], 0
        recorder.did(200)
        self.now += 10
        self.assertEqual(self.told(), 0.7)

    def test_a_sum_of_which_the_greater_part_is_missing_is_not_told(self):
        recorder = self.torch()
        recorder.did(100)
        self.assertEqual(self.told(), 0.1)
        recorder.did(*[100] * 9)
        del recorder.entries[:7]
        self.now += 10
        self.assertEqual(self.told(), 0.0, "it begins anew")
        recorder.did(100, 100)
        self.now += 10
        self.assertEqual(self.told(), 0.2)

    def test_collectives_that_the_recorder_has_dropped_took_as_long_as_the_others(self):
        recorder = self.torch()
        recorder.did(100)
        self.assertEqual(self.told(), 0.1)
        for _ in range(3):
            recorder.did(None, None, 300, retired=False)
        del recorder.entries[:4]
        self.now += 10
        self.assertAlmostEqual(self.told(), 1.0)

    def test_a_recorder_that_takes_long_is_read_seldom(self):
        recorder = self.torch()
        recorder.did(100)
        dump = recorder.dump

        def slow(**how):
            self.now += 0.5
            return dump(**how)

        sys.modules["torch"]._C._distributed_c10d._dump_nccl_trace = slow
        self.assertEqual(self.told(), 0.1)
        self.now += 149
        self.assertIsNone(self.told())
        self.now += 1
        self.assertEqual(self.told(), 0.1)

    def test_another_pytorch_is_let_be(self):
        recorder = self.torch()
        recorder.dump = lambda **how: b"nonsense"
        sys.modules["torch"]._C._distributed_c10d._dump_nccl_trace = recorder.dump
        self.assertIsNone(self.told())
        for lacks in ("_dump_nccl_trace", "other"):
            lindos._waits._recorder = None
            sys.modules["torch"]._C._distributed_c10d = types.SimpleNamespace(**{lacks: None})
            self.now += 1000
            self.assertIsNone(self.told())
        os.environ["TORCH_NCCL_ENABLE_TIMING"] = "0"
        self.assertIsNone(self.told())


class Stacks(Case):
    SCRIPT = (
        "import lindos, sys, time\n"
        "def all_reduce():\n"
        "    while True:\n"
        "        time.sleep(0.05)\n"
        "lindos.step(1)\n"
        "all_reduce()\n"
    )

    def run_script(self, prelude="", **env):
        env = {**os.environ, "PYTHONPATH": str(PACKAGE), **env}
        child = subprocess.Popen([sys.executable, "-c", prelude + self.SCRIPT], env=env)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def test_a_process_that_is_asked_writes_where_it_stands(self):
        reader = self.listen()
        child = self.run_script(LINDOS_STACKS="")
        self.assertEqual(json.loads(reader.recv(4096)), {"step": 1})
        told = json.loads(reader.recv(4096))["stacks"]
        self.assertEqual(told["pid"], child.pid)
        with open(f"/proc/{child.pid}/fd/{told['fd']}") as file:
            end = time.monotonic() + 10
            text = ""
            while "in all_reduce" not in text and time.monotonic() < end:
                os.kill(child.pid, signal.SIGURG)
                time.sleep(0.05)
                file.seek(0)
                text = file.read()
        self.assertIn("in all_reduce", text)
        self.assertIsNone(child.poll())

    def test_who_handles_the_signal_or_wants_none_of_it_is_not_asked(self):
        reader = self.listen()
        taken = "import signal; signal.signal(signal.SIGURG, lambda *_: None)\n"
        for prelude, setting in ((taken, ""), ("", "off")):
            self.run_script(prelude, LINDOS_STACKS=setting)
            self.assertEqual(json.loads(reader.recv(4096)), {"step": 1})
            reader.settimeout(0.5)
            with self.assertRaises(TimeoutError):
                reader.recv(4096)
            reader.settimeout(10)


class StandBy(Case):
    def wait_for_rank(self, script="import lindos, os\nlindos.stand_by()\nprint(os.environ['RANK'])"):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.settimeout(20)
        listener.bind(self.path("s0.sock"))
        listener.listen()
        env = {**os.environ, "PYTHONPATH": str(PACKAGE), "LINDOS_STANDBY": self.path("s0.sock")}
        process = subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        connection, _ = listener.accept()
        self.addCleanup(connection.close)
        return process, connection

    def test_who_has_its_rank_offers_to_wait_and_goes_on(self):
        reader = self.listen()
        self.assertFalse(lindos.stand_by())
        self.assertEqual(json.loads(reader.recv(4096)), {"stand_by": True})

    def test_outside_lindos_nobody_waits(self):
        self.assertFalse(lindos.stand_by())

    def test_who_waits_goes_on_with_its_rank(self):
        script = (
            "import lindos, os\nassert 'RANK' not in os.environ\nassert lindos.stand_by()\n"
            "assert 'LINDOS_STANDBY' not in os.environ\n"
            "print(os.environ['RANK'], os.environ['ODD'])"
        )
        process, connection = self.wait_for_rank(script)
        # In pieces, as a stream may bring it.
        for part in (b"RANK=3\nODD=a=b", b" c\x0bd\n", b"\n"):
            connection.sendall(part)
        self.assertEqual(process.stdout.read(), b"3 a=b c\x0bd\n")
        self.assertEqual(process.wait(20), 0)

    def test_who_is_not_wanted_any_more_ends_quietly(self):
        for said in (b"", b"RANK=3\n"):
            process, connection = self.wait_for_rank()
            connection.sendall(said)
            connection.close()
            self.assertEqual((process.stdout.read(), process.wait(20)), (b"", 0))
            os.unlink(self.path("s0.sock"))


class Checkpoints(Case):
    def test_what_was_saved_after_the_step_to_go_on_from_is_passed_over(self):
        self.write("step-10.pt", "step-20.pt", "step-30.pt")
        os.environ["LINDOS_CHECKPOINT_DIR"] = self.folder
        self.assertEqual(lindos.resume()[0], 30)
        for said, expected in (("20", 20), ("25", 20), ("0", 0), ("soon", 30)):
            os.environ["LINDOS_RESUME_STEP"] = said
            self.assertEqual(lindos.resume()[0], expected, said)
        os.environ["LINDOS_RESUME_STEP"] = "10"
        with tempfile.TemporaryDirectory() as other:
            pathlib.Path(other, "step-40.pt").write_text("x")
            self.assertEqual(lindos.resume(folder=other)[0], 40)

    def test_the_folder_is_made(self):
        self.assertIsNone(lindos.checkpoint_dir())
        self.assertEqual(lindos.checkpoint_dir(self.path("mine")), self.path("mine"))
        os.environ["LINDOS_CHECKPOINT_DIR"] = self.path("a/b")
        self.assertEqual(lindos.checkpoint_dir("mine"), self.path("a/b"))
        self.assertTrue(os.path.isdir(self.path("a/b")))

    def test_the_newest_is_by_number(self):
        os.environ["LINDOS_CHECKPOINT_DIR"] = self.folder
        self.assertEqual(lindos.resume(), (0, None))
        self.write("step-90.pt", "step-100.pt", "best.pt", "step-200.json")
        self.write("step-300.pt.partial", ".step-400.pt.x1y.partial")
        self.assertEqual(lindos.latest_checkpoint("*.pt"), self.path("step-100.pt"))
        self.assertEqual(lindos.resume("*.pt"), (100, self.path("step-100.pt")))
        self.assertEqual(lindos.latest_checkpoint(), self.path("step-200.json"))

    def test_a_folder_can_be_a_checkpoint_and_mp4_is_no_number(self):
        os.mkdir(self.path("step_7"))
        self.write("step_3.mp4")
        self.assertEqual(lindos.resume(folder=self.folder), (7, self.path("step_7")))

    def test_no_folder_is_no_checkpoint(self):
        os.environ["LINDOS_CHECKPOINT_DIR"] = self.path("missing")
        self.assertIsNone(lindos.latest_checkpoint())
        self.assertEqual(lindos.resume("*.pt"), (0, None))

    def test_a_saved_file_is_there_whole_and_alone(self):
        path = self.path("new/step-1.pt")
        with lindos.atomic_save(path) as partial:
            pathlib.Path(partial).write_text("whole")
            self.assertFalse(os.path.exists(path))
        self.assertEqual(pathlib.Path(path).read_text(), "whole")
        self.assertEqual(os.listdir(self.path("new")), ["step-1.pt"])

    def test_a_failed_save_leaves_the_old_file(self):
        self.write("step-1.pt")
        with self.assertRaises(RuntimeError):
            with lindos.atomic_save(self.path("step-1.pt")) as partial:
                pathlib.Path(partial).write_text("half")
                raise RuntimeError("out of memory")
        self.assertEqual(pathlib.Path(self.path("step-1.pt")).read_text(), "x")
        self.assertEqual(os.listdir(self.folder), ["step-1.pt"])

    def test_a_killed_save_leaves_the_old_file_and_no_new_checkpoint(self):
        self.write("step-1.pt")
        script = (
            "import lindos, os, signal\n"
            f"with lindos.atomic_save({self.path('step-2.pt')!r}) as partial:\n"
            "    open(partial, 'w').write('half')\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        env = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        subprocess.run([sys.executable, "-c", script], env=env, check=False)
        self.assertEqual(len(os.listdir(self.folder)), 2, "the half stays")
        latest = lindos.latest_checkpoint(folder=self.folder)
        self.assertEqual(latest, self.path("step-1.pt"))
        with lindos.atomic_save(self.path("step-2.pt")) as partial:
            pathlib.Path(partial).write_text("whole")
        self.assertEqual(sorted(os.listdir(self.folder)), ["step-1.pt", "step-2.pt"])

    def test_an_unwritable_folder_is_the_disks_error(self):
        self.write("file")
        with self.assertRaises(OSError):
            with lindos.atomic_save(self.path("file/step-1.pt")):
                self.fail("there is nothing to write to")


class Package(unittest.TestCase):
    def test_it_needs_nothing_but_the_standard_library(self):
        script = "import sys, lindos; print(sorted(m for m in sys.modules if 'numpy' in m))"
        env = {"PYTHONPATH": str(PACKAGE)}
        done = subprocess.run(
            [sys.executable, "-S", "-c", script], env=env, capture_output=True, text=True
        )
        self.assertEqual((done.stdout, done.stderr), ("[]\n", ""))


if __name__ == "__main__":
    unittest.main()
