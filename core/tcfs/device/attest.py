"""Making a TPM's quote: the attestation key of this machine, and what it signs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tcfs.device.guard_tpm import DEFAULT_TCTI, TCTI_VARIABLE, connected, selection
from tcfs.ledger.attestation import Required, fingerprint, qualifying


def attestation_key(environ: Mapping[str, str]) -> str:
    """The fingerprint of this machine's attestation key, for an admin's allow-list.

    The key is a primary of the endorsement hierarchy: the same after every start, and gone only
    with the TPM's endorsement seed.

    Raises:
        ConfigError, NotFoundError: there is no TPM, or nothing to reach it with.
    """
    with connected(_tcti(environ)) as esys, _key(esys) as (_, public):
        return fingerprint(public)


def quote(required: Required, sign_key: bytes, environ: Mapping[str, str]) -> dict[str, str]:
    """The ``attestation`` of a claim. Raises as ``attestation_key``."""
    with connected(_tcti(environ)) as esys, _key(esys) as (handle, public):
        made, signature = esys.quote(
            sign_handle=handle,
            pcr_select=selection(sorted(required.pcrs)),
            qualifying_data=qualifying(required.nonce, sign_key),
        )
        return {
            "key": public.hex(),
            "quote": bytes(made).hex(),
            "signature": signature.marshal().hex(),
        }


def _tcti(environ: Mapping[str, str]) -> str:
    return environ.get(TCTI_VARIABLE, "") or DEFAULT_TCTI


@contextmanager
def _key(esys: Any) -> Iterator[tuple[Any, bytes]]:
    import tpm2_pytss as tpm

    attributes = (
        tpm.TPMA_OBJECT.RESTRICTED
        | tpm.TPMA_OBJECT.SIGN_ENCRYPT
        | tpm.TPMA_OBJECT.FIXEDTPM
        | tpm.TPMA_OBJECT.FIXEDPARENT
        | tpm.TPMA_OBJECT.SENSITIVEDATAORIGIN
        | tpm.TPMA_OBJECT.USERWITHAUTH
    )
    template = tpm.TPM2B_PUBLIC(
        publicArea=tpm.TPMT_PUBLIC.parse(
            alg="ecc256:ecdsa-sha256:null", objectAttributes=attributes, nameAlg="sha256"
        )
    )
    handle, public, *_ = esys.create_primary(
        in_sensitive=None, in_public=template, primary_handle=tpm.ESYS_TR.ENDORSEMENT
    )
    try:
        yield handle, public.publicArea.marshal()
    finally:
        esys.flush_context(handle)
