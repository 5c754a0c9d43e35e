"""TLS: what server and agent listen and call with. All that minici knows of `ssl` is here.

Python may have been built without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional, Union

from minici.config import AgentConfig, ServerConfig

try:
    import ssl

    _WANTS: tuple[type[OSError], ...] = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
    BROKEN: tuple[type[OSError], ...] = (ssl.SSLError,)  # what ends a connection
except ImportError:
    _WANTS = BROKEN = ()

if TYPE_CHECKING:
    Context = ssl.SSLContext

# How a socket that does not block says that there is nothing, or no room, now.
NOT_YET: tuple[type[OSError], ...] = (BlockingIOError, *_WANTS)


def server_context(certificate: Optional[Path], private_key: Optional[Path]) -> Optional[Context]:
    """Return the context for HTTPS, None for HTTP. Raises OSError if the files are no PEM pair."""
    if certificate is None:
        return None
    _need()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, private_key)
    return context


def listening_as(config: Union[ServerConfig, AgentConfig]) -> Optional[Context]:
    """Return `server_context` with the certificate of a configuration. Raises ConfigError."""
    try:
        return server_context(config.certificate, config.private_key)
    except OSError as error:
        what = "give a certificate and its private_key, both in PEM"
        raise config.error("certificate", f"it can't be used ({error}); {what}") from None


def client_context(only: Optional[Path] = None, also: Optional[Path] = None) -> Context:
    """Return a context that checks the other side by the authorities of the system, or by the
    one in `only`, and by the one in `also`. It takes time and memory to make. Raises OSError."""
    _need()
    context = ssl.create_default_context(cafile=only)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if also is not None:
        context.load_verify_locations(also)
    return context


def explain(error: object) -> str:
    """Return the sentence about a certificate if this error is about one."""
    return getattr(error, "verify_message", "")


def _need() -> None:
    if not _WANTS:
        raise OSError("this Python was built without the module ssl")
