"""Which names and origins are the page's own."""

import socket

import pytest

from binseg.demo.hosts import AnsweredNames

LOOPBACK = ["localhost", "localhost:7860", "LocalHost:80", "localhost.", "localhost.:7860",
            "127.0.0.1", "127.0.0.1:9", "127.9.8.7", "[::1]", "[::1]:7860", "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]:7860"]  # fmt: skip
FOREIGN = ["evil.example", "evil.example:7860", "localhost.evil.example", "127.0.0.1.evil.example",
           "evil.localhost.example", "demo.local"]  # fmt: skip
NO_HOSTS = ["", " ", ":7860", ".", "..", "localhost..", "localhost:port", "localhost:123456",
            "localhost@evil.example", "localhost/", "localhost evil.example", "http://localhost",
            "[::1", "::1", "[::1]evil", "[::1%eth0]", "[localhost]", "127.1", "0x7f000001",
            "2130706433", "127.0.0.1\n", "lo\u00adcalhost", "ｌocalhost", "a" * 300]  # fmt: skip
ADDRESSES = ["192.168.1.5:7860", "10.0.0.1", "8.8.8.8", "[fe80::1]:7860", "0.0.0.0", "[::]"]


@pytest.mark.parametrize("at", ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.2"])
def test_at_a_loopback_address_only_loopback_names(at):
    names = AnsweredNames(at)
    for host in LOOPBACK:
        assert names.answers(host), host
    for host in [*FOREIGN, *NO_HOSTS, *ADDRESSES, f"{socket.gethostname()}.example"]:
        assert not names.answers(host), host


@pytest.mark.parametrize("at", ["0.0.0.0", "::", "192.168.1.5", "box.example"])
def test_at_other_addresses_also_addresses_and_the_machines_name(at, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "Box.example")
    names = AnsweredNames(at)
    for host in [*LOOPBACK, *ADDRESSES, "box.example:80", "box.local"]:
        assert names.answers(host), host
    for host in [*FOREIGN, *NO_HOSTS, "box.example.evil", "evil.box.example"]:
        assert not names.answers(host), host


def test_names_that_are_given():
    names = AnsweredNames("127.0.0.1", ["Demo.example.org", "other.example:8443"])
    for host in ("demo.example.org", "DEMO.example.org:443", "other.example", "localhost"):
        assert names.answers(host)
    assert not names.answers("example.org")
    names.add("abc.gradio.example")
    assert names.answers("abc.gradio.example")


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:7860", "127.0.0.1:7860"),
        ("http://LOCALHOST:7860", "localhost:7860"),
        ("http://[::1]:7860", "[::1]:7860"),
        ("http://localhost", "localhost:80"),
        ("http://localhost:80", "localhost"),
        # a proxy ends TLS
        ("https://box.example", "box.example"),
        ("https://box.example:443", "box.example"),
        # a proxy gives itself another name
        ("https://demo.example.org", "127.0.0.1:7860"),
        ("https://demo.example.org:8443", "demo.example.org"),
    ],
)
def test_own_origins(origin, host):
    assert AnsweredNames("0.0.0.0", ["demo.example.org"]).is_own(origin, host)


@pytest.mark.parametrize(
    "origin",
    ["null", "", "https://evil.example", "http://evil.example:7860", "http://localhost:3000",
     "http://127.0.0.1:7860", "http://localhost", "http://localhost:7860.evil.example",
     "http://localhost:7860@evil.example", "http://localhost:7860/", "file://", "localhost:7860",
     "ftp://localhost:7860", "http://localhost:7860 http://evil.example",
     "chrome-extension://abcdef"],
)  # fmt: skip
def test_foreign_origins(origin):
    assert not AnsweredNames("127.0.0.1").is_own(origin, "localhost:7860")
