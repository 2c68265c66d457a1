"""A PostgreSQL client by psycopg, which carries libpq 17 or later: TLS from the first byte, with a client certificate.

Started by postgres.rs with the port, the folder of the certificates, a name, and what to do. Says one JSON value a line.
It must never fall back to a connection without TLS.
"""

import hashlib
import json
import sys
import time

import psycopg


def say(value):
    print(json.dumps(value), flush=True)


def connect(port, folder, name, **more):
    return psycopg.connect(
        host="localhost", hostaddr="127.0.0.1", port=port, dbname="postgres", user="postgres", connect_timeout=20,
        sslmode="verify-full", sslnegotiation="direct", sslrootcert=f"{folder}/server_root.pem",
        sslcert=f"{folder}/{name}.pem", sslkey=f"{folder}/{name}.key", application_name=name, autocommit=True, **more)


def fetch(connection):
    """A result of 8 MB, and its digest by either side."""
    query = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 250000) n"
    digest = connection.execute(f"SELECT md5(({query}))").fetchone()[0]
    say([hashlib.md5(connection.execute(query).fetchone()[0].encode()).hexdigest() == digest, connection.pgconn.ssl_in_use])


def hold(connection):
    """An open transaction, until the connection ends."""
    connection.execute("CREATE TABLE IF NOT EXISTS notes (note text)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO notes VALUES ('not committed')")
    say("open")
    try:
        list(connection.notifies(timeout=600))
    except psycopg.OperationalError as error:
        say({"broken": connection.broken, "error": str(error)})


def look(connection):
    """Notes that were committed, and sessions of others that PostgreSQL does not end."""
    say(connection.execute("SELECT count(*) FROM notes").fetchone()[0])
    others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 20
    while (count := connection.execute(others).fetchone()[0]) and time.monotonic() < deadline:
        time.sleep(0.01)
    say(count)


def refused(*where):
    """The error instead of a connection."""
    try:
        connect(*where)
        say("connected")
    except psycopg.OperationalError as error:
        say(str(error))


port, folder, name, wish = sys.argv[1:]
if wish == "refused":
    refused(port, folder, name)
else:
    with connect(port, folder, name) as connection:
        {"fetch": fetch, "hold": hold, "look": look}[wish](connection)
