"""The services as fixtures of pytest; see the package for what each offers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Optional

import pytest

from services.certificates import Certificates
from services.condor import CondorPool
from services.once import directory_of_all, made_once
from services.shifted import ShiftedSkims
from services.slurm import Slurm
from services.tokens import Tokens
from services.xrootd import Cluster, Storage, TokenServer, VomsServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "nano"


def example_files() -> dict[str, Path]:
    """The example's input files, by their names on the servers."""
    return {f"/store/{path.parent.name}/{path.name}": path for path in sorted(EXAMPLES.glob("*/*.root"))}


@contextmanager
def started(service: Any, end: Callable[[], None], files: Optional[Mapping[str, Path]] = None) -> Iterator[None]:
    """A service with these files, which ends with the block, also if it does not come up."""
    try:
        if files:
            service.seed(files)
        service.start()
        yield
    finally:
        end()


@pytest.fixture
def white_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and saved as always, but white, since to draw them takes longer than all else: for a test that looks at none."""
    from matplotlib.figure import Figure

    monkeypatch.setattr(Figure, "draw", lambda figure, renderer: None)


@pytest.fixture(scope="module")
def nothing_drawn() -> Iterator[None]:
    """Figures of a whole file of tests are white, those of its fixtures and of programs that it starts, too."""
    from matplotlib.figure import Figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "draw", lambda figure, renderer: None)
        patch.setenv("NANOML_TEST_WHITE_FIGURES", "1")  # see test/strict/sitecustomize.py
        yield


@pytest.fixture(scope="module")
def no_pdfs() -> Iterator[None]:
    """Figures are drawn once, as PNG, and PDF files are empty: for tests that look at pictures, or compare them."""
    from matplotlib.backends.backend_pdf import FigureCanvasPdf

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FigureCanvasPdf, "print_pdf", lambda canvas, file, **options: None)
        yield


@pytest.fixture(scope="module")
def compiled_once() -> Iterator[None]:
    """Likelihoods of one model share what jax has compiled for it, which takes data as an argument: most of the time goes into that."""
    import jax

    from statistical_analysis.likelihood import Likelihood
    from statistical_analysis.toys import batch

    known: dict[Any, Any] = {}

    def model(of: Likelihood) -> str:
        return json.dumps([of._workspace["channels"], of._workspace["measurements"][0]])

    def shared(name: str, compiled: Callable[[Likelihood], Any]) -> Callable[[Likelihood], Any]:
        def find(of: Likelihood) -> Any:
            if getattr(of, "distributions", None) is not None:  # of whose events they are
                return compiled(of)
            key = name, model(of)
            if key not in known:
                known[key] = compiled(of)
            return known[key]

        return find

    search = batch.ManyMaxima._all
    plain = search.__wrapped__  # type: ignore[attr-defined]

    def of_toys(many: batch.ManyMaxima, *given: Any) -> Any:
        if many.likelihood.distributions is not None:
            return search(many, *given)
        key = batch._MOST_STEPS, model(many.likelihood)
        if key not in known:
            known[key] = jax.jit(partial(plain, many))
        return known[key](*given)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("_expected", "_by_sample", "_slopes", "value_and_slope", "_many", "_columns"):
            made = cached_property(shared(name, vars(Likelihood)[name].func))
            made.__set_name__(Likelihood, name)
            patch.setattr(Likelihood, name, made)
        patch.setattr(batch.ManyMaxima, "_all", of_toys)
        yield


@pytest.fixture(scope="session")
def xrootd() -> Iterator[Cluster]:
    """A redirector and two data servers with the example's files; only to read from."""
    cluster = Cluster()
    with started(cluster, cluster.close, example_files()):
        yield cluster


@pytest.fixture
def xrootd_cluster() -> Iterator[Callable[..., Cluster]]:
    """Starts a redirector and two data servers for this test alone."""
    clusters = []

    def start(files: Mapping[str, Path], own: Mapping[int, Mapping[str, Path]] | None = None, size: int = 2) -> Cluster:
        cluster = Cluster(size)
        clusters.append(cluster)
        cluster.seed(files, tuple(range(size)))
        for number, of_one in (own or {}).items():
            cluster.seed(of_one, (number,))
        cluster.start()
        return cluster

    try:
        yield start
    finally:
        for cluster in clusters:
            cluster.close()


@pytest.fixture(scope="session")
def shifted_skims(tmp_path_factory: pytest.TempPathFactory) -> ShiftedSkims:
    """Skims by a selection with shifts, and by the same one without; only to read from."""
    pytest.importorskip("data_processing.skim.skim")
    skims = ShiftedSkims.of(directory_of_all(tmp_path_factory, "shifted"))
    made_once(skims.directory, lambda _: skims.make())
    return skims


@pytest.fixture(scope="session")
def storage() -> Iterator[Storage]:
    server = Storage()
    with started(server, server.close):
        yield server


@pytest.fixture(scope="session")
def condor_pool() -> Iterator[CondorPool]:
    """An HTCondor pool. Remove the jobs that a test leaves."""
    pool = CondorPool()
    with started(pool, pool.stop):
        yield pool


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A Slurm cluster. Cancel the jobs that a test leaves."""
    cluster = Slurm()
    with started(cluster, cluster.stop):
        yield cluster


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certification authority, and proxies as many as a test wants."""
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def xrootd_voms(certificates: Certificates) -> Iterator[VomsServer]:
    """A server with the example's files that demands a proxy of cms."""
    server = VomsServer(certificates)
    with started(server, server.close, example_files()):
        yield server


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Tokens:
    return Tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="session")
def xrootd_tokens(certificates: Certificates, tokens: Tokens) -> Iterator[TokenServer]:
    """A server with the example's files that demands a token."""
    server = TokenServer(certificates, tokens)
    with started(server, server.close, example_files()):
        yield server
