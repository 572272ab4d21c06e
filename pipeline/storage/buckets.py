"""Buckets of object stores, through obstore: what is asked of them, how often, and what their errors mean.

A path in a bucket is a `upath.UPath` over obstore. Nothing is renamed there and nothing needs to be flushed: an object
is put whole, and seen whole or not at all. That it is put only where none is, or over one version of it, the store
sees to.
"""

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.addresses import public
from pipeline.errors import OutputError, RetryLater, UsageError

if TYPE_CHECKING:
    from obstore.store import S3Store
    from upath import UPath

ATTEMPTS = 3
"""How often a request is made before it has failed: object stores say 503 now and then."""

BACKOFF = timedelta(seconds=1)
"""The pause before the second attempt; the one before the third is one to two times as long."""

TIMEOUT = timedelta(seconds=60)
"""How long a request may take; none carries more than a part of an object."""

PART_BYTES = 8 * 2**20
"""Larger objects are put, and read from end to end, in such parts."""

CREDENTIALS_HOST = "169.254.169.254"
"""Who is asked for credentials, on Amazon's machines, where the environment has none."""

NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

T = TypeVar("T")


def open_address(address: str) -> "UPath":
    """The path behind `s3://BUCKET/KEY`.

    Raises:
        UsageError: It is another address, or packages are missing.
    """
    scheme, _, rest = address.partition("://")
    name, _, key = rest.partition("/")
    if scheme != "s3":
        raise UsageError(f"{public(address)}: results go to folders and to s3://BUCKET/KEY; give one of them")
    if not NAME.fullmatch(name) or not key.strip("/") or "?" in key:
        raise UsageError(f"{public(address)}: give s3://BUCKET/KEY; credentials are taken from the environment")
    try:
        from upath import UPath

        _use_obstore()
    except ImportError as error:
        raise UsageError(f"{address}: needs obstore and universal-pathlib; pip install 'eomt-batch[s3]'") from error
    return UPath(address.rstrip("/"), protocol="s3", **connection())


@lru_cache
def _use_obstore() -> None:
    """Let fsspec, through which upath asks, ask by obstore; once, as each time would make connections of its own."""
    from obstore.fsspec import register

    register("s3")


