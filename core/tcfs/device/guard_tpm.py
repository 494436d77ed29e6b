"""The wrapping key sealed to this machine's TPM 2.0, under a policy over its PCRs.

Following the TPM 2.0 library specification: a storage primary from the owner hierarchy's template,
a sealed data object under it whose policy is PolicyPCR. The sealed blob stands in the envelope: no
other TPM loads it, and this one unseals it only while the chosen PCRs have the values they had.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tcfs.errors import AccessError, ConfigError, NotFoundError, UsageError
from tcfs.host.base import Entropy
from tcfs.ledger.strict import text

if TYPE_CHECKING:
    from tcfs.device.protection import Kind

TCTI_VARIABLE: Final = "TCFS_TPM_TCTI"
"""How to reach the TPM, as the TSS writes it, such as ``device:/dev/tpmrm0``."""
DEFAULT_TCTI: Final = "device:/dev/tpmrm0"
BANK: Final = "sha256"


class TpmGuard:
    """A random key, sealed.

    Args:
        environ: may say how to reach the TPM.
        pcrs: the registers of the SHA-256 bank that new keys are sealed to. 7 holds the state of
            secure boot; 0, 2 and 4 change with every firmware or boot loader update.
    """

    kind: Kind = "tpm"

    def __init__(self, environ: Mapping[str, str], pcrs: Sequence[int]) -> None:
        self._tcti = environ.get(TCTI_VARIABLE, "") or DEFAULT_TCTI
        if not pcrs or not all(0 <= pcr <= 23 for pcr in pcrs):
            raise UsageError("PCRs are numbers from 0 to 23", remedy="Such as: --pcrs 7")
        self._pcrs = tuple(sorted(set(pcrs)))

    def keep(self, entropy: Entropy) -> tuple[bytes, dict[str, Any]]:
        """See ``Guard``."""
        tpm = import_tpm()
        key = entropy.token(32)
        with connected(self._tcti) as esys, _primary(esys) as primary:
            with _policy_session(esys, self._pcrs, trial=True) as session:
                digest = esys.policy_get_digest(session)
            public = tpm.TPM2B_PUBLIC(
                publicArea=tpm.TPMT_PUBLIC(
                    type=tpm.TPM2_ALG.KEYEDHASH,
                    nameAlg=tpm.TPM2_ALG.SHA256,
                    # No USERWITHAUTH: the policy alone opens it, not an empty password.
                    objectAttributes=tpm.TPMA_OBJECT.FIXEDTPM | tpm.TPMA_OBJECT.FIXEDPARENT,
                    authPolicy=digest,
                    parameters=tpm.TPMU_PUBLIC_PARMS(
                        keyedHashDetail=tpm.TPMS_KEYEDHASH_PARMS(
                            scheme=tpm.TPMT_KEYEDHASH_SCHEME(scheme=tpm.TPM2_ALG.NULL)
                        )
                    ),
                )
            )
            sensitive = tpm.TPM2B_SENSITIVE_CREATE(
                tpm.TPMS_SENSITIVE_CREATE(data=tpm.TPM2B_SENSITIVE_DATA(key))
            )
            private, made, *_ = esys.create(
                parent_handle=primary, in_sensitive=sensitive, in_public=public
            )
            values = read_pcrs(esys, self._pcrs)
        return key, {
            "public": made.marshal().hex(),
            "private": private.marshal().hex(),
            "bank": BANK,
            "pcrs": {str(pcr): value.hex() for pcr, value in values.items()},
        }

    def find(self, params: Mapping[str, Any]) -> bytes:
        """See ``Guard``."""
        pcrs = _numbers(params.get("pcrs"))
        try:
            blob = bytes.fromhex(text(params.get("private"), "its private part", 4096))
            outer = bytes.fromhex(text(params.get("public"), "its public part", 4096))
        except ValueError:
            raise AccessError("what was sealed to the TPM is damaged") from None
        tpm = import_tpm()
        with connected(self._tcti) as esys, _primary(esys) as primary:
            try:
                public, _ = tpm.TPM2B_PUBLIC.unmarshal(outer)
                private, _ = tpm.TPM2B_PRIVATE.unmarshal(blob)
                handle = esys.load(parent_handle=primary, in_private=private, in_public=public)
            except tpm.TSS2_Exception:
                raise AccessError(
                    "this device's keys are sealed to the TPM of another machine",
                    remedy="A copied disk does not open elsewhere, as it should be. On this "
                    "machine: tcfs device enroll --new-identity --invite CODE",
                ) from None
            try:
                with _policy_session(esys, tuple(pcrs), trial=False) as session:
                    return bytes(esys.unseal(item_handle=handle, session1=session))
            except tpm.TSS2_Exception:
                now = read_pcrs(esys, tuple(pcrs))
                changed = [pcr for pcr, value in pcrs.items() if now.get(pcr) != value]
                raise _changed(changed) from None
            finally:
                esys.flush_context(handle)

    def forget(self, params: Mapping[str, Any]) -> None:
        """See ``Guard``: the TPM keeps nothing, the envelope had it all."""


def _changed(pcrs: Sequence[int]) -> AccessError:
    names = ", ".join(map(str, pcrs)) or "?"
    return AccessError(
        f"the TPM does not open this device's keys: PCR {names} changed since they were sealed",
        remedy="Firmware, boot loader or secure boot settings are not what they were. If that was "
        "you, boot as before, then: tcfs device protect passphrase; and seal again afterwards. "
        "Otherwise do not trust this machine.",
        details={"changed_pcrs": list(pcrs)},
    )


def _numbers(value: object) -> dict[int, bytes]:
    if not isinstance(value, dict) or not value:
        raise AccessError("what was sealed to the TPM is damaged")
    try:
        found = {int(pcr): bytes.fromhex(digest) for pcr, digest in value.items()}
    except (ValueError, TypeError):
        raise AccessError("what was sealed to the TPM is damaged") from None
    if not all(0 <= pcr <= 23 for pcr in found):
        raise AccessError("what was sealed to the TPM is damaged")
    return found


def import_tpm() -> Any:
    """The TSS. Raises ConfigError if it is not installed."""
    os.environ.setdefault("TSS2_LOG", "all+NONE")  # it writes to standard error by itself
    try:
        import tpm2_pytss
    except ImportError:
        raise ConfigError(
            "the TPM needs the package tpm2-pytss and the TSS libraries",
            remedy="Install libtss2-dev (Debian) or tpm2-tss, then: pip install 'tcfs[tpm]'",
        ) from None
    return tpm2_pytss


@contextmanager
def connected(tcti: str) -> Iterator[Any]:
    """A connection to the TPM. Raises ConfigError, NotFoundError."""
    tpm = import_tpm()
    try:
        esys = tpm.ESAPI(tcti)
    except (tpm.TSS2_Exception, ValueError, RuntimeError):
        raise NotFoundError(
            f"no TPM answers at {tcti}",
            remedy=f"Enable it in the firmware, or say where it is with {TCTI_VARIABLE}; its "
            "device is for members of the group tss.",
        ) from None
    try:
        yield esys
    finally:
        esys.close()


@contextmanager
def _primary(esys: Any) -> Iterator[Any]:
    import tpm2_pytss as tpm

    handle, *_ = esys.create_primary(
        in_sensitive=None, in_public="ecc256:aes128cfb", primary_handle=tpm.ESYS_TR.OWNER
    )
    try:
        yield handle
    finally:
        esys.flush_context(handle)


@contextmanager
def _policy_session(esys: Any, pcrs: tuple[int, ...], *, trial: bool) -> Iterator[Any]:
    import tpm2_pytss as tpm

    session = esys.start_auth_session(
        tpm_key=tpm.ESYS_TR.NONE,
        bind=tpm.ESYS_TR.NONE,
        session_type=tpm.TPM2_SE.TRIAL if trial else tpm.TPM2_SE.POLICY,
        symmetric=tpm.TPMT_SYM_DEF(algorithm=tpm.TPM2_ALG.NULL),
        auth_hash=tpm.TPM2_ALG.SHA256,
    )
    try:
        esys.policy_pcr(policy_session=session, pcr_digest=b"", pcrs=selection(pcrs))
        yield session
    finally:
        esys.flush_context(session)


def selection(pcrs: Sequence[int]) -> Any:
    """These registers of the SHA-256 bank."""
    import tpm2_pytss as tpm

    return tpm.TPML_PCR_SELECTION.parse(f"{BANK}:{','.join(map(str, pcrs))}")


def read_pcrs(esys: Any, pcrs: Sequence[int]) -> dict[int, bytes]:
    """The values of these registers now."""
    values: dict[int, bytes] = {}
    for pcr in pcrs:  # one at a time: a TPM answers at most eight at once
        _, _, digests = esys.pcr_read(selection((pcr,)))
        values[pcr] = bytes(digests[0])
    return values
