from __future__ import annotations

import pytest

from MLTools.NanoML.errors import NanoMLError
from MLTools.NanoML.rootio.remote.server import Url, is_xrootd

pytestmark = pytest.mark.exhaustive("servers, and what they ask for")


@pytest.mark.parametrize(
    "text",
    [
        "root://cms-xrd-global.cern.ch//store/mc/a.root",
        "roots://eos.cern.ch:1095//eos/user/a.root",
        "xroot://[2001:db8::1]:1094//store/a.root?authz=x&tried=y",
        "root://server//",
    ],
)
def test_a_url_is_put_together_as_it_was(text: str) -> None:
    assert str(Url.parse(text)) == text
    assert is_xrootd(text)


def test_parts() -> None:
    url = Url.parse("root://a.cern.ch:1094//store/x/b.root?k=v")
    assert (url.scheme, url.host, url.path, url.query) == ("root", "a.cern.ch:1094", "/store/x/b.root", "k=v")
    assert (url.server, url.site) == ("root://a.cern.ch:1094", "a.cern.ch")
    assert str(url.beside("c")) == "root://a.cern.ch:1094//store/x/c?k=v"
    assert str(url.at("/d").asking("tried=e")) == "root://a.cern.ch:1094//d?k=v&tried=e"


@pytest.mark.parametrize("text", ["root://server", "root://server/", "root://server/store"])
def test_one_slash_is_as_good_as_two(text: str) -> None:
    assert str(Url.parse(text)).startswith("root://server//")


@pytest.mark.parametrize("text", ["/store/a.root", "https://server/a.root", "root:/a", "root://", "file:///a", ""])
def test_others_are_refused(text: str) -> None:
    assert not is_xrootd(text)
    with pytest.raises(NanoMLError, match=r"is not a URL of the form root://SERVER//PATH."):
        Url.parse(text)


def test_logical_names() -> None:
    for before in ("", "/eos/cms", "/store/test/xrootd/T2_CH_CERN"):
        assert Url("root", "server", f"{before}/store/mc/a.root").logical_name == "/store/mc/a.root"
    assert Url("root", "server", "/eos/user/s/a.root").logical_name is None


def test_a_mapped_address_is_the_same_site() -> None:
    assert Url("root", "[::127.0.0.1]:2345", "").site == "127.0.0.1:2345"
    assert Url("root", "[::ffff:10.0.0.1]:1094", "").site == "10.0.0.1"
    assert Url("root", "[2001:db8::1]:2345", "").site == "[2001:db8::1]:2345"