def endpoint() -> str:
    """Where S3 is, if it is not Amazon's."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")


def connection() -> dict[str, Any]:
    """How a bucket is asked. Who asks, obstore takes from the environment."""
    return {
        **({"endpoint": endpoint()} if endpoint() else {}),
        "client_options": {"timeout": TIMEOUT, "allow_http": endpoint().startswith("http://")},
        "retry_config": {
            "max_retries": ATTEMPTS - 1,
            "backoff": {"init_backoff": BACKOFF, "max_backoff": 4 * BACKOFF, "base": 2},
        },
    }


def pause(attempt: int) -> float:
    """Seconds after an attempt that failed, counted from 1."""
    return BACKOFF.total_seconds() * attempt


@lru_cache
def _store(name: str, endpoint: str, prefix: str = "") -> "S3Store":
    """One for all that is asked of a bucket, or below a key of it: it keeps its connections."""
    from obstore.store import S3Store

    return S3Store(name, prefix=prefix or None, **connection())


def store_and_key(path: "UPath") -> "tuple[S3Store, str]":
    """The bucket, and the key within it."""
    name, _, key = str(path).removeprefix("s3://").partition("/")
    return _store(name, endpoint()), key


def store_below(path: "UPath") -> "S3Store":
    """The bucket as if it began at a path."""
    name, _, key = str(path).removeprefix("s3://").partition("/")
    return _store(name, endpoint(), key)


def put(path: "UPath", content: Any) -> None:
    """Put an object: bytes, or what an open file has."""
    import obstore

    obstore.put(*store_and_key(path), content, chunk_size=PART_BYTES, max_concurrency=4)


def put_new(path: "UPath", text: str) -> str | None:
    """Put an object where none is; its version, or None where another one is there.

    Where the answer is lost, what is there may be our own.

    Raises:
        OutputError: The bucket may not be written.
    """
    import obstore
    from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError

    try:
        return str(_patiently(lambda: obstore.put(*store_and_key(path), text.encode(), mode="create"))["e_tag"])
    except AlreadyExistsError:
        return version(path) if read(path).decode() == text else None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise OutputError(f"{path.parent}: cannot be written ({_reason(error)}); check AWS_...") from error


def _patiently(ask: Callable[[], T]) -> T:
    """Make a request again that obstore does not, as it might have been done the first time: here that does no harm."""
    from obstore.exceptions import GenericError

    for attempt in range(1, ATTEMPTS):
        try:
            return ask()
        except GenericError as error:
            if was_patient(error):
                raise
            time.sleep(pause(attempt))
    return ask()


def was_patient(error: BaseException) -> bool:
    """Whether obstore has made a request more than once before it gave up."""
    return " retries, max_retries" in str(error)


def put_over(path: "UPath", text: str, old: str) -> str | None:
    """Put an object over one version of it; the new version, or None where that one is not there any more."""
    import obstore
    from obstore.exceptions import PreconditionError

    try:
        return str(obstore.put(*store_and_key(path), text.encode(), mode={"e_tag": old})["e_tag"])
    except (PreconditionError, FileNotFoundError):
        return None


def version(path: "UPath") -> str | None:
    """What tells an object from all that bear its name before and after; None where there is none."""
    import obstore

    try:
        return str(obstore.head(*store_and_key(path))["e_tag"])
    except FileNotFoundError:
        return None


def below(folder: "UPath") -> list[Any]:
    """Path, version and size of all objects below a key."""
    import obstore

    store, key = store_and_key(folder)
    return [found for some in obstore.list(store, f"{key}/") for found in some]


def read(path: "UPath") -> bytes:
    """A small object."""
    import obstore

    return bytes(obstore.get(*store_and_key(path)).bytes())


def stream(path: "UPath") -> Iterator[bytes]:
    """An object from end to end, a part at a time: no request takes longer, however large it is."""
    import obstore

    first = obstore.get(*store_and_key(path), options={"range": (0, PART_BYTES)})
    yield bytes(first.bytes())
    size = first.meta["size"]
    for start in range(PART_BYTES, size, PART_BYTES):
        yield read_part(path, start, min(PART_BYTES, size - start))


def read_part(path: "UPath", start: int, length: int) -> bytes:
    """Some bytes of an object; a negative start counts from its end."""
    import obstore

    if start < 0:
        return bytes(obstore.get(*store_and_key(path), options={"range": {"suffix": -start}}).bytes())[:length]
    return bytes(obstore.get_range(*store_and_key(path), start=start, length=length))


def remove_below(folder: "UPath") -> None:
    """Delete all objects below a key; those at its top go last, as they say what the others are."""
    keys = [found["path"] for found in below(folder)]
    _remove(store_and_key(folder)[0], sorted(keys, key=lambda key: (-key.count("/"), key)))


def remove(path: "UPath") -> None:
    """Delete an object, where it is there."""
    store, key = store_and_key(path)
    _remove(store, [key])


def _remove(store: "S3Store", keys: list[str]) -> None:
    import obstore

    for first in range(0, len(keys), 1000):  # as many as a request may name
        _patiently(partial(obstore.delete, store, keys[first : first + 1000]))


def check_reach(folder: "UPath") -> None:
    """Ask a bucket whether it is there and lets itself be listed.

    Raises:
        OutputError: It is not, or does not, or nobody knows who asks.
        RetryLater: It does not answer.
    """
    import obstore
    from obstore.exceptions import BaseError

    store, key = store_and_key(folder)
    try:
        next(obstore.list(store, f"{key}/"), None)  # the first page, however many there are
    except BaseError as error:
        told = explained(error)
        if CREDENTIALS_HOST in str(error):
            raise OutputError(f"{folder}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
        if told is None or not re.match(r"4\d\d ", _reason(error)):
            raise
        raise OutputError(
            f"{folder}: the bucket cannot be used ({_reason(error)}); check its name, AWS_REGION and credentials"
        ) from error


def explained(error: BaseException) -> RetryLater | None:
    """What an error of an object store means to a user; None for all others."""
    if not type(error).__module__.startswith("obstore"):
        return None
    return RetryLater(f"the object store gave way: {_reason(error)}; run the same command again")


def _reason(error: BaseException) -> str:
    """Status and code, or why there was no answer; the whole text has many lines, and may hold more than is public."""
    text = " ".join(str(error).split())
    status, code = re.search(r"status code: (\d+ [A-Za-z ]+)", text), re.search(r"<Code>(\w+)</Code>", text)
    if status:
        return f"{status[1].strip()}{f', {code[1]}' if code else ''}"
    host, kind = re.search(r"https?://[^/\s?]+", text), re.search(r"HttpError { kind: (\w+)", text)
    return f"{host[0] if host else 'it'} does not answer ({kind[1].lower() if kind else type(error).__name__})"


@contextmanager
def answering() -> Iterator[None]:
    """What is done within needs a store's answers: where they fail to come, a rerun may heal it.

    Raises:
        RetryLater: A store has not answered, or refused.
    """
    try:
        yield
    except Exception as error:
        told = explained(error)
        if told is None:
            raise
        raise told from error
