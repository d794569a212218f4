"""Workers that sample, each with its own engine, managed by Ray on this machine or in a cluster.

    with Crew(8, "auto") as crew:
        crew.sample(spec, requests, settings)  # in the next free worker; call from several threads

Ray is an extra and is imported when a crew is made. A worker that dies, alone or with its machine,
is restarted and repeats its task. Responses depend only on the requests, so the result is the same.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from decaylab.errors import UserError
from decaylab.rollouts.batches import Counted
from decaylab.rollouts.engine_spec import EngineSpec
from decaylab.rollouts.sampling import Engine, OnProgress, Request, Response, SamplingSettings

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # a worker without its own GPU keeps its environment variables
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
DEATHS = 3
"""How often a worker is restarted and a task repeated before the run fails."""
CONNECT_SECONDS = 5.0
POLL_SECONDS = 0.5
RETURN_SECONDS = 120.0


@dataclass(frozen=True)
class Placement:
    """Resources of each worker. device: of its policies. gpus: number. threads: of torch."""

    device: str
    gpus: int
    threads: int


class Interrupted(Exception):
    """The crew was stopped during a task."""


class Crew:
    """A number of workers. `placement` gives the resources of each.

    Raises:
        UserError: Ray is missing, no cluster is at the address, or there are too few GPUs or cores.
    """

    def __init__(
        self, count: int, address: str | None, *, device: str = "auto", gpus_each: int = 1
    ) -> None:
        self._ray = _connected(count, address)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self.count = count
        try:
            resources = self._ray.cluster_resources()
            self.placement = _placement(resources, count, address, device, gpus_each)
            actor = self._ray.remote(
                num_cpus=1,
                num_gpus=self.placement.gpus,
                max_restarts=DEATHS,
                max_task_retries=DEATHS,
                max_concurrency=2,
            )(Worker)
            self._workers = [actor.remote(self.placement.threads) for _ in range(count)]
            for worker in self._workers:
                self._free.put(worker)
        except BaseException:
            self._ray.shutdown()
            raise

    def sample(
        self,
        spec: EngineSpec,
        requests: Sequence[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None = None,
    ) -> tuple[list[Response], tuple[str, ...]]:
        """The engine's responses and warnings, from the next free worker.

        Raises:
            UserError: the engine refuses the requests, or a worker died repeatedly.
        """
        worker = self._free.get()
        try:
            if self._stopped.is_set():
                raise Interrupted
            return self._sampled(worker, spec, list(requests), settings, on_progress)
        finally:
            self._free.put(worker)

    def stop(self) -> None:
        """Ends every running `sample`, in all threads."""
        self._stopped.set()

    def close(self) -> None:
        """Stops running tasks and ends the workers.

        Waits until all threads have left Ray, since a later call would restart it.
        """
        self.stop()
        for _ in self._workers:
            self._free.get()
        with _muted():  # Ray logs tasks whose callers are gone
            self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *stopped: object) -> None:
        self.close()

    def _sampled(
        self,
        worker: Any,
        spec: EngineSpec,
        requests: list[Request],
        settings: SamplingSettings,
        on_progress: OnProgress | None,
    ) -> tuple[list[Response], tuple[str, ...]]:
        errors, progress = self._ray.exceptions, Counted(on_progress)
        for _ in range(DEATHS + 1):
            try:
                task = worker.sample.remote(spec, requests, settings)
                responses, warned = self._waited_for(worker, task, progress)
            except errors.RayTaskError as error:
                if isinstance(error.cause, UserError):
                    raise UserError(str(error.cause)) from error
                raise
            except (errors.ActorUnavailableError, errors.ObjectLostError):
                # The machine is lost; Ray looks for another.
                self._wait_until_there(worker)
            except errors.RayError as error:
                raise _given_up(spec, error) from error
            else:
                progress.catch_up(sum(len(response.ids) for response in responses), len(responses))
                return responses, warned
        raise _given_up(spec, RuntimeError("several machines were lost"))

    def _waited_for(self, worker: Any, task: Any, progress: Counted) -> Any:
        """Waits for the result of a task, forwarding its progress."""
        while not self._ray.wait([task], timeout=POLL_SECONDS)[0]:
            if self._stopped.is_set():
                raise Interrupted
            progress.catch_up(*(self._progress_of(worker) or (0, 0)))
        return self._ray.get(task)

    def _wait_until_there(self, worker: Any) -> None:
        """Waits for a worker to answer, `RETURN_SECONDS` at most."""
        end = time.monotonic() + RETURN_SECONDS
        while time.monotonic() < end and not self._stopped.is_set():
            if self._progress_of(worker):
                return
            time.sleep(POLL_SECONDS)

    def _progress_of(self, worker: Any) -> tuple[int, int] | None:
        """Tokens and sequences written by the worker so far; None while it is restarting."""
        try:
            tokens, finished = self._ray.get(worker.progress.remote(), timeout=POLL_SECONDS)
        except self._ray.exceptions.RayError:
            return None
        return int(tokens), int(finished)


class Worker:
    """The code of a worker process: one call of `sample` at a time, with concurrent `progress`."""

    def __init__(self, threads: int) -> None:
        import torch
        from transformers.utils import logging

        hushed: Any = logging
        hushed.set_verbosity_error()
        hushed.disable_progress_bar()
        warnings.filterwarnings("ignore", category=FutureWarning)
        torch.set_num_threads(threads)
        self._engines: dict[EngineSpec, Engine] = {}
        self._written = Counted(None)

    def sample(
        self, spec: EngineSpec, requests: list[Request], settings: SamplingSettings
    ) -> tuple[list[Response], tuple[str, ...]]:
        self._written, warned = Counted(None), list[str]()
        engine = self._engine(spec, warned)
        return engine.sample(requests, settings, self._written.add), tuple(warned)

    def progress(self) -> tuple[int, int]:
        return self._written.tokens, self._written.finished

    def _engine(self, spec: EngineSpec, warned: list[str]) -> Engine:
        if spec not in self._engines:
            for other in list(self._engines):
                if "vllm" in (spec.kind, other.kind):  # vLLM needs the GPU for itself
                    closing: Any = self._engines.pop(other)
                    closing.close()
            self._engines[spec] = spec.make(warned.append)
        return self._engines[spec]


def _given_up(spec: EngineSpec, error: Exception) -> UserError:
    return UserError(
        f"a worker sampling from {spec.policy}, or its machine, died {DEATHS + 1} times "
        f"({_first_line(error)}); lower --workers or --batch-rows to use less memory"
    )


def _connected(count: int, address: str | None) -> Any:
    """Ray, connected to the cluster at the address, or started on this machine."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            f'--workers and --ray need Ray ({error}): pip install "decaylab[ray]"'
        ) from error
    # Ray would print a message about a token.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "configure_logging": False,
    }
    if address is None:
        ray.init(address="local", num_cpus=max(_cores(), count), include_dashboard=False, **quiet)
        return ray
    _require_answer(_address_of_auto() if address == "auto" else address)
    try:
        with _muted():  # Ray reports each of its attempts
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--ray {address}: cannot join the cluster ({_first_line(error)})"
        ) from error
    return ray


