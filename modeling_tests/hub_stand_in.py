"""A stand-in of the Hugging Face Hub on the loopback address: all that the real `huggingface_hub` client asks for.

Repositories, branches and pull requests with commits; files of the Git and of the LFS kind; private repositories and
tokens; renamed repositories; the check of a card's metadata. LFS files are stored and served at an origin of their
own, as by the Hub's CDN. The Hub's other transfer protocol, Xet, is not spoken: `HF_HUB_DISABLE_XET=1`.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from fal_hf.hub.model_card import LICENSES

LFS_SUFFIXES = {".safetensors", ".bin", ".pt"}
# The video tasks of the Hub, and enough others to tell a wrong tag from a right one.
PIPELINE_TAGS = {"video-classification", "image-classification", "video-text-to-text", "text-generation", "other"}


@dataclass(frozen=True)
class StoredFile:
    """One version of a file; a large one (LFS) is known by its SHA-256, another by its Git hash."""

    content: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def blob_id(self) -> str:
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n"
        data = pointer.encode() if self.is_lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.blob_id


@dataclass(frozen=True)
class Commit:
    """The files after a commit, and which of them it wrote or deleted."""

    title: str
    files: dict[str, StoredFile]
    changed: frozenset[str]
    parent: "Commit | None" = None

    @property
    def oid(self) -> str:
        versions = sorted((path, file.blob_id) for path, file in self.files.items())
        text = json.dumps([self.title, versions, self.parent and self.parent.oid])
        return hashlib.sha1(text.encode()).hexdigest()

    def history(self) -> list["Commit"]:
        """This commit and those before it, the newest first."""
        return [self, *(self.parent.history() if self.parent is not None else ())]


@dataclass
class Repository:
    """The newest commit of each branch and pull request."""

    repo_id: str
    private: bool
    refs: dict[str, Commit]

    def find(self, revision: str) -> Commit | None:
        commits = (commit for head in self.refs.values() for commit in head.history())
        return self.refs.get(revision) or next((commit for commit in commits if commit.oid == revision), None)


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    body: bytes
    token: str | None

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Response:
    body: bytes | dict | list = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class HubError(Exception):
    """An answer that is an error, with the headers by which the client tells one from another."""

    def __init__(self, status: int, message: str, *, code: str | None = None, commit: Commit | None = None):
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit and commit.oid}
        headers = {name: value for name, value in headers.items() if value is not None}
        self.response = Response({"error": message}, status, headers)


class HubStandIn:
    """Serves from `with` on; `endpoint` is what `HF_ENDPOINT` has to be.

    Args:
        tokens: The user's name of each valid token.
    """

    def __init__(self, tokens: dict[str, str]):
        self.tokens = tokens
        self.repositories: dict[str, Repository] = {}
        self.renamed: dict[str, str] = {}
        self.storage: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "HubStandIn":
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                response = hub.respond(self)
                is_json = not isinstance(response.body, bytes)
                body = json.dumps(response.body).encode() if is_json else response.body
                self.send_response(response.status)
                kind = "application/json" if is_json else "application/octet-stream"
                for name, value in {"Content-Type": kind, "Content-Length": len(body), **response.headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = do_PUT = answer

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        port = self._server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        self.cdn = f"http://localhost:{port}"
        return self

    def environment(self, *, token: str, cache: Path, offline: bool = False) -> dict[str, str]:
        """Variables of a process whose Hub this is."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": token,
            "HF_HOME": str(cache),
            "HF_HUB_OFFLINE": "1" if offline else "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def __exit__(self, *exc_info):
        self._server.shutdown()
        self._server.server_close()

    def respond(self, handler: BaseHTTPRequestHandler) -> Response:
        """Finds the route of a request and runs it, one request at a time."""
        address = urlsplit(handler.path)
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        request = Request(handler.command, address.path, parse_qs(address.query), read_body(handler), token)
        with self._lock:
            self.requests.append(request)
            try:
                for method, pattern, route in ROUTES:
                    match = re.fullmatch(pattern, request.path)
                    if match and request.method in method.split():
                        found = {name: unquote(text or "") for name, text in match.groupdict().items()}
                        return self.redirect_renamed(request, **found) or route(self, request, **found)
                raise HubError(404, f"no such page: {request.method} {request.path}")
            except HubError as error:
                return error.response

    # Who may do what

    def user(self, request: Request) -> str | None:
        if request.token is not None and request.token not in self.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return self.tokens.get(request.token)

    def readable(self, request: Request, repo: str) -> Repository:
        user, repository = self.user(request), self.repositories.get(repo)
        if repository is None or (repository.private and repo.split("/")[0] != user):
            raise HubError(401 if user is None else 404, "Repository not found", code="RepoNotFound")
        return repository

    def writable(self, request: Request, repo: str) -> Repository:
        repository = self.readable(request, repo)
        if "create_pr" not in request.query and repo.split("/")[0] != self.user(request):
            raise HubError(403, "you are not allowed to write to this repository")
        return repository

    def commit_of(self, repository: Repository, revision: str) -> Commit:
        commit = repository.find(revision)
        if commit is None:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return commit

    def redirect_renamed(self, request: Request, *, repo: str = "", **_) -> Response | None:
        if repo not in self.renamed:
            return None
        return Response(b"", 307, {"Location": request.path.replace(repo, self.renamed[repo], 1)})

    # What is asked for

    def whoami(self, request: Request) -> Response:
        user = self.user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        return Response({"type": "user", "name": user, "orgs": []})

    def create_repo(self, request: Request) -> Response:
        user = self.user(request)
        if user is None:
            raise HubError(401, "Invalid username or password.")
        namespace = request.json.get("organization") or user
        repo = f"{namespace}/{request.json['name']}"
        address = {"url": f"{self.endpoint}/{repo}", "name": repo}
        if namespace != user:
            raise HubError(403, f"you cannot create a repository in {namespace}")
        if repo in self.repositories:
            return Response({"error": "You already created this model repo", **address}, 409)
        attributes = StoredFile(b"*.safetensors filter=lfs\n", is_lfs=False)
        first = Commit("initial commit", {".gitattributes": attributes}, frozenset())
        private = request.json.get("visibility") == "private"
        self.repositories[repo] = Repository(repo, private, {"main": first})
        return Response(address)

    def model_info(self, request: Request, *, repo: str, revision: str = "main") -> Response:
        repository = self.readable(request, repo)
        commit = self.commit_of(repository, revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        return Response({"id": repo, "sha": commit.oid, "private": repository.private, "siblings": siblings})

    def refs(self, request: Request, *, repo: str) -> Response:
        heads = self.readable(request, repo).refs
        branches = [
            {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit.oid}
            for name, commit in heads.items()
            if not name.startswith("refs/")
        ]
        return Response({"branches": branches, "converts": [], "tags": []})

    def tree(self, request: Request, *, repo: str, revision: str, path: str = "") -> Response:
        commit = self.commit_of(self.readable(request, repo), revision)
        entries = []
        for name, file in sorted(commit.files.items()):
            entry = {"type": "file", "path": name, "size": len(file.content), "oid": file.blob_id}
            lfs = {"lfs": {"oid": file.sha256, "size": len(file.content), "pointerSize": 130}} if file.is_lfs else {}
            entries.append({**entry, **lfs})
        return Response(entries)

    def create_branch(self, request: Request, *, repo: str, branch: str) -> Response:
        repository = self.writable(request, repo)
        if branch in repository.refs:
            raise HubError(409, f"Reference already exists: {branch}")
        repository.refs[branch] = self.commit_of(repository, request.json.get("startingPoint") or "main")
        return Response({})

    def preupload(self, request: Request, *, repo: str, revision: str) -> Response:
        commit = self.commit_of(self.writable(request, repo), revision)
        answers = []
        for file in request.json["files"]:
            known = commit.files.get(file["path"])
            is_lfs = PurePosixPath(file["path"]).suffix in LFS_SUFFIXES
            answer = {"path": file["path"], "uploadMode": "lfs" if is_lfs else "regular", "shouldIgnore": False}
            answers.append({**answer, **({"oid": known.etag} if known is not None else {})})
        return Response({"files": answers})

    def lfs_batch(self, request: Request, *, repo: str) -> Response:
        self.readable(request, repo)
        objects = []
        for wanted in request.json["objects"]:
            target = f"{self.cdn}/storage/{wanted['oid']}"
            actions = {"upload": {"href": target}, "verify": {"href": f"{self.endpoint}/verify/{wanted['oid']}"}}
            objects.append({**wanted, **({} if wanted["oid"] in self.storage else {"actions": actions})})
        return Response({"transfer": "basic", "objects": objects})

    def store(self, request: Request, *, oid: str) -> Response:
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise HubError(400, "the content is not what its SHA-256 says")
        self.storage[oid] = request.body
        return Response()

    def verify(self, request: Request, *, oid: str) -> Response:
        if len(self.storage.get(oid, b"")) != request.json["size"]:
            raise HubError(404, "not uploaded, or not all of it")
        return Response()

    def fetch(self, request: Request, *, oid: str) -> Response:
        return Response(self.storage[oid])

    def commit(self, request: Request, *, repo: str, revision: str) -> Response:
        repository = self.writable(request, repo)
        parent = self.commit_of(repository, revision)
        header, *operations = (json.loads(line) for line in request.body.splitlines())
        files, changed = dict(parent.files), set()
        for operation in operations:
            path = operation["value"]["path"]
            changed.add(path)
            self.apply(files, operation["key"], operation["value"])
        commit = Commit(header["value"]["summary"], files, frozenset(changed), parent)
        answer = {"commitUrl": f"{self.endpoint}/{repo}/commit/{commit.oid}", "commitOid": commit.oid}
        if "create_pr" in request.query:
            number = 1 + sum(name.startswith("refs/pr/") for name in repository.refs)
            revision = f"refs/pr/{number}"
            answer["pullRequestUrl"] = f"{self.endpoint}/{repo}/discussions/{number}"
        repository.refs[revision] = commit
        return Response(answer)

    def apply(self, files: dict[str, StoredFile], key: str, value: dict):
        """One line of a commit."""
        path = value["path"]
        if key == "file":
            files[path] = StoredFile(base64.b64decode(value["content"]), is_lfs=False)
        elif key == "lfsFile":
            if value["oid"] not in self.storage:
                raise HubError(400, f"{path} was not uploaded")
            files[path] = StoredFile(self.storage[value["oid"]], is_lfs=True)
        elif key == "deletedFile" and path in files:
            del files[path]
        else:
            raise HubError(400, f"cannot do {key} of {path}")

    def resolve(self, request: Request, *, repo: str, revision: str, path: str) -> Response:
        commit = self.commit_of(self.readable(request, repo), revision)
        file = commit.files.get(path)
        if file is None:
            raise HubError(404, "Entry not found", code="EntryNotFound", commit=commit)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"'}
        if not file.is_lfs:
            return Response(file.content, 200, headers)
        linked = {"X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(len(file.content))}
        return Response(b"", 302, {**headers, **linked, "Location": f"{self.cdn}/storage/{file.sha256}"})

    def validate_yaml(self, request: Request) -> Response:
        problems = zip(("errors", "warnings"), card_problems(request.json["content"]), strict=True)
        answer = {kind: [{"message": text} for text in texts] for kind, texts in problems}
        return Response(answer, 400 if answer["errors"] else 200)


REPO, REVISION, OID = r"(?P<repo>[\w.-]+/[\w.-]+?)", r"(?P<revision>[^/]+)", r"(?P<oid>[0-9a-f]{64})"
ROUTES = [
    ("GET", "/api/whoami-v2", HubStandIn.whoami),
    ("POST", "/api/repos/create", HubStandIn.create_repo),
    ("POST", "/api/validate-yaml", HubStandIn.validate_yaml),
    ("GET", f"/api/models/{REPO}", HubStandIn.model_info),
    ("GET", f"/api/models/{REPO}/revision/{REVISION}", HubStandIn.model_info),
    ("GET", f"/api/models/{REPO}/refs", HubStandIn.refs),
    ("GET", f"/api/models/{REPO}/tree/{REVISION}(/(?P<path>.+))?", HubStandIn.tree),
    ("POST", f"/api/models/{REPO}/branch/(?P<branch>[^/]+)", HubStandIn.create_branch),
    ("POST", f"/api/models/{REPO}/preupload/{REVISION}", HubStandIn.preupload),
    ("POST", f"/api/models/{REPO}/commit/{REVISION}", HubStandIn.commit),
    ("POST", rf"/{REPO}\.git/info/lfs/objects/batch", HubStandIn.lfs_batch),
    ("POST", f"/verify/{OID}", HubStandIn.verify),
    ("PUT", f"/storage/{OID}", HubStandIn.store),
    ("GET", f"/storage/{OID}", HubStandIn.fetch),
    ("GET HEAD", f"/{REPO}/resolve/{REVISION}/(?P<path>.+)", HubStandIn.resolve),
]


def read_body(handler: BaseHTTPRequestHandler) -> bytes:
    """The body of a request, of known length or in chunks."""
    if "chunked" not in handler.headers.get("Transfer-Encoding", ""):
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    body = b""
    while size := int(handler.rfile.readline(), 16):
        body += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return body


# The metadata of a card, as the Hub checks it on every commit: licence, data sets, base models, tags, the model index


def card_problems(content: str) -> tuple[list[str], list[str]]:
    """Errors and warnings on the YAML block of a card."""
    block = re.match(r"\s*---\r?\n(.*?)\r?\n---(\r?\n|$)", content, flags=re.DOTALL)
    if block is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        data = yaml.safe_load(block[1]) or {}
    except yaml.YAMLError as error:
        return [f"the metadata is no YAML: {error}"], []
    if not isinstance(data, dict):
        return ["the metadata must be a mapping"], []
    return [error for key, check in CHECKS.items() if key in data for error in check(key, data[key])], []


def as_list(value) -> list:
    return value if isinstance(value, list) else [value]


def check_choice(choices):
    return lambda key, value: [] if value in choices else [f'"{key}" must be one of {sorted(choices)}, got {value!r}']


def check_texts(key: str, value) -> list[str]:
    return [f'"{key}" must hold strings, got {item!r}' for item in as_list(value) if not isinstance(item, str)]


def check_ids(key: str, value) -> list[str]:
    errors = check_texts(key, value)
    for repo_id in () if errors else as_list(value):
        try:
            validate_repo_id(repo_id)
        except HFValidationError:
            errors.append(f'"{key}" with value "{repo_id}" is not valid. Use an id of the Hub.')
    return errors


def check_model_index(key: str, value) -> list[str]:
    """Names and results; each result with its task, its data set and its metrics."""
    errors = []
    for number, model in enumerate(as_list(value)):
        where = f'"{key}[{number}]"'
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            return [f"{where} must have a name"]
        for result in model.get("results") or []:
            needed = {"task": {"type"}, "dataset": {"type", "name"}}
            errors += [
                f"{where}: {part} must have {sorted(keys)}"
                for part, keys in needed.items()
                if not keys <= (result.get(part) or {}).keys()
            ]
            metrics = result.get("metrics") or [{}]
            errors += [f"{where}: a metric needs type and value" for m in metrics if not {"type", "value"} <= m.keys()]
    return errors


CHECKS = {
    "license": check_choice(LICENSES),
    "license_name": check_texts,
    "license_link": check_texts,
    "pipeline_tag": check_choice(PIPELINE_TAGS),
    "library_name": check_texts,
    "tags": check_texts,
    "metrics": check_texts,
    "datasets": check_ids,
    "base_model": check_ids,
    "model-index": check_model_index,
}
