"""What is learnt of datasets, from whom ever, and what happens when nobody answers as they should."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from data_processing.datasets import catalogue, sources
from data_processing.datasets.catalogue import Catalogue, UnavailableError
from data_processing.datasets.files import GLOBAL, USERS, is_dataset_name
from data_processing.datasets.sources import file_of
from MLTools.NanoML.errors import NanoMLError
from services.catalogue import GONE, HALF, MINE, STORE, WZ, ZZ, CatalogueServer, Content, contents, install_dasgoclient
from services.certificates import Certificates

pytestmark = pytest.mark.service

PATTERN = "/WZTo*/*NanoAODv9*/NANOAODSIM"


def test_datasets_by_name_and_by_pattern(asked: CatalogueServer) -> None:
    found = Catalogue().datasets(PATTERN, GLOBAL)
    assert [(entry.name, entry.status) for entry in found] == [(ZZ, "VALID"), (WZ, "VALID"), (HALF, "PRODUCTION")]
    assert [entry.name for entry in Catalogue().datasets(WZ, GLOBAL)] == [WZ]
    assert [entry.name for entry in Catalogue().datasets(MINE, USERS)] == [MINE]


def test_files(asked: CatalogueServer) -> None:
    found = Catalogue().files(WZ, GLOBAL)
    assert [file.name for file in found.files] == [f"{STORE}/{number:04d}.root" for number in range(12) if number != 3]
    assert found.invalid == 1
    last = found.files[-1]
    assert (last.events, last.size, last.adler32) == (1100, 1_100_001, "0000000b")
    assert last.block == f"{WZ}#1"
    assert catalogue.now() - found.date < timedelta(minutes=1)
    assert [file.name for file in Catalogue().files(MINE, USERS).files] == ["/store/user/me/0.root"]
    if found.source == "DBS":
        assert found.sites is None
    else:
        assert found.sites is not None
        assert [(site.name, site.kind, round(site.share), site.has_all) for site in found.sites] == [
            ("T0_CH_CERN_Tape", "TAPE", 100, False),
            ("T1_US_FNAL_Disk", "DISK", 33, False),
            ("T2_DE_DESY", "DISK", 100, True),
        ]


def test_what_there_is_not(asked: CatalogueServer) -> None:
    for name, message in (
        (WZ.replace("pythia8", "pythia9"), f"is not in the catalogue (prod/global). Did you mean {WZ}?"),
        (WZ.replace("v1/", "v2/"), f"Did you mean {WZ}?"),
        ("/Nothing_x/Run-v1/NANOAOD", "Look for it with wildcards: nanoml datasets '/Noth*/*/NANOAOD'"),
        ("/Nothing*/Run-v1/NANOAOD", "Look for it with wildcards: nanoml datasets '/Noth*/*/NANOAOD'"),
    ):
        with pytest.raises(NanoMLError, match=re.escape(message)) as raised:
            Catalogue().datasets(name, GLOBAL)
        assert str(raised.value).startswith(f"{name}: is not in the catalogue")
    assert not isinstance(raised.value, UnavailableError)


def test_datasets_that_must_not_be_used(asked: CatalogueServer) -> None:
    with pytest.raises(NanoMLError, match=r"is PRODUCTION in the catalogue: .*\"status: \[VALID, PRODUCTION\]\""):
        Catalogue().files(HALF, GLOBAL)
    assert len(Catalogue().files(HALF, GLOBAL, ("VALID", "PRODUCTION")).files) == 1
    with pytest.raises(NanoMLError, match="is DELETED in the catalogue: it has no files any more"):
        Catalogue().files(GONE, GLOBAL)


def test_no_file_is_an_error(asked: CatalogueServer) -> None:
    asked.datasets[ZZ] = Content({})
    with pytest.raises(NanoMLError, match=r"no files of it that can be used [(]it is empty[)]"):
        Catalogue().files(ZZ, GLOBAL)
    asked.datasets[ZZ] = Content({"/store/mc/ZZ/0.root": 1}, invalid=["/store/mc/ZZ/0.root"])
    with pytest.raises(NanoMLError, match=r"no files of it that can be used [(]all 1 are invalid[)]"):
        Catalogue().files(ZZ, GLOBAL)
    asked.datasets[ZZ] = Content({"/store/mc/ZZ/0.root": 1})
    assert len(Catalogue(refresh=True).files(ZZ, GLOBAL).files) == 1


@pytest.mark.parametrize("fault", [503, 500, 429, "cut", "text", "half"])
def test_what_passes_is_asked_again(fault: Any, dbs: CatalogueServer) -> None:
    dbs.faults = [fault, fault, None, fault]
    assert len(Catalogue().files(WZ, GLOBAL).files) == 11
    dbs.faults = [fault] * 3
    with pytest.raises(UnavailableError, match=f"{ZZ}: the catalogue does not answer: "):
        Catalogue().files(ZZ, GLOBAL)
    assert dbs.faults == []


def test_a_list_that_was_cut_off_is_no_list(dbs: CatalogueServer) -> None:
    dbs.faults = [None, "short"]
    assert len(Catalogue().files(WZ, GLOBAL).files) == 11
    dbs.faults = [None, *["short", None] * 3]
    with pytest.raises(UnavailableError, match="the answer has 1 valid files, but there are 2"):
        Catalogue().files(ZZ, GLOBAL)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (400, "the catalogue refuses the query: database is away [(]HTTP 400[)]"),
        (403, "DBS does not accept the proxy [(]HTTP 403[)]: nanoml proxy info"),
    ],
)
def test_what_does_not_pass_is_told_at_once(fault: int, message: str, dbs: CatalogueServer) -> None:
    dbs.faults = [fault, None]
    with pytest.raises(NanoMLError, match=message):
        Catalogue().files(WZ, GLOBAL)
    assert dbs.faults == [None]


def test_a_server_that_hangs_is_given_up(dbs: CatalogueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_processing.datasets.sources.TIMEOUT", 0.3)
    dbs.faults = ["hang"] * 3
    with pytest.raises(UnavailableError, match=r"localhost:\d+: cannot be reached [(].*timed out[)]"):
        Catalogue().files(WZ, GLOBAL)


def test_after_one_failure_nobody_waits_for_the_next(dbs: CatalogueServer) -> None:
    asked = Catalogue()
    dbs.faults = [503] * 3
    for name in (WZ, ZZ):
        with pytest.raises(UnavailableError, match="database is away"):
            asked.files(name, GLOBAL)
    assert len(dbs.asked) == 3


@pytest.mark.parametrize("fault", [500, 400, "cut", "text"])
def test_failures_behind_das(fault: Any, das: CatalogueServer) -> None:
    das.faults = [fault] * 20
    kind = NanoMLError if fault == 400 else UnavailableError
    with pytest.raises(kind, match="a service behind DAS|refuses the query: database is away"):
        Catalogue().files(WZ, GLOBAL)


def test_an_outage_that_das_calls_a_success(asked: CatalogueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked.stop()
    monkeypatch.setattr(catalogue, "WAITS", ())
    for name in (WZ, PATTERN):  # which dasgoclient gives as the name of a dataset
        with pytest.raises(UnavailableError, match="a service behind DAS does not answer|cannot be reached"):
            Catalogue().datasets(name, GLOBAL)


def test_no_proxy(das: CatalogueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path(f"/tmp/x509up_u{os.getuid()}").exists():
        pytest.skip("there is a proxy in /tmp")
    monkeypatch.delenv("X509_USER_PROXY")
    with pytest.raises(UnavailableError, match=r"does not answer: there is no grid proxy.*nanoml proxy init"):
        Catalogue().datasets(WZ, GLOBAL)
    assert das.asked == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'Validation error: unmatched dataset pattern'; exit 18", "exit code 18 [(]Validation error"),
        ("exit 0", "exit code 0 [(]without a message[)]"),
        ("echo '['; exit 0", "the answer of dasgoclient ends early"),
        ("""echo '[{"code": 16, "error": "no APIs found", "type": "DAS query error"}]'; exit 16""", "no APIs found"),
        ("echo '[]'; echo killed >&2; exit 137", "exit code 137 [(]killed[)]"),
        ("""echo '[{"dataset": [{"name": "/a/b/USER", "nfiles": 3}]}]'""", "no status of the dataset"),
        ("""echo '[{"dataset": [{"name": null, "dataset_access_type": "VALID"}]}]'""", "a dataset without a name"),
        ("sleep 30", "did not end in 0 s"),
    ],
)
def test_other_answers_of_dasgoclient(
    script: str, message: str, das: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "PATIENCE", 0.4 if "sleep" in script else 60)
    (tmp_path / "bin" / "dasgoclient").write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
    with pytest.raises(NanoMLError, match=message):
        Catalogue().datasets(WZ, GLOBAL)


def test_odd_names_reach_nobody(asked: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("/A/B/USER; touch gone", "/$(touch gone)/B/USER", "/A/B/`x`", "-json", "/A/B/USER\n", ""):
        assert not is_dataset_name(name)
        for ask in (Catalogue().datasets, Catalogue().files):
            with pytest.raises(NanoMLError, match="expected a name of the catalogue"):
                ask(name, GLOBAL)
    assert asked.asked == []
    assert not (tmp_path / "gone").exists()


def test_files_with_odd_names_are_no_answer(dbs: CatalogueServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("/store/a;b.root", "/etc/passwd", "", "/store/a b.root"):
        dbs.datasets[ZZ] = Content({name: 1})
        with pytest.raises(UnavailableError, match="a file without a proper name"):
            Catalogue().files(ZZ, GLOBAL)
    file = file_of("/store/a.root", 1.2e6, -1, "1A2b", None, None)
    assert (file.events, file.size, file.adler32, file.valid, file.block) == (1_200_000, None, "00001a2b", True, "")
    assert file_of("/store/a.root", "x", None, "NOTSET", 0, "b").adler32 is None


def kept(cached: Path) -> list[Path]:
    return sorted((cached / "cache" / "nanoml" / "das").iterdir())


def test_answers_are_remembered_for_a_day(
    dbs: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Catalogue().files(WZ, GLOBAL)
    asked = len(dbs.asked)
    assert len(kept(tmp_path)) == 2
    dbs.datasets[WZ].files["/store/mc/new.root"] = 1
    assert Catalogue().files(WZ, GLOBAL) == before
    assert len(dbs.asked) == asked
    assert len(Catalogue(refresh=True).files(WZ, GLOBAL).files) == 12
    assert len(Catalogue().files(WZ, GLOBAL).files) == 12
    dbs.datasets[WZ].files["/store/mc/newer.root"] = 1
    real_now = catalogue.now
    for days in (2, -1):  # tomorrow, and after a clock was set back
        monkeypatch.setattr(catalogue, "now", lambda days=days: real_now() + timedelta(days=days))
        assert len(Catalogue().files(WZ, GLOBAL).files) == 13
        for path in kept(tmp_path):  # as they were asked for at first
            content = json.loads(path.read_text())
            path.write_text(json.dumps({**content, "date": real_now().isoformat()}))
    dbs.stop()
    capsys.readouterr()
    monkeypatch.setattr(catalogue, "now", lambda: real_now() + timedelta(days=3))
    assert len(Catalogue().files(WZ, GLOBAL).files) == 13
    told = capsys.readouterr().err
    assert f"{WZ}: taking what the catalogue said on {real_now():%Y-%m-%d}: now localhost:" in told
    assert told.count("\n") == 1
    with pytest.raises(UnavailableError, match="cannot be reached"):
        Catalogue(refresh=True).files(WZ, GLOBAL)


def test_damaged_memories_are_forgotten(dbs: CatalogueServer, tmp_path: Path) -> None:
    before = Catalogue().files(WZ, GLOBAL)
    for damage in ("", "{", "[]", '{"schema": 1}', "null"):
        for path in kept(tmp_path):
            path.write_text(damage)
        assert Catalogue().files(WZ, GLOBAL).files == before.files
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "cache").write_text("a file where the directory should be")
    assert Catalogue().files(WZ, GLOBAL).files == before.files


QUESTIONS = [
    f"file dataset={WZ} status=*",
    f"dataset dataset={WZ} status=*",
    f"dataset dataset={PATTERN} status=*",
    f"site dataset={WZ}",
    f"file dataset={MINE} status=* instance=prod/phys03",
    "dataset dataset=/No/Thing-v1/NANOAODSIM status=*",
]


@pytest.mark.parametrize("state", ["well", 400, 500, "down"])
def test_the_stand_in_says_what_dasgoclient_says(state: Any, server: CatalogueServer, tmp_path: Path) -> None:
    real = shutil.which("dasgoclient")
    if real is None:
        pytest.skip("dasgoclient is not installed")
    paths = {"stand-in": None, "itself": real}
    programs = [install_dasgoclient(tmp_path / name, server.url, path) for name, path in paths.items()]
    if state == "down":
        server.stop()

    def without_times(value: Any) -> Any:
        if isinstance(value, list):
            return sorted((without_times(item) for item in value), key=json.dumps)
        if not isinstance(value, dict):
            return value
        drop = ("expire", "qhash", "ts", "query", *(["name"] if value.get("name", "") is None else []))
        return {key: without_times(item) for key, item in sorted(value.items()) if key not in drop}

    def ask(program: Path, question: str) -> tuple[int, Any]:
        server.faults = [state] * 20 if isinstance(state, int) else []
        line, environment = [program, "-query", question, "-json"], {**os.environ, "X509_USER_PROXY": "whatever"}
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, without_times(json.JSONDecoder().raw_decode(done.stdout)[0])

    for question in QUESTIONS[: 3 if state == "down" else None]:
        if state != "well" and question.startswith("site"):
            continue  # what it says then is not looked at
        stand_in, itself = (ask(program, question) for program in programs)
        assert stand_in == itself, question


@pytest.fixture
def secure(certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CatalogueServer]:
    """A server that wants to know who asks, and a valid proxy."""
    made = CatalogueServer(certificates.directory)
    made.datasets = contents()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NANOML_DBS", made.url)
    for name, value in certificates.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("X509_USER_PROXY", str(certificates.proxy()))
    monkeypatch.setattr(catalogue, "WAITS", ())
    yield made
    made.stop()


def refused(message: str) -> None:
    with pytest.raises(UnavailableError, match=message):
        Catalogue(refresh=True).files(WZ, GLOBAL)


def test_the_proxy_tells_who_asks(secure: CatalogueServer, certificates: Certificates) -> None:
    assert len(Catalogue().files(WZ, GLOBAL).files) == 11
    said = {each[0][1] for person in secure.people for each in person["subject"] if each[0][0] == "commonName"}
    assert "user" in said


def test_proxies_that_cannot_be_used(
    secure: CatalogueServer, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for proxy, message in (
        (certificates.proxy(hours=-1), "the proxy expired 1 h ago. Fix it: nanoml proxy init"),
        (certificates.proxy(vo=None), "the proxy is for no VO, but cms is needed"),
        (tmp_path / "nowhere", "the proxy cannot be read: no such file or directory"),
    ):
        monkeypatch.setenv("X509_USER_PROXY", str(proxy))
        refused(message)
    broken = tmp_path / "broken"
    good = certificates.proxy().read_text()
    broken.write_text(good.replace("-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN RSA PRIVATE KEY-----\nAAAA"))
    broken.chmod(0o600)
    monkeypatch.setenv("X509_USER_PROXY", str(broken))
    refused("broken: the proxy cannot be used")
    assert secure.asked == []


def test_a_server_that_nobody_vouches_for(
    secure: CatalogueServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X509_CERT_DIR", str(tmp_path))
    refused(rf"localhost:\d+: cannot be trusted .*X509_CERT_DIR must name .*; now it is {tmp_path}")
    assert secure.asked == []


def test_without_a_network_what_is_known_is_taken(
    secure: CatalogueServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Catalogue().files(WZ, GLOBAL)
    for path in (tmp_path / "cache" / "nanoml" / "das").iterdir():
        path.write_text(path.read_text().replace(f'"date": "{found.date:%Y}', '"date": "2020'))
    monkeypatch.setenv("X509_USER_PROXY", str(tmp_path / "nowhere"))
    assert Catalogue().files(WZ, GLOBAL).files == found.files
    assert "taking what the catalogue said on 2020-" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "cache")
    refused("the proxy cannot be read")