@contextmanager
def _muted() -> Iterator[None]:
    """Silences standard error, including Ray's own threads, which bypass Python."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _address_of_auto() -> str:
    """The address of this machine's cluster, from the environment or Ray's file.

    Raises:
        UserError: this machine is in no cluster.
    """
    file = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray" / "ray_current_cluster"
    address = os.environ.get("RAY_ADDRESS")
    if not address and file.exists():
        address = file.read_text().strip()
    if not address:
        raise UserError(
            "--ray auto: this machine is in no Ray cluster; start one with ray start --head"
        )
    return address


def _require_answer(address: str) -> None:
    """Raises UserError if nothing listens at HOST:PORT. Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(f"--ray must be auto or HOST:PORT, got {address}")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--ray {address}: no Ray cluster answers there ({_first_line(error)}); start one with "
            "ray start --head"
        ) from error


def _placement(
    there: dict[str, float], count: int, address: str | None, device: str, gpus_each: int
) -> Placement:
    """The resources of each worker in a cluster.

    Raises:
        UserError: too few GPUs or cores.
    """
    gpus, cores = int(there.get("GPU", 0)), int(there.get("CPU", 0))
    where = "on this machine" if address is None else f"in the cluster {address}"
    if count > cores:
        raise UserError(
            f"--workers {count} needs one core per worker, but {where} there are only {cores}"
        )
    threads = _threads(count, cores)
    if not device.startswith("cuda") and (device != "auto" or not gpus):
        return Placement("cpu" if device == "auto" else device, 0, threads)
    if count * gpus_each > gpus:
        each = "" if gpus_each == 1 else f" of {gpus_each} GPUs (--tensor-parallel)"
        raise UserError(
            f"--workers {count}{each} needs {count * gpus_each} GPUs, but {where} there are only "
            f"{gpus}"
        )
    return Placement("cuda", gpus_each, threads)


def _threads(count: int, cores: int) -> int:
    """Torch threads per worker: as set in the environment, or a share of the cores."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isdecimal() and int(setting):
        return int(setting)
    return max(1, cores // count)


def _cores() -> int:
    """Cores that this process may use; all cores of the machine if there is no limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
