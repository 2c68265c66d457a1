"""A throw-away PKI: root → intermediate → client and server leaf, ECDSA P-256, by the openssl program.

Called by `run` into its temporary folder. The names are those of a SPIFFE workload, since Portcullis
holds such leaves to stricter rules than the peers do. It must never write outside the folder it is given.
"""

import subprocess

from supplies import Unavailable, program

PROFILES = """
[root]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[intermediate]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectAltName = URI:spiffe://bench.test/ns/bench/sa/client
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


def openssl(*words, cwd=None, given=None):
    """Runs openssl and returns its standard output as bytes."""
    outcome = subprocess.run([program("openssl"), *map(str, words)], cwd=cwd, input=given or b"",
                             capture_output=True, timeout=60)
    if outcome.returncode != 0:
        complaint = outcome.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise Unavailable(f"`openssl {words[0]}` failed while the PKI was made: {' '.join(complaint)}.")
    return outcome.stdout


def serial(folder, name):
    """The serial number of a certificate, as bytes."""
    return bytes.fromhex(openssl("x509", "-in", f"{name}.pem", "-noout", "-serial", cwd=folder).decode().split("=")[1])


def _issue(folder, name, profile, issuer, first_byte="40"):
    """One key and certificate; `issuer` None makes it self-signed."""
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key", cwd=folder)
    openssl("req", "-new", "-key", f"{name}.key", "-subj", f"/O=Portcullis bench/CN={name}",
            "-out", f"{name}.csr", cwd=folder)
    signer = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else ["-signkey", f"{name}.key"]
    # The first byte keeps serials positive and tells those that revocations.py may revoke.
    number = f"0x{first_byte}" + openssl("rand", "-hex", "15").decode().strip()
    openssl("x509", "-req", "-in", f"{name}.csr", *signer, "-set_serial", number, "-days", "2", "-sha256",
            "-extfile", "profiles.cnf", "-extensions", profile, "-out", f"{name}.pem", cwd=folder)


def make(folder):
    """Fills the folder: *.pem, *.key, *-chain.pem (leaf and intermediate), server-bundle.pem (with key)."""
    (folder / "profiles.cnf").write_text(PROFILES)
    _issue(folder, "root", "root", None)
    _issue(folder, "intermediate", "intermediate", "root")
    _issue(folder, "server", "server", "intermediate")
    _issue(folder, "client", "client", "intermediate")
    # A client of somebody else's root: the rig expects every proxy to refuse it.
    _issue(folder, "foreign", "root", None)
    _issue(folder, "stranger", "client", "foreign")
    # A client that the list of a million names: the rig expects every proxy with that list to refuse it.
    _issue(folder, "revoked", "client", "intermediate", "5f")
    intermediate = (folder / "intermediate.pem").read_text()
    for leaf in ("server", "client", "revoked"):
        (folder / f"{leaf}-chain.pem").write_text((folder / f"{leaf}.pem").read_text() + intermediate)
    (folder / "server-bundle.pem").write_text(
        (folder / "server-chain.pem").read_text() + (folder / "server.key").read_text())
