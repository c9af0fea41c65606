from collections.abc import Iterable

def reduce(
    *,
    permitted: Iterable[str] = ...,
    effective: Iterable[str] = ...,
    bounding: Iterable[str] = ...,
) -> None: ...
