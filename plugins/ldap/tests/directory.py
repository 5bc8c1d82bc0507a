"""An OpenLDAP server as a process of its own, with its data in a directory."""

import pathlib
import shutil
import socket
import subprocess
import time

import trustme

SLAPD = shutil.which("slapd", path="/usr/sbin:/usr/lib/openldap:/usr/libexec")
SUFFIX = "dc=example,dc=com"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{SUFFIX}", "admin-password"
SERVICE, SERVICE_PASSWORD = f"cn=directus,{SUFFIX}", "service-password"

CONFIGURATION = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile {directory}/slapd.pid
TLSCACertificateFile {directory}/ca.pem
TLSCertificateFile {directory}/server.pem
TLSCertificateKeyFile {directory}/server.pem
database mdb
maxsize 10485760
suffix "{suffix}"
rootdn "{admin}"
rootpw {password}
directory {directory}/data
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by users none by anonymous none
"""

ENTRIES = f"""\
dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: {SERVICE}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: directus
userPassword: {SERVICE_PASSWORD}

dn: ou=people,{SUFFIX}
objectClass: organizationalUnit
ou: people

dn: ou=groups,{SUFFIX}
objectClass: organizationalUnit
ou: groups
"""


def person(uid: str, mail: str, password: str | None, first_name: str = "First", last_name: str = "Last") -> str:
    """Returns the LDIF of a person."""
    lines = [f"dn: uid={uid},ou=people,{SUFFIX}", "objectClass: inetOrgPerson", f"uid: {uid}", f"cn: {uid}", f"sn: {last_name}"]
    lines += [f"givenName: {first_name}", f"mail: {mail}"] + ([f"userPassword: {password}"] if password else [])
    return "\n".join(lines) + "\n"


def group(name: str, *uids: str) -> str:
    """Returns the LDIF of a group."""
    members = [f"member: uid={uid},ou=people,{SUFFIX}" for uid in uids]
    return "\n".join([f"dn: cn={name},ou=groups,{SUFFIX}", "objectClass: groupOfNames", f"cn: {name}", *members]) + "\n"


class Directory:
    """A server that listens for ldap:// and ldaps:// on localhost. `ca_file` has the certificate authority of its certificate."""

    def __init__(self, directory: pathlib.Path, *entries: str) -> None:
        assert SLAPD is not None
        self.directory = directory
        self.ca_file = directory / "ca.pem"
        self.port, self.tls_port = _free_port(), _free_port()
        self.url = f"ldap://localhost:{self.port}"
        self.tls_url = f"ldaps://localhost:{self.tls_port}"
        (directory / "data").mkdir()
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca_file))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(directory / "server.pem"))
        text = CONFIGURATION.format(directory=directory, suffix=SUFFIX, admin=ADMIN, password=ADMIN_PASSWORD, service=SERVICE)
        (directory / "slapd.conf").write_text(text)
        (directory / "entries.ldif").write_text("\n".join([ENTRIES, *entries]))
        command = [SLAPD, "-T", "add", "-f", str(directory / "slapd.conf"), "-l", str(directory / "entries.ldif")]
        subprocess.run(command, check=True, timeout=60, capture_output=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the server and waits until it listens."""
        assert SLAPD is not None
        urls = f"{self.url.replace('localhost', '127.0.0.1')}/ {self.tls_url.replace('localhost', '127.0.0.1')}/"
        with (self.directory / "log").open("ab") as log:
            # A debug level keeps it in the foreground.
            command = [SLAPD, "-d", "256", "-f", str(self.directory / "slapd.conf"), "-h", urls]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until = time.monotonic() + 30
        while not (_listens(self.port) and _listens(self.tls_port)):
            log_text = (self.directory / "log").read_text()
            assert self.process.poll() is None, log_text
            assert time.monotonic() < until, log_text
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops the server."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
