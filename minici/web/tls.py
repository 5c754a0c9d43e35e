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


def listening(certificate: Optional[Path], private_key: Optional[Path]) -> Optional[Context]:
    """What to serve HTTPS with, None for HTTP. Raises OSError if the files are no pair in PEM."""
    if certificate is None:
        return None
    _need()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, private_key)
    return context


def listening_as(config: Union[ServerConfig, AgentConfig]) -> Optional[Context]:
    """`listening` with the certificate of a configuration. Raises ConfigError."""
    try:
        return listening(config.certificate, config.private_key)
    except OSError as error:
        what = "give a certificate and its private_key, both in PEM"
        raise config.error("certificate", f"it can't be used ({error}); {what}") from None


def calling(only: Optional[Path] = None, also: Optional[Path] = None) -> Context:
    """What the other side's certificate is checked by: the authorities of the system, or `only`
    one, and `also` another. It takes time and memory to make. Raises OSError."""
    _need()
    context = ssl.create_default_context(cafile=only)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if also is not None:
        context.load_verify_locations(also)
    return context


def complaint(error: object) -> str:
    """What is wrong with a certificate, if that is what this error says."""
    return getattr(error, "verify_message", "")


def _need() -> None:
    if not _WANTS:
        raise OSError("this Python was built without the module ssl")
