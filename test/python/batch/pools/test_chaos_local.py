"""Jobs in the background of this machine whose processes are killed."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from services.analysis import DATASETS, Analysis
from services.daemons import descendants, wait_for

pytestmark = [pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")]


@pytest.mark.exhaustive("each process of a submission, killed")
def test_the_driver_is_killed_and_its_jobs_go_on(tmp_path: Path, reference: Analysis) -> None:
    analysis = Analysis(tmp_path / "analysis", {}, "local", names=DATASETS[:1], batch={"at_once": 1})
    analysis.closed.touch()
    analysis.submit()
    analysis.wait_for("skim-0000", "running")
    driver = json.loads((analysis.submissions()[-1] / "driver.json").read_text())["process"]
    os.kill(driver, signal.SIGKILL)
    time.sleep(0.1)
    assert analysis.states() == {"skim-0000": "running", "skim-0001": "waiting"}
    with pytest.raises(AssertionError, match="are active here"):
        analysis.submit()

    analysis.closed.unlink()
    analysis.wait()
    assert sum(analysis.done().values()) == 2
    assert "skim: 1 task in 1 job" in analysis.resubmit()
    assert "Everything is done." in analysis.wait()
    analysis.check(reference)


@pytest.mark.exhaustive("each process of a submission, killed")
def test_submission_is_killed_at_any_moment(tmp_path: Path) -> None:
    analysis = Analysis(tmp_path, {}, "local", names=DATASETS[:1], batch={"files_per_job": 3})
    begun = analysis.begin("submit", "skim", "analysis.yaml", "--on", "local")
    time.sleep(0.6)
    begun.kill()
    begun.communicate(timeout=300)
    said = analysis.nanoml("submit", "skim", "analysis.yaml", "--on", "local", check=False)
    assert "Their progress" in said or "are active here" in said or "up to date" in said
    assert "Everything is done." in analysis.wait()
    assert set(analysis.done().values()) == {1}
    assert [path for path in tmp_path.rglob("*") if ".part-" in path.name] == []


def test_a_job_is_killed_and_tried_again_by_itself(tmp_path: Path) -> None:
    analysis = Analysis(tmp_path, {}, "local", names=DATASETS[:1], batch={"retries": 1, "at_once": 1})
    analysis.closed.touch()
    analysis.submit()
    analysis.wait_for("skim-0000", "running")
    driver = json.loads((analysis.submissions()[-1] / "driver.json").read_text())["process"]
    wait_for(lambda: bool(descendants(driver)), "a job")
    for process in descendants(driver):
        os.kill(process, signal.SIGKILL)
    analysis.closed.unlink()
    assert "Everything is done." in analysis.wait()
    assert set(analysis.done().values()) == {1}
