"""python -m tests.vectors.collect CIRCL WHEEL: takes the published vectors we use from others.

CIRCL is the folder of the Go module github.com/cloudflare/circl, WHEEL the wheel of the Python
package cryptography-vectors; README.md says what of them is whose. Only the parameter sets that M13
has are kept, and so many cases of each group that every kind is there.
"""

import gzip
import itertools
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KEY_CASES, KNOWN_ANSWERS = 4, 4
PREFIX = "cryptography_vectors/asymmetric"
FIELDS = ("tcId", "comment", "msg", "ctx", "sig", "result")
ONE_OF_A_KIND = ("bit flip", "iteration(s)", "SHAKE")  # of which a few stand for all
SIGN_CASES = 5


def acvp(folder: Path, parameter_set: str) -> Iterator[dict[str, Any]]:
    """The groups of a NIST ACVP sample: what is asked, joined with what is expected."""
    prompt, expected = (
        json.loads(gzip.decompress((folder / f"{name}.json.gz").read_bytes()))
        for name in ("prompt", "expectedResults")
    )
    answers = {test["tcId"]: test for group in expected["testGroups"] for test in group["tests"]}
    for group in prompt["testGroups"]:
        if group["parameterSet"] == parameter_set:
            group["tests"] = [test | answers[test["tcId"]] for test in group["tests"]]
            yield group


def known_answers(wheel: zipfile.ZipFile, name: str) -> Iterator[dict[str, str]]:
    """The records of a .rsp file: lines of `name = value`, one blank line between records."""
    for record in wheel.read(f"{PREFIX}/{name}").decode().strip().split("\n\n"):
        yield dict(line.split(" = ", 1) for line in record.splitlines() if " = " in line)


def wycheproof(path: Path) -> Iterator[dict[str, Any]]:
    """A group is a key and its cases; of a kind that has many, only the first is kept."""
    seen: set[str] = set()
    for group in json.loads(gzip.decompress(path.read_bytes()))["testGroups"]:
        kept = []
        for test in group["tests"]:
            kind = next((kind for kind in ONE_OF_A_KIND if kind in test["comment"]), None)
            if kind not in seen:
                kept.append({name: test[name] for name in FIELDS if name in test})
            if kind:
                seen.add(kind)
        if kept:
            key = {name: group[name] for name in ("publicKey", "privateSeed") if name in group}
            yield key | {"tests": kept}


def ml_kem(circl: Path, wheel: zipfile.ZipFile) -> dict[str, Any]:
    data = circl / "kem/mlkem/testdata"
    [keys] = acvp(data / "ML-KEM-keyGen-FIPS203", "ML-KEM-1024")
    [decapsulation] = (
        group
        for group in acvp(data / "ML-KEM-encapDecap-FIPS203", "ML-KEM-1024")
        if group["function"] == "decapsulation"
    )
    records = itertools.islice(known_answers(wheel, "MLKEM/kat_MLKEM_1024.rsp"), KNOWN_ANSWERS)
    return {
        "keyGen": keys["tests"][:KEY_CASES],
        "decapsulation": {"dk": decapsulation["dk"], "tests": decapsulation["tests"]},
        "knownAnswers": [
            {name: record[name] for name in ("d", "z", "pk", "sk", "ct", "ss", "ct_n", "ss_n")}
            for record in records
        ],
    }


def ml_dsa(circl: Path, wheel: zipfile.ZipFile) -> dict[str, Any]:
    [keys] = acvp(circl / "sign/mldsa/testdata/ML-DSA-keyGen-FIPS204", "ML-DSA-87")
    published = circl / "sign/schemes/testdata/wycheproof"
    records = known_answers(wheel, "MLDSA/kat_MLDSA_87_det_pure.rsp")
    signing = next(wycheproof(published / "mldsa_87_sign_seed_test.json.gz"))
    signing["tests"] = signing["tests"][:SIGN_CASES]
    return {
        "keyGen": keys["tests"][:KEY_CASES],
        "knownAnswers": [
            {name: record[name] for name in ("xi", "pk", "msg", "ctx")}
            | {"sig": record["sm"][: 2 * (int(record["smlen"]) - int(record["mlen"]))]}
            for record in itertools.islice(records, KNOWN_ANSWERS)
        ],
        "sign": signing,
        "verify": list(wycheproof(published / "mldsa_87_verify_test.json.gz")),
    }


def main(circl: str, wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name, taken in (
            ("ml_kem_1024", ml_kem(Path(circl), archive)),
            ("ml_dsa_87", ml_dsa(Path(circl), archive)),
        ):
            (HERE / f"{name}.json").write_text(json.dumps(taken, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
