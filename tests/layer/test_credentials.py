"""Credentials stay on this machine and are named, unless the settings name them exactly."""

from __future__ import annotations

import ssl
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import certifi
import pytest
from cryptography.hazmat.primitives import serialization as forms
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from envboot.errors import LayerError
from envboot.layer.credential_files import Reason, find_reason
from envboot.scan.schema import Source
from envboot.toml import read_data
from tests.layer.code import bring, build, found, shipped, write
from tests.layer.projects import build as build_projects
from tests.layer.projects import commit_all, unpack, write_project

if TYPE_CHECKING:
    from collections.abc import Callable

CERTIFICATES = Path(certifi.where()).read_bytes()
CERTIFICATE = CERTIFICATES[CERTIFICATES.index(b"-----BEGIN") :].split(b"-----END")[0]
CERTIFICATE += b"-----END CERTIFICATE-----\n"
KEY = rsa.generate_private_key(65537, 2048)
PLAIN, LOCKED = forms.NoEncryption(), forms.BestAvailableEncryption(b"word")
PEM, DER = forms.Encoding.PEM, forms.Encoding.DER
PKCS8, PKCS1 = forms.PrivateFormat.PKCS8, forms.PrivateFormat.TraditionalOpenSSL
OPENSSH = ed25519.Ed25519PrivateKey.generate().private_bytes(
    PEM, forms.PrivateFormat.OpenSSH, PLAIN
)
PRIVATE = KEY.private_bytes(PEM, PKCS8, PLAIN)
PUBLIC = KEY.public_key().public_bytes(PEM, forms.PublicFormat.SubjectPublicKeyInfo)
PUBLIC_DER = KEY.public_key().public_bytes(DER, forms.PublicFormat.SubjectPublicKeyInfo)
SSH_PUBLIC = KEY.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH)


def judge(path: str, content: bytes = b"x = 1\n") -> Reason | None:
    return find_reason((path,), lambda size: content[:size])


KNOWN = """
.env app/.env .env.production .env.local .envrc prod.env .ENV .netrc _netrc .pypirc .npmrc
.git-credentials .pgpass pgpass.conf .my.cnf .boto .s3cfg .dockercfg .htpasswd .vault-token
.gh_token .databrickscfg .condarc pip.conf .bash_history .python_history id_rsa
keys/id_ed25519 id_rsa.bak id_ecdsa_work deploy_rsa github_ed25519 ssh_host_rsa_key a.p12
a.PFX a.jks a.keystore a.keytab a.ppk a.kdbx krb5cc_1000 AuthKey_1.p8 vpn.ovpn server.key
server.pem server.der service-account.json service_account.json my-service-account.json
serviceAccountKey.json credentials.json credentials credentials.csv token.json
client_secret.json client_secret_12.apps.googleusercontent.com.json kubeconfig
kubeconfig.yaml prod-kubeconfig.yaml application_default_credentials.json rootkey.csv
x_accessKeys.csv kaggle.json p-firebase-adminsdk-1a.json secrets secrets.yaml secrets.toml
secrets.json secrets.ini secrets.env secrets.prod.yaml prod.secrets.yaml app-secrets.yml
db-secret.yaml secret.txt Secrets.YAML .secrets secrets/db_password.txt secrets/api-key
app/secrets/any.json passwords.txt api_key.txt .token gcp-key.json
sa-key.json private_key.txt hf_token terraform.tfstate terraform.tfstate.backup
terraform.tfvars prod.auto.tfvars a.tfvars.json .aws/credentials .aws/config app/.aws/x.py
.ssh/config .ssh/known_hosts .ssh/deploy .docker/config.json .kube/config
.azure/accessTokens.json .config/gcloud/x.db .gnupg/pubring.kbx .streamlit/secrets.toml
.git/config .config/gh/hosts.yml deep/down/.kube/cache/x
"""


@pytest.mark.parametrize("path", KNOWN.split())
def test_credential_files_are_known_by_their_place_and_name(path: str) -> None:
    assert judge(path) is Reason.NAME


OTHER = """
app/__init__.py secrets.py app/credentials.py secrets/__init__.py secrets/vault.py token.py
vault_password.py environment.py env.py env env.sh .environment notes.txt config.yaml
config.json .streamlit/config.toml .config/flake8 .github/workflows/x.yml .gitignore
id_rsa.pub .ssh/id_rsa.pub keys/deploy.pub tokenizer.json tokens.json keys.json key.json
table.csv keyboard.txt monkey.txt secretary.json secret-santa.json passwords.txt.gz
.env.example .env.template .env.sample .env.dist secrets.example.toml secrets.toml.j2
terraform.tfvars.example service-account-example.json secrets.schema.json rsa a.crt a.cer
a.asc dump.sql local_settings.py secrets/page.html secrets/py.typed aws/credentials.py
ssh/config.ini docker/config.json kube/x.yaml
"""


@pytest.mark.parametrize("path", OTHER.split())
def test_other_files_are_not_taken_for_credentials(path: str) -> None:
    assert judge(path) is None


