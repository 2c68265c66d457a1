"""Revocation lists, empty and with a million entries: JSON lines for Portcullis, CRLs for its peers.

Called by `run`. The CRLs are put together here byte by byte (RFC 5280 §5.1) and only signed by openssl,
because `openssl ca -gencrl` needs minutes for a million entries. No list may ever name the rig's own
client: the serials made up here begin with 50, that of the revoked client with 5f, all others with 40.
"""

import base64
import datetime
import hashlib
import os

from credentials import openssl, serial

ECDSA_WITH_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
CRL_NUMBER = bytes.fromhex("0603551d14")
AUTHORITY_KEY_IDENTIFIER = bytes.fromhex("0603551d23")


def _tlv(tag, content):
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def _elements(der):
    """The elements inside a constructed value, each as (whole bytes, content bytes)."""
    found = []
    at = 0
    while at < len(der):
        length, start = der[at + 1], at + 2
        if length & 0x80:
            start = at + 2 + (length & 0x7F)
            length = int.from_bytes(der[at + 2:start], "big")
        found.append((der[at:start + length], der[start:start + length]))
        at = start + length
    return found


def _subject_and_key(folder, name):
    """Subject and SubjectPublicKeyInfo of a certificate, as they stand in it."""
    certificate = openssl("x509", "-in", f"{name}.pem", "-outform", "DER", cwd=folder)
    fields = _elements(_elements(_elements(certificate)[0][1])[0][1])
    # version, serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo (RFC 5280 §4.1)
    return fields[5][0], fields[6][0]


def serials(count):
    """Serials of 16 bytes: a counter of three bytes keeps them distinct, the rest is random."""
    noise = os.urandom(count * 12)
    return [b"\x50" + i.to_bytes(3, "big") + noise[i * 12:i * 12 + 12] for i in range(count)]


def crl(folder, issuer, revoked):
    """A signed CRL of `issuer` as PEM text."""
    subject, key = _subject_and_key(folder, issuer)
    now = datetime.datetime.now(datetime.timezone.utc)
    time = lambda moment: _tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    began = time(now - datetime.timedelta(hours=1))
    # Every entry has the same length: SEQUENCE { INTEGER of 16 bytes, UTCTime of 13 }.
    head, tail = bytes([0x30, 18 + len(began), 0x02, 16]), began
    entries = b"".join([head + number + tail for number in revoked])
    # The key identifier that openssl's `subjectKeyIdentifier = hash` gave: SHA-1 of the key's bit string.
    identifier = hashlib.sha1(_elements(_elements(key)[0][1])[1][1][1:]).digest()
    extensions = (
        _tlv(0x30, AUTHORITY_KEY_IDENTIFIER + _tlv(0x04, _tlv(0x30, _tlv(0x80, identifier))))
        + _tlv(0x30, CRL_NUMBER + _tlv(0x04, _tlv(0x02, b"\x01"))))
    to_be_signed = _tlv(0x30, b"".join([
        _tlv(0x02, b"\x01"), ECDSA_WITH_SHA256, subject, began, time(now + datetime.timedelta(days=2)),
        _tlv(0x30, entries) if revoked else b"",
        _tlv(0xA0, _tlv(0x30, extensions))]))
    signature = openssl("dgst", "-sha256", "-sign", f"{issuer}.key", cwd=folder, given=to_be_signed)
    der = _tlv(0x30, to_be_signed + ECDSA_WITH_SHA256 + _tlv(0x03, b"\x00" + signature))
    return f"-----BEGIN X509 CRL-----\n{_in_lines(base64.b64encode(der).decode())}-----END X509 CRL-----\n"


def _in_lines(text):
    return "".join([text[i:i + 64] + "\n" for i in range(0, len(text), 64)])


def json_lines(folder, issuer, revoked):
    """The same revocations in Portcullis's own format, entries bound to the issuer's key."""
    _, key = _subject_and_key(folder, issuer)
    digest = hashlib.sha256(key).hexdigest()
    now = datetime.datetime.now(datetime.timezone.utc)
    stamp = lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    header = (f'{{"portcullis":"revocations/v1","list":"bench","sequence":1,"entries":{len(revoked)},'
              f'"issued_at":"{stamp(now)}","expires_at":"{stamp(now + datetime.timedelta(days=2))}"}}\n')
    tail = f'","issuer":"{digest}"}}\n'
    return header + "".join(['{"serial":"' + number.hex() + tail for number in revoked])


def make(folder, count):
    """Writes none.jsonl and none.crl, and, when count is not 0, many.jsonl and many.crl of so many entries.

    The CRL files hold one list for the root and one for the intermediate: OpenSSL asks for both.
    """
    root = crl(folder, "root", [])
    many = serials(count - 1) + [serial(folder, "revoked")] if count else None
    for name, revoked in (("none", []), ("many", many)):
        if revoked is not None:
            (folder / f"{name}.jsonl").write_text(json_lines(folder, "intermediate", revoked))
            (folder / f"{name}.crl").write_text(root + crl(folder, "intermediate", revoked))
