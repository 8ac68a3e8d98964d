"""What a client sends to the Hub: repositories made, files in LFS or in the commit itself, commits.

The names and forms are those that huggingface_hub asks for with xet switched off: `/api/repos/create`, then
`preupload` (which file goes where), LFS's batch and a PUT of the bytes for each large file, and one commit.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import yaml

if TYPE_CHECKING:
    from tests.hub.server import Handler, Repository


@dataclass
class Account:
    """Who may write, and to whose repositories."""

    token: str
    name: str = "owner"
    orgs: tuple[str, ...] = ()
    role: str = "write"


@dataclass
class Uploads:
    """What was sent, and where it is kept."""

    folder: Path
    accounts: list[Account] = field(default_factory=list)
    commits: list[dict[str, Any]] = field(default_factory=list)
    """Headers of all commits: summary and description."""
    created: list[dict[str, Any]] = field(default_factory=list)

    def store(self, content: bytes, suffix: str = "") -> Path:
        """Keep bytes under their own hash."""
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / f"{hashlib.sha256(content).hexdigest()}{suffix}"
        place.write_bytes(content)
        return place


def read_content(handler: "Handler") -> bytes:
    """A request's body, also one that comes in chunks, as those of files do."""
    if handler.headers.get("Transfer-Encoding") != "chunked":
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    content = b""
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        content += handler.rfile.read(size)
        handler.rfile.readline()
    handler.rfile.readline()
    return content


def answer(handler: "Handler", path: str) -> bool:
    """Answer what belongs to an upload; false for everything else."""
    routes = (
        (r"/api/whoami-v2", "GET", _who_am_i),
        (r"/api/repos/create", "POST", _create),
        (r"/api/validate-yaml", "POST", _validate),
        (r"/api/models/(.+?)/preupload/([^/]+)", "POST", _preupload),
        (r"/(.+?)\.git/info/lfs/objects/batch", "POST", _batch),
        (r"/lfs/([0-9a-f]{64})", "PUT", _put),
        (r"/api/models/(.+?)/commit/([^/]+)", "POST", _commit),
    )
    for pattern, method, act in routes:
        if handler.command == method and (found := re.fullmatch(pattern, path)):
            act(handler, *map(unquote, found.groups()))
            return True
    return False


def _account(handler: "Handler") -> Account | None:
    """Who asks; answered with 401 where nobody is known by the token."""
    sent = handler.headers.get("Authorization", "")
    for account in handler.hub.uploads.accounts:
        if sent == f"Bearer {account.token}":
            return account
    handler.fail(401, None)
    return None


def _writer(handler: "Handler", name: str) -> Account | None:
    """Who may write to a repository; answered with 403 where the token may not."""
    account = _account(handler)
    if account and (account.role != "write" or name.split("/", maxsplit=1)[0] not in {account.name, *account.orgs}):
        handler.fail(403, None)
        return None
    return account


def _who_am_i(handler: "Handler") -> None:
    if account := _account(handler):
        token = {"accessToken": {"displayName": "a token", "role": account.role}}
        orgs = [{"name": name} for name in account.orgs]
        handler.send_json({"type": "user", "name": account.name, "orgs": orgs, "auth": token})


def _create(handler: "Handler") -> None:
    asked = json.loads(handler.body)
    account = _account(handler)
    if account is None:
        return
    name = f"{asked['organization'] or account.name}/{asked['name']}"
    if _writer(handler, name) is None:
        return
    url = {"url": f"{handler.hub.url}/{name}", "name": name, "id": "1"}
    if handler.hub.find("model", name) is not None:
        handler.send_json(url, code=409)
        return
    handler.hub.uploads.created.append({**asked, "name": name})
    start = handler.hub.uploads.store(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n", ".gitattributes")
    handler.hub.replace(name, {".gitattributes": start}, is_private=asked.get("visibility") == "private")
    handler.send_json(url)


def _validate(handler: "Handler") -> None:
    """The checks of the Hub that a card of ours could fail."""
    text = json.loads(handler.body)["content"]
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    errors = [] if found else ["empty or missing yaml metadata in repo card"]
    values = yaml.safe_load(found[1]) if found else {}
    base = values.get("base_model")
    if base is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", str(base)):
        errors.append(f'"base_model" with value "{base}" is not valid. Use a model id from https://hf.co/models.')
    errors += [f'"{name}" is required' for name in ("license", "pipeline_tag") if not values.get(name)]
    handler.send_json({"errors": [{"message": text} for text in errors], "warnings": []}, code=400 if errors else 200)


def _repository(handler: "Handler", name: str) -> "Repository | None":
    if _writer(handler, name) is None:
        return None
    found = handler.hub.find("model", name)
    if found is None:
        handler.fail(404, "RepoNotFound")
    return found


def _preupload(handler: "Handler", name: str, revision: str) -> None:
    from tests.hub.server import LARGE

    repository = _repository(handler, name)
    if repository is None:
        return
    answers = []
    for file in json.loads(handler.body)["files"]:
        known = repository.files.get(file["path"])
        mode = "lfs" if Path(file["path"]).suffix in LARGE else "regular"
        answers.append(
            {
                "path": file["path"],
                "uploadMode": mode,
                "shouldIgnore": False,
                "oid": (known.sha256 if mode == "lfs" else known.git_sha1) if known else None,
            }
        )
    handler.send_json({"files": answers})


def _batch(handler: "Handler", name: str) -> None:
    if _repository(handler, name) is None:
        return
    objects = []
    for asked in json.loads(handler.body)["objects"]:
        is_here = (handler.hub.uploads.folder / asked["oid"]).is_file()
        place = {"upload": {"href": f"{handler.hub.content_url}/lfs/{asked['oid']}"}}
        objects.append({**asked, **({} if is_here else {"actions": place})})
    handler.send_json({"transfer": "basic", "objects": objects})


def _put(handler: "Handler", oid: str) -> None:
    if hashlib.sha256(handler.content).hexdigest() != oid:
        handler.fail(400, None)
        return
    handler.hub.uploads.store(handler.content)
    handler.send_json({})


def _commit(handler: "Handler", name: str, revision: str) -> None:
    repository = _repository(handler, name)
    if repository is None:
        return
    files = {path: file.path for path, file in repository.files.items()}
    for line in handler.body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "header":
            handler.hub.uploads.commits.append(value)
        elif item["key"] == "file":
            files[value["path"]] = handler.hub.uploads.store(base64.b64decode(value["content"]), ".file")
        elif item["key"] == "lfsFile":
            files[value["path"]] = handler.hub.uploads.folder / value["oid"]
        else:
            del files[value["path"]]
    commit = handler.hub.replace(name, files, is_private=repository.is_private)
    url = f"{handler.hub.url}/{name}/commit/{commit}"
    handler.send_json({"success": True, "commitOid": commit, "commitUrl": url})
