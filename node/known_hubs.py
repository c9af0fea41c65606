"""The hubs a node trusts: lines "HOST:PORT SHA256:..." in a file, as ssh keeps its known hosts."""

from pathlib import Path

from m13.endpoint import with_port
from m13.errors import ConfigurationError
from m13.identity import parse_fingerprint

DEFAULT_PATH = Path("/etc/m13/known_hubs")


def load(path: Path, host: str, port: int) -> list[str]:
    """Fingerprints pinned for HOST:PORT, none when the file does not exist.

    Every line is checked, also those of other hubs: a typing error must not pass for "unknown".
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not a text file") from error
    pins = []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.partition("#")[0].split()
        if not fields:
            continue
        try:
            name, pin = fields
            listed_host, _, listed_port = name.rpartition(":")
            parse_fingerprint(pin)
            listed_host = listed_host.removeprefix("[").removesuffix("]").lower()
            matches = (listed_host, int(listed_port)) == (host.lower(), port)
        except ValueError:
            raise ConfigurationError(
                f"{path}: line {number}: expected 'HOST:PORT SHA256:...', got '{line.strip()}'"
            ) from None
        if matches:
            pins.append(pin)
    return pins


def how_to_pin(path: Path, host: str, port: int, fingerprint: str) -> str:
    """What to do about a hub that is not pinned."""
    place = with_port(host, port)
    return (
        f"the hub at {place} has the key {fingerprint}; when 'm13 fingerprint' on the hub"
        f" says the same, pin it: echo '{place} {fingerprint}' >> {path}"
    )
