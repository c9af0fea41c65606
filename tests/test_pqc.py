"""Two providers, each checked by the other, and a NIST key generation vector under both.

An expanded ML-DSA secret key carries SHAKE256(public key), so a short field of the published vector
pins the whole key."""

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA87PrivateKey

from m13 import mldsa_expand, pqc
from m13.errors import UsageError

PROVIDERS = [pqc.CryptographyProvider(), pqc.PqcryptoProvider()]
EACH = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda p: p.name)
PAIRS = pytest.mark.parametrize(
    ("ours", "theirs"),
    [(a, b) for a in PROVIDERS for b in PROVIDERS],
    ids=lambda p: p.name,
)
CONTEXT = b"M13-HS-v2"
MESSAGE = bytes(range(64))

# ACVP ML-DSA-keyGen, ML-DSA-87, tcId 52 of the sample published for the draft standard, whose first
# hash lacks the two parameter bytes of the final one: seed; rho, K and tr of the secret key
DRAFT_SEED = "F5997661A932F275A3AAD01F9CCE12EC32F0B9BCC63B7A86D1A33B4375A0F980"
DRAFT_SECRET_KEY_HEAD = (
    "B730C5F88724102F89EAAF7EB8FF77D18A320A8DAF8D6C30D8A7BC21C5669C74"
    "EA6208F60CB2D8A0BCE7585CF9DC53F305222748B5CE5E5891FD978F656ED0E0"
    "9D108285258D3214842B9B4D6FD0CEE26E5DBB598702EDCBF294D7100A01FE66"
    "1B17716DD87ABCA228A453729E7CAED305D250F8473E59B95FD713F6FBD2943C"
)


def test_expansion_of_a_hashed_seed_is_nists():
    hashed = hashlib.shake_256(bytes.fromhex(DRAFT_SEED)).digest(128)
    public_key, secret_key = mldsa_expand.expand_hashed(hashed)
    assert secret_key[:128].hex().upper() == DRAFT_SECRET_KEY_HEAD
    assert hashlib.shake_256(public_key).digest(64) == secret_key[64:128]


@pytest.mark.parametrize("number", range(8))
def test_expansion_of_a_seed_is_openssls_and_signs_for_it(number):
    seed = hashlib.sha256(bytes([number])).digest()
    public_key, secret_key = mldsa_expand.expand(seed)
    theirs = MLDSA87PrivateKey.from_seed_bytes(seed).public_key()
    assert (public_key, len(secret_key)) == (theirs.public_bytes_raw(), 4896)
    theirs.verify(PROVIDERS[1].sign(secret_key, MESSAGE, CONTEXT), MESSAGE, CONTEXT)


@PAIRS
def test_secret_encapsulated_by_one_is_decapsulated_by_the_other(ours, theirs):
    decapsulation_key, encapsulation_key = ours.kem_generate()
    shared, ciphertext = theirs.kem_encapsulate(encapsulation_key)
    assert ours.kem_decapsulate(decapsulation_key, ciphertext) == shared
    assert len(encapsulation_key) == pqc.ENCAPSULATION_KEY_BYTES
    assert (len(shared), len(ciphertext)) == (32, pqc.CIPHERTEXT_BYTES)


@EACH
def test_forged_ciphertext_gives_another_secret_and_always_the_same(provider):
    decapsulation_key, encapsulation_key = provider.kem_generate()
    shared, ciphertext = provider.kem_encapsulate(encapsulation_key)
    forged = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    secrets = {provider.kem_decapsulate(decapsulation_key, forged) for _ in range(2)}
    assert len(secrets) == 1
    assert shared not in secrets


@EACH
@pytest.mark.parametrize(
    "key", [b"", bytes(1567), bytes(1569), b"\xff" * 1568], ids=["empty", "short", "long", "range"]
)
def test_bad_encapsulation_key_is_refused(provider, key):
    with pytest.raises(ValueError, match="key"):
        provider.kem_encapsulate(key)


@PAIRS
def test_signature_of_one_verifies_at_the_other_from_the_same_seed(ours, theirs):
    seed = ours.sign_generate()
    signing_key, public_key = ours.sign_load(seed)
    assert theirs.sign_load(seed)[1] == public_key
    signature = ours.sign(signing_key, MESSAGE, CONTEXT)
    assert (len(public_key), len(signature)) == (pqc.PUBLIC_KEY_BYTES, pqc.SIGNATURE_BYTES)
    assert theirs.verify(public_key, MESSAGE, CONTEXT, signature)


@EACH
def test_signing_is_hedged(provider):
    signing_key, _ = provider.sign_load(provider.sign_generate())
    assert provider.sign(signing_key, MESSAGE, CONTEXT) != provider.sign(
        signing_key, MESSAGE, CONTEXT
    )


@EACH
def test_verify_answers_no_to_whatever_differs(provider):
    signing_key, public_key = provider.sign_load(provider.sign_generate())
    signature = provider.sign(signing_key, MESSAGE, CONTEXT)
    other_key = provider.sign_load(provider.sign_generate())[1]
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    table = [
        ("key", other_key, MESSAGE, CONTEXT, signature),
        ("short key", public_key[:-1], MESSAGE, CONTEXT, signature),
        ("message", public_key, MESSAGE[:-1], CONTEXT, signature),
        ("context", public_key, MESSAGE, b"M13-HS-v1", signature),
        ("no context", public_key, MESSAGE, b"", signature),
        ("signature", public_key, MESSAGE, CONTEXT, flipped),
        ("short signature", public_key, MESSAGE, CONTEXT, signature[:-1]),
        ("long signature", public_key, MESSAGE, CONTEXT, signature + b"\0"),
        ("no signature", public_key, MESSAGE, CONTEXT, b""),
    ]
    assert [row[0] for row in table if provider.verify(*row[1:])] == []


def test_choose_prefers_cryptography_and_names_what_it_does_not_know():
    assert pqc.choose().name == "cryptography"
    assert pqc.choose("pqcrypto").name == "pqcrypto"
    with pytest.raises(UsageError, match="'openssl': use auto, cryptography or pqcrypto"):
        pqc.choose("openssl")


def test_choose_falls_back_when_openssl_has_no_lattices(monkeypatch):
    def without(_):
        raise ImportError("mldsa")

    monkeypatch.setattr(pqc.CryptographyProvider, "__init__", without)
    assert pqc.choose().name == "pqcrypto"
    with pytest.raises(pqc.HostError, match="no post-quantum provider"):
        pqc.choose("cryptography")


def test_hkdf_known_answer_and_rfc_5869_by_hand():
    salt, secret, info = bytes(range(32)), b"\x11" * 32, b"M13-PQC-SESSION-KEY-v1"
    extracted = hmac.digest(salt, secret, "sha512")
    by_hand = hmac.digest(extracted, info + b"\x01", "sha512")[:32]
    key = pqc.hkdf(salt, secret, info)
    assert key == by_hand
    assert key.hex() == "0e1cb57b893e740558dbc2be4536f077ebcef055b763e2895a9d81b29638d2c8"
    pqc.wipe(key)
    assert key == bytes(32)
