"""m13.pqc with both its providers against published vectors (README.md says whose).

Encapsulation and signing draw their own randomness, as they must, so their outputs cannot be
compared; the published other half of each is: what we encapsulate, the published key decapsulates,
and what we sign under a published seed, the published public key verifies.
"""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM1024PrivateKey

from m13 import mldsa_expand, pqc

HERE = Path(__file__).parent
ML_KEM = json.loads((HERE / "ml_kem_1024.json").read_text())
ML_DSA = json.loads((HERE / "ml_dsa_87.json").read_text())
PROVIDERS = [pqc.CryptographyProvider(), pqc.PqcryptoProvider()]
EACH = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)
# FIPS 204 allows 255 bytes; the pqcrypto package refuses the last two. Ours have 9.
CONTEXT_BYTES_MAX = {"cryptography": 255, "pqcrypto": 253}
VERIFICATIONS = [
    (group["publicKey"], case) for group in ML_DSA["verify"] for case in group["tests"]
]


def hexadecimal(case, *names):
    return tuple(bytes.fromhex(case[name]) for name in names)


def decapsulation_key(provider, case, expanded):
    """OpenSSL takes a key as its seed, the other provider as FIPS 203 expands it."""
    if provider.name == "cryptography":
        return MLKEM1024PrivateKey.from_seed_bytes(bytes.fromhex(case["d"] + case["z"]))
    return bytes.fromhex(case[expanded])


def test_ml_kem_keys_are_nists():
    for case in ML_KEM["keyGen"]:
        encapsulation_key = bytes.fromhex(case["ek"])
        key = decapsulation_key(PROVIDERS[0], case, "dk")
        assert key.public_key().public_bytes_raw() == encapsulation_key
        assert bytes.fromhex(case["dk"])[1536:3104] == encapsulation_key  # FIPS 203, algorithm 16


@EACH
def test_what_is_encapsulated_nists_keys_decapsulate(provider):
    for case in ML_KEM["keyGen"]:
        shared, ciphertext = provider.kem_encapsulate(bytes.fromhex(case["ek"]))
        for owner in PROVIDERS:
            key = decapsulation_key(owner, case, "dk")
            assert owner.kem_decapsulate(key, ciphertext) == shared


@EACH
def test_decapsulation_gives_the_known_secrets_also_of_a_false_ciphertext(provider):
    for case in ML_KEM["knownAnswers"]:
        key = decapsulation_key(provider, case, "sk")
        true, secret, false, rejection = hexadecimal(case, "ct", "ss", "ct_n", "ss_n")
        assert provider.kem_decapsulate(key, true) == secret
        assert provider.kem_decapsulate(key, false) == rejection


def test_decapsulation_with_an_expanded_key_is_nists():
    group = ML_KEM["decapsulation"]
    key = bytes.fromhex(group["dk"])
    for case in group["tests"]:
        ciphertext, secret = hexadecimal(case, "c", "k")
        assert PROVIDERS[1].kem_decapsulate(key, ciphertext) == secret, case["tcId"]


@EACH
def test_ml_dsa_keys_are_nists(provider):
    for case in ML_DSA["keyGen"]:
        seed, public_key, secret_key = hexadecimal(case, "seed", "pk", "sk")
        assert provider.sign_load(seed)[1] == public_key
        assert mldsa_expand.expand(seed) == (public_key, secret_key)


@EACH
def test_known_signatures_verify_under_their_context_only(provider):
    for case in ML_DSA["knownAnswers"]:
        seed, public_key, message, context, signature = hexadecimal(
            case, "xi", "pk", "msg", "ctx", "sig"
        )
        assert provider.sign_load(seed)[1] == public_key
        assert provider.verify(public_key, message, context, signature)
        assert not provider.verify(public_key, message, context[:-1], signature)
        assert not provider.verify(public_key, message + b"\0", context, signature)


@EACH
def test_what_is_signed_under_a_published_seed_its_public_key_verifies(provider):
    signing_key, public_key = provider.sign_load(bytes.fromhex(ML_DSA["sign"]["privateSeed"]))
    for case in ML_DSA["sign"]["tests"]:
        message, context = bytes.fromhex(case["msg"]), bytes.fromhex(case.get("ctx", ""))
        if len(context) > CONTEXT_BYTES_MAX[provider.name]:
            with pytest.raises(ValueError, match=r"[Cc]ontext"):
                provider.sign(signing_key, message, context)
            continue
        assert provider.verify(public_key, message, context, bytes.fromhex(case["sig"]))
        ours = provider.sign(signing_key, message, context)
        assert PROVIDERS[0].verify(public_key, message, context, ours), case["comment"]


@EACH
@pytest.mark.parametrize(("key", "case"), VERIFICATIONS, ids=[c["tcId"] for _, c in VERIFICATIONS])
def test_verification_is_as_published(provider, key, case):
    public_key, message, signature = bytes.fromhex(key), *hexadecimal(case, "msg", "sig")
    context = bytes.fromhex(case.get("ctx", ""))
    verified = provider.verify(public_key, message, context, signature)
    possible = len(context) <= CONTEXT_BYTES_MAX[provider.name]
    assert verified == (possible and case["result"] == "valid"), case["comment"]
