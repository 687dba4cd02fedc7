"""The best shared pair of a group, `init="merge"` (our choice, the paper does not say).

With stacks `L = [B_1 … B_n]` and `R = [A_1; …; A_n]` the group's mean is `ΔW = (s/n)·L·R`. It is never formed:

    L = Q_L R_L ;  Rᵀ = Q_R R_R              thin QR
    (s/n)·R_L·R_Rᵀ = U Σ Vᵀ                  a core of n·r by n·r at most
    B' = Q_L U_r √Σ_r ;  A' = √Σ_r V_rᵀ Q_Rᵀ / s

The core has the singular values of the mean, so by Eckart and Young no rank-r pair is nearer to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .errors import TieError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["best_shared_pair"]


def best_shared_pair(A: Sequence[Tensor], B: Sequence[Tensor], scaling: float) -> tuple[Tensor, Tensor]:
    """The rank-r pair `(A', B')` for which `s·B'·A'` is nearest to the mean of `s·B_i·A_i` in Frobenius norm.

    A direction without energy gets a zero column in B' and a unit row in A', so that it can still learn.

    Args:
        A: n matrices (r, d_in).
        B: n matrices (d_out, r).
        scaling: s, not zero.

    Returns:
        A' of shape (r, d_in) and B' of shape (d_out, r), in the dtype and on the device of the first pair.

    Raises:
        TieError: no pair, or pairs of different shapes.

    Example:
        >>> import torch
        >>> A, B = torch.eye(2, 4), torch.ones(3, 2)
        >>> A_, B_ = best_shared_pair([A, A], [B, B], scaling=2.0)
        >>> torch.allclose(B_ @ A_, B @ A, atol=1e-6)
        True
    """
    if not A or len(A) != len(B):
        raise TieError(f"best_shared_pair needs as many A as B and at least one, got {len(A)} and {len(B)}")
    if len({a.shape for a in A}) > 1 or len({b.shape for b in B}) > 1 or A[0].shape[0] != B[0].shape[1]:
        raise TieError(f"all pairs must have one shape, got A {[*A[0].shape]} …, B {[*B[0].shape]} …; check share_by")
    if scaling == 0:
        raise TieError("scaling must not be 0, or no pair has any effect; check lora_alpha")
    n, r = len(A), A[0].shape[0]
    L = torch.cat([b.detach().double().cpu() for b in B], dim=1)  # (d_out, n·r)
    R = torch.cat([a.detach().double().cpu() for a in A], dim=0)  # (n·r, d_in)
    Q_L, R_L = torch.linalg.qr(L)
    Q_R, R_R = torch.linalg.qr(R.T)
    U, sigma, Vh = torch.linalg.svd((scaling / n) * R_L @ R_R.T, full_matrices=False)
    U, sigma, Vh = U[:, :r], sigma[:r], Vh[:r]
    root = sigma.sqrt()
    left, right = Q_L @ U, Vh @ Q_R.T  # (d_out, ≤ r), (≤ r, d_in)
    B_, A_ = left * root, root[:, None] * right / scaling
    dead = sigma <= 1e-12 * max(float(sigma[0]), torch.finfo(torch.float64).tiny)
    B_[:, dead] = 0.0
    A_[dead] = right[dead]
    if len(sigma) < r:  # fewer directions than ranks: d_in or d_out is below r
        B_ = torch.cat([B_, B_.new_zeros(B_.shape[0], r - len(sigma))], dim=1)
        A_ = torch.cat([A_, A_.new_zeros(r - len(sigma), A_.shape[1])], dim=0)
    return A_.to(A[0]), B_.to(B[0])
