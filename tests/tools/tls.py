"""Certificates for the tests, and a server that speaks TLS with them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import servers

# What Python 3.13 wants of a CA, and of what it signed.
CERTIFICATES = """
[req]
prompt = no
distinguished_name = name
[name]
CN = a server of the tests
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1
"""


def make_certificates(folder: Path) -> None:
    """Put a CA, a server's certificate signed by it, and another CA into a folder."""
    (folder / "settings").write_text(CERTIFICATES)
    new = "-config settings -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    for ca in ("ca", "other"):
        _openssl(folder, f"req -x509 {new} -keyout {ca}.key -out {ca}.pem -extensions ca -days 2")
    _openssl(folder, f"req {new} -keyout leaf.key -out leaf.csr")
    sign = "-CA ca.pem -CAkey ca.key -CAcreateserial -extfile settings -extensions leaf -days 2"
    _openssl(folder, f"x509 -req -in leaf.csr {sign} -out leaf.pem")


def _openssl(folder: Path, command: str) -> None:
    program = shutil.which("openssl")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no openssl on this machine")
    done = subprocess.run([program, *command.split()], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextmanager
def serving(certificates: Path) -> Iterator[str]:
    """The address of a server that speaks TLS; of the servers here, only this one was built so."""
    port = servers.free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    for option, file in (("cert", "leaf.pem"), ("key", "leaf.key"), ("ca-cert", "ca.pem")):
        options += [f"--tls-{option}-file", str(certificates / file)]
    with servers.Server(servers.find("redis-7.0"), None, *options):
        yield f"rediss://127.0.0.1:{port}"