def test_each_pattern_of_the_table_finds_something() -> None:
    table = read_data("credential-files.toml")
    plain = str.maketrans({"*": "x", "?": "x"})
    for glob in (*table["names"], *table["keys"], *(f"{stem}.json" for stem in table["stems"])):
        name = (
            glob.translate(plain).replace("[_-]", "-").replace("[._-]", ".").replace("[0-9]", "0")
        )
        assert judge(name) is Reason.NAME, glob
    for place in table["places"]:
        assert judge(f"a/{place}/b/c.bin") is Reason.NAME, place
    for form in table["formats"]:
        assert judge(f"secrets.{form}") is Reason.NAME, form
    for word in table["templates"]:
        assert judge(f"secrets.{word}.json") is None, word


GOOGLE = b'{\n  "type": "service_account",\n  "project_id": "p",\n  "private_key": "-----BEGIN"\n}'
ADC = b'{"client_id": "a", "refresh_token": "1//x", "type": "authorized_user"}'


@pytest.mark.parametrize(
    "content",
    [
        PRIVATE,
        KEY.private_bytes(PEM, PKCS1, PLAIN),
        KEY.private_bytes(PEM, PKCS8, LOCKED),
        OPENSSH,
        b"\xef\xbb\xbf\r\n  " + PRIVATE,
        PRIVATE.decode().encode("utf-16"),
        CERTIFICATE + PRIVATE,
        CERTIFICATES + PRIVATE,
        b"Bag Attributes\n    localKeyID: 01\nKey Attributes: <No Attributes>\n" + PRIVATE,
        b"apiVersion: v1\ndata:\n  key: |\n    " + PRIVATE.replace(b"\n", b"\n    "),
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n",
        b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n",
        b"PuTTY-User-Key-File-3: ssh-ed25519\n",
        b"# created: 2026\n# public key: age1\nAGE-SECRET-KEY-1QQ\n",
        b"untrusted comment: minisign encrypted secret key\nRW\n",
        GOOGLE,
        ADC,
    ],
)
def test_a_private_key_is_found_under_any_name(content: bytes) -> None:
    assert judge("data.bin", content) is Reason.CONTENT
    assert judge("id_rsa.pub", content) is Reason.CONTENT


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("ca.pem", CERTIFICATES),
        ("ca.key", PUBLIC),
        ("deploy.key", SSH_PUBLIC),
        ("dh.pem", b"-----BEGIN DH PARAMETERS-----\n"),
        ("ca.der", ssl.PEM_cert_to_DER_cert(CERTIFICATE.decode())),
        ("public.der", PUBLIC_DER),
        ("empty.pem", b""),
        ("keys.py", b"KEY = '''\n" + PRIVATE + b"'''\n"),
        ("README.md", b"Make one:\n```\n" + PRIVATE + b"```\n"),
        ("a.json", b'{"type": "service_account", "name": "x"}'),
        ("notes.txt", b"it begins with -----BEGIN PRIVATE KEY-----"),
    ],
)
def test_what_holds_no_private_key_is_sent(path: str, content: bytes) -> None:
    assert judge(path, content) is None


@pytest.mark.parametrize(
    "content",
    [
        KEY.private_bytes(DER, PKCS8, PLAIN),
        KEY.private_bytes(DER, PKCS8, LOCKED),
        KEY.private_bytes(DER, PKCS1, PLAIN),
        b"PLANTED",
    ],
)
@pytest.mark.parametrize("path", ["a.pem", "a.key", "a.der"])
def test_a_key_file_that_cannot_be_read_as_public_stays(path: str, content: bytes) -> None:
    assert judge(path, content) is Reason.NAME


@pytest.mark.subprocess
@pytest.mark.parametrize("origin", ["current", "pythonpath", "pth", "site"])
def test_credentials_in_loose_code_stay_and_every_one_is_named(
    tmp_path: Path, cache: Path, origin: str
) -> None:
    many = {f"app/k{number:02}.p12": "x" for number in range(20)}
    files: dict[str, str | bytes] = {
        **many,
        "app/__init__.py": "",
        "app/.aws/credentials": "x",
        "app/data.txt": PRIVATE,
        "app/ca.pem": CERTIFICATES,
    }
    app = write(tmp_path / "work", files)
    layer = build(found(app, "app", origin=origin), cache=cache)
    assert layer is not None
    assert {file.path for file in layer.code.files} == {"app/__init__.py", "app/ca.pem"}
    opened = unpack(layer, tmp_path / "out")
    assert not [path for path in opened.paths if path.endswith((".p12", "data.txt", "credentials"))]
    name, content = (note.message for note in layer.notes)
    assert name.startswith("Not sent (credential files; name one exactly in `include`")
    assert all(f"`{path}`" in name for path in [*many, "app/.aws/credentials"])
    assert content.startswith("Not sent (files with a private key;")
    assert content.endswith(" `app/data.txt`")


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("include", "sent"),
    [
        ((".env",), True),
        (("app/.env",), True),
        (("/app/.env",), True),
        (("**/.env",), True),
        (("app/",), False),
        (("*",), False),
        ((".env*",), False),
        (("*.env",), False),
        (("other/.env",), False),
        ((".env", "!app/.env"), False),
        ((".env", "!other/.env"), True),
    ],
)
def test_only_an_exact_name_in_include_sends_a_credential(
    tmp_path: Path, cache: Path, include: tuple[str, ...], sent: bool
) -> None:
    app = write(tmp_path / "work", {"app/__init__.py": "", "app/.env": "TOKEN=1"})
    opened = bring(found(app, "app"), cache=cache, to=tmp_path / "out", include=include)
    assert ("app/.env" in shipped(opened)) == sent


