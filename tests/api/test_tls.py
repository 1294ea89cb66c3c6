"""TLS by uvicorn's options, with certificates that the test makes."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import httpx2 as httpx
import pytest

from app.api.server import Server
from app.settings import Settings, Tls
from tests.api.conftest import LiveServer
from tests.api.fake_fleet import FakeFleet

PASSWORD = "opens-the-key"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    """For 127.0.0.1, signed by itself; the key is encrypted."""
    folder = tmp_path_factory.mktemp("tls")
    found = Tls(certfile=folder / "cert.pem", keyfile=folder / "key.pem", keyfile_password=PASSWORD)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-passout", f"pass:{PASSWORD}"]
    command += ["-keyout", str(found.keyfile), "-out", str(found.certfile)]
    subprocess.run(command, check=True, capture_output=True)
    return found


def test_answers_come_over_tls(tls: Tls) -> None:
    """To who trusts the certificate; a server that speaks TLS answers nobody in the clear."""
    with LiveServer(Settings(tls=tls)) as server:
        assert server.url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(tls.certfile))
        with httpx.Client(base_url=server.url, verify=trusting) as client:
            assert client.post("/v1/fill-mask", json={"inputs": "a [MASK]"}).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{server.url}/livez")
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url.replace('https', 'http')}/livez")


def test_clients_may_have_to_show_a_certificate(tls: Tls) -> None:
    """Of one whom `--ssl-ca-certs` names: here the server's own."""
    mutual = Tls(certfile=tls.certfile, keyfile=tls.keyfile, keyfile_password=PASSWORD, ca_certs=tls.certfile)
    with LiveServer(Settings(tls=mutual)) as server:
        trusting = ssl.create_default_context(cafile=str(tls.certfile))
        with pytest.raises(httpx.TransportError), httpx.Client(base_url=server.url, verify=trusting) as client:
            client.get("/livez")
        trusting.load_cert_chain(tls.certfile, tls.keyfile, PASSWORD)
        with httpx.Client(base_url=server.url, verify=trusting) as client:
            assert client.get("/livez").status_code == 200


def test_files_that_cannot_be_used_are_told(tls: Tls, tmp_path: Path) -> None:
    """Before the server starts."""
    for wrong in (
        Tls(certfile=tmp_path / "none.pem"),
        Tls(certfile=tls.certfile, keyfile=tls.keyfile, keyfile_password="wrong"),
    ):
        with pytest.raises(OSError):
            Server(lambda *_: None, FakeFleet(), drain_s=1, announce=lambda: None, tls=wrong)  # type: ignore[arg-type]


def test_password_is_not_shown(tls: Tls) -> None:
    """Whatever prints the settings."""
    assert PASSWORD not in repr(Settings(tls=tls))