@pytest.mark.subprocess
def test_a_link_hides_no_credential(tmp_path: Path, cache: Path) -> None:
    files: dict[str, str | bytes] = {
        "app/__init__.py": "",
        ".env": "TOKEN=1",
        ".aws/credentials": "x",
        ".git/HEAD": "ref: refs/heads/main",
        ".git/config": "[http]\nextraHeader = x",
    }
    app = write(tmp_path / "work", files)
    for name, target in (
        ("settings.txt", "../.env"),
        ("cloud", "../.aws"),
        ("conf.txt", "../.git/config"),
    ):
        (app / "app" / name).symlink_to(target)
    layer = build(found(app, "app"), cache=cache)
    assert layer is not None
    (note,) = layer.notes
    assert note.message.endswith(": `app/cloud/credentials`, `app/conf.txt`, `app/settings.txt`")


@pytest.mark.subprocess
def test_a_module_is_code_whatever_it_is_called(tmp_path: Path, cache: Path) -> None:
    files: dict[str, str | bytes] = {
        "app/__init__.py": "",
        "app/secrets.py": "import os\nTOKEN: str = 'hunter2'\n",
        "app/a/credentials.py": "def load():\n    return {'a': 'b'}\n",
        "app/b/credentials.py": "import os\nKEY = os.environ['KEY']\nDEBUG = 1\n",
        "app/c/credentials.py": "KEYS = {'a': ['hunter2']}\n",
        "app/d/secrets.py": "not python",
    }
    app = write(tmp_path / "work", files)
    layer = build(found(app, "app"), cache=cache)
    assert layer is not None
    assert {file.path for file in layer.code.files} == set(files)
    (note,) = layer.notes
    assert note.message.startswith("Sent as code, though named like a file of secrets")
    assert note.message.endswith(": `app/c/credentials.py`, `app/secrets.py`")


def project(folder: Path, **more: str) -> Source:
    files = {"demo/__init__.py": "", "demo/ca.pem": CERTIFICATE.decode(), **more}
    return write_project(folder, files=files)


SECRET = {"demo/conf/.env": "A=1", "demo/tests/server.key": PRIVATE.decode()}


def as_folder(source: Source, _: Path) -> Source:
    return source


def as_git(source: Source, folder: Path) -> Source:
    commit = commit_all(folder)
    return Source(name="demo", version="1.0", git=folder.as_uri(), commit=commit)


def as_wheel(_: Source, folder: Path) -> Source:
    wheel = folder / "demo-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in (*SECRET, "demo/__init__.py"):
            archive.write(folder / name, name)
    return Source(name="demo", version="1.0", path=str(wheel))


@pytest.mark.subprocess
@pytest.mark.parametrize("given_as", [as_folder, as_git, as_wheel])
def test_a_wheel_with_credentials_is_refused_with_the_setting_that_sends_them(
    tmp_path: Path, cache: Path, given_as: Callable[[Source, Path], Source]
) -> None:
    source = given_as(project(tmp_path / "p", **SECRET), tmp_path / "p")
    for _ in range(2):  # Also from the cache.
        with pytest.raises(LayerError, match="wheel of `demo`: it contains credential") as caught:
            build_projects(source, cache=cache)
        assert caught.value.causes == ("Found `demo/conf/.env`, `demo/tests/server.key`",)
        line = 'include = ["demo/conf/.env", "demo/tests/server.key"]'
        assert line in (caught.value.hint or "")
    assert not list((cache / "layers").glob("*.zst"))
    with pytest.raises(LayerError, match="credential"):
        build(cache=cache, sources=(source,), include=("demo/", "*"))


@pytest.mark.subprocess
def test_a_wheel_brings_what_include_names_and_its_certificates(
    tmp_path: Path, cache: Path
) -> None:
    source = project(tmp_path / "p", **SECRET)
    options: dict[str, Any] = {"cache": cache, "sources": (source,)}
    layer = build(**options, include=(".env", "demo/tests/server.key"))
    assert layer is not None
    opened = unpack(layer, tmp_path / "out")
    assert opened.site("demo/conf/.env") == "A=1"
    assert opened.site("demo/ca.pem")
    assert layer.notes == ()


@pytest.mark.subprocess
def test_a_wheel_that_an_index_has_is_not_searched(tmp_path: Path, cache: Path) -> None:
    # What was fetched for the layer is in the cache.
    source = project(cache / "private" / "0", **SECRET)
    opened = unpack(build_projects(source, cache=cache), tmp_path / "out")
    assert opened.site("demo/conf/.env") == "A=1"
