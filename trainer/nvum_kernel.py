"""The kernel of the NVUM step: memory rows, loss and gradient of a batch in one launch.

Equations: `trainer.nvum`. A program takes `BLOCK_B` rows of the batch with all their outputs:

    reads     index, permutation; by their help the old memory rows and the teacher's logits, own and partner's;
              the student's logits, targets, mask
    computes  new rows, mixup, cross-entropy, regulariser, gradient
    writes    current rows and their marks, gradient [B, C], four partial sums

- A row's mixup partner is computed once more by the program that needs it, from the previous buffer, which nobody
  writes. So programs never wait for one another.
- Sums are the same bits each time: every program stores its own, and the one that arrives last (an integer counter)
  adds them up by program number, whichever it is.

Shapes in names: B rows of a program, C outputs (padded to a power of two), N rows of the pack, P programs; a 2 marks
the partner's.
"""

import triton
import triton.language as tl


@triton.jit
def remembered_rows(old_BC, teacher_BC, shift_C, decay, fresh_share, real_BC):  # type: ignore[no-untyped-def]
    """Return rows after the update, the old ones where a logit is not finite; and which were updated, int1 [B]."""
    updated_BC = decay * old_BC + fresh_share * (teacher_BC - shift_C[None, :])
    unfit_BC = real_BC & ~(tl.abs(updated_BC) < float("inf"))
    is_fit_B = tl.sum(unfit_BC.to(tl.int32), axis=1) == 0
    return tl.where(is_fit_B[:, None], updated_BC, old_BC), is_fit_B


@triton.jit
def sigmoid_and_kin(x):  # type: ignore[no-untyped-def]
    """Return sigmoid(x), its derivative, and log(1 + exp(-|x|)), each with its full precision for any x.

    log(1 + e) is log(u) e / (u - 1) with u = 1 + e: right also where e is below the resolution of u.
    """
    e = tl.exp(-tl.abs(x))
    u = 1.0 + e
    is_tiny = u == 1.0
    log1p = tl.where(is_tiny, e, tl.log(u) * (e / tl.where(is_tiny, 1.0, u - 1.0)))
    return tl.where(x >= 0, 1.0, e) / u, e / (u * u), log1p


# B and N differ from run to run, B in an epoch's last step too: no kernel of its own for a multiple of 16, or for 1.
@triton.jit(do_not_specialize=["batch_size", "num_rows"])  # type: ignore[untyped-decorator]
def nvum_kernel(  # type: ignore[no-untyped-def]
    logits_ptr, teacher_ptr, targets_ptr, mask_ptr, index_ptr, perm_ptr, log_prior_ptr, previous_ptr,  # read
    current_ptr, touched_ptr, arrivals_ptr, partials_ptr, grad_ptr, sums_ptr, counts_ptr,  # written
    batch_size, num_rows, lam, decay, fresh_share, temperature, reg_weight, low, high, entry_share, term_share,
    NUM_OUTPUTS: tl.constexpr, ELEMENTWISE: tl.constexpr, MIXES: tl.constexpr, LAM_IS_POINTER: tl.constexpr,
    BLOCK_B: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_P: tl.constexpr,
):  # fmt: skip
    """Compute one tile of rows; the last program to finish adds up the sums of all."""
    program, num_programs = tl.program_id(0), tl.num_programs(0)
    row_B = program * BLOCK_B + tl.arange(0, BLOCK_B)
    col_C = tl.arange(0, BLOCK_C)
    in_batch_B = row_B < batch_size
    is_output_C = col_C < NUM_OUTPUTS
    inside_BC = in_batch_B[:, None] & is_output_C[None, :]
    entry_BC = row_B.to(tl.int64)[:, None] * NUM_OUTPUTS + col_C[None, :]

    # All loads come first, so that only those wait for one another whose address is a loaded index.
    index_B = tl.load(index_ptr + row_B, mask=in_batch_B, other=-1).to(tl.int64)
    if MIXES:
        perm_B = tl.load(perm_ptr + row_B, mask=in_batch_B, other=-1).to(tl.int64)
        share = tl.load(lam).to(tl.float32) if LAM_IS_POINTER else lam
    weight_BC = tl.load(mask_ptr + entry_BC, mask=inside_BC, other=0).to(tl.float32)
    logits_BC = tl.load(logits_ptr + entry_BC, mask=inside_BC, other=0.0).to(tl.float32)
    targets_BC = tl.load(targets_ptr + entry_BC, mask=inside_BC, other=0.0).to(tl.float32)
    teacher_BC = tl.load(teacher_ptr + entry_BC, mask=inside_BC, other=0.0).to(tl.float32)
    shift_C = temperature * tl.load(log_prior_ptr + col_C, mask=is_output_C, other=0.0).to(tl.float32)
    counts_B = (index_B >= 0) & (index_B < num_rows)
    own_BC = counts_B[:, None] & is_output_C[None, :]
    slot_BC = index_B[:, None] * NUM_OUTPUTS + col_C[None, :]
    old_BC = tl.load(previous_ptr + slot_BC, mask=own_BC, other=0.0)
    if MIXES:
        in_reach_B = (perm_B >= 0) & (perm_B < batch_size)
        index_B2 = tl.load(index_ptr + perm_B, mask=in_reach_B, other=-1).to(tl.int64)
        has_partner_B = (index_B2 >= 0) & (index_B2 < num_rows)
        partner_BC = has_partner_B[:, None] & is_output_C[None, :]
        entry_BC2 = perm_B[:, None] * NUM_OUTPUTS + col_C[None, :]
        slot_BC2 = index_B2[:, None] * NUM_OUTPUTS + col_C[None, :]
        teacher_BC2 = tl.load(teacher_ptr + entry_BC2, mask=partner_BC, other=0.0).to(tl.float32)
        old_BC2 = tl.load(previous_ptr + slot_BC2, mask=partner_BC, other=0.0)

    # Memory: the own row, and the partner's as its own program computes it.
    new_BC, is_fit_B = remembered_rows(old_BC, teacher_BC, shift_C, decay, fresh_share, own_BC)
    written_B = counts_B & is_fit_B
    q_BC = new_BC
    if MIXES:
        new_BC2, _ = remembered_rows(old_BC2, teacher_BC2, shift_C, decay, fresh_share, partner_BC)
        q_BC = tl.where(has_partner_B[:, None], share * new_BC + (1.0 - share) * new_BC2, new_BC)
    tl.store(current_ptr + slot_BC, new_BC, mask=written_B[:, None] & is_output_C[None, :])
    tl.store(touched_ptr + index_B, tl.full([BLOCK_B], 1, tl.uint8), mask=written_B)

    # Cross-entropy, from -log sigmoid(z) = log(1 + exp(-|z|)) - min(z, 0).
    counted_BC = (weight_BC != 0.0) & counts_B[:, None]
    z_BC = tl.where(counted_BC, logits_BC, 0.0)
    y_BC = tl.where(counted_BC, targets_BC, 0.0)
    p_BC, slope_BC, log1p_BC = sigmoid_and_kin(z_BC)
    bce_BC = (1.0 - y_BC) * z_BC - (tl.where(z_BC < 0, z_BC, 0.0) - log1p_BC)
    bce_BC = tl.where(counted_BC, weight_BC * bce_BC, 0.0)

    # Regulariser, from log(1 - sigmoid(x)) = -(max(x, 0) + log(1 + exp(-|x|))).
    clamped_BC = tl.where(p_BC < low, low, tl.where(p_BC > high, high, p_BC))
    slope_BC = tl.where((p_BC >= low) & (p_BC <= high), slope_BC, 0.0)
    x = tl.where(counted_BC, q_BC * clamped_BC, 0.0)
    is_term = counted_BC
    if not ELEMENTWISE:
        x = tl.sum(x, axis=1)
        is_term = counts_B
    pull, _, log1p = sigmoid_and_kin(x)
    terms = tl.where(is_term, -(tl.where(x > 0, x, 0.0) + log1p), 0.0)
    if not ELEMENTWISE:
        pull = pull[:, None]
    grad_BC = weight_BC * (p_BC - y_BC) * entry_share - (reg_weight * term_share) * (pull * q_BC * slope_BC)
    tl.store(grad_ptr + entry_BC, tl.where(counted_BC, grad_BC, 0.0), mask=inside_BC)

    # Sums of this program. An index beyond the memory is nobody's row: the loss says so by not being a number.
    bce = tl.sum(tl.sum(bce_BC, axis=1), axis=0)
    num_beyond = tl.sum((in_batch_B & (index_B >= num_rows)).to(tl.int32), axis=0)
    if ELEMENTWISE:
        terms = tl.sum(terms, axis=1)
    num_skipped = tl.sum((in_batch_B & (index_B < 0)).to(tl.int32), axis=0)
    num_nonfinite = tl.sum((counts_B & ~is_fit_B).to(tl.int32), axis=0)
    tl.store(partials_ptr + program, tl.where(num_beyond > 0, float("nan"), bce))
    tl.store(partials_ptr + num_programs + program, tl.sum(terms, axis=0))
    tl.store(partials_ptr + 2 * num_programs + program, num_skipped.to(tl.float32))
    tl.store(partials_ptr + 3 * num_programs + program, num_nonfinite.to(tl.float32))

    # Sums of all programs. The barrier puts all threads' stores before the one thread's release; .cg loads come from
    # the cache that all multiprocessors share.
    tl.debug_barrier()
    arrived = tl.atomic_add(arrivals_ptr, 1, sem="acq_rel", scope="gpu")
    if arrived == num_programs - 1:
        part_P = tl.arange(0, BLOCK_P)
        is_part_P = part_P < num_programs
        parts_ptr = partials_ptr + part_P
        bce_P = tl.load(parts_ptr, mask=is_part_P, other=0.0, cache_modifier=".cg")
        reg_P = tl.load(parts_ptr + num_programs, mask=is_part_P, other=0.0, cache_modifier=".cg")
        skipped_P = tl.load(parts_ptr + 2 * num_programs, mask=is_part_P, other=0.0, cache_modifier=".cg")
        nonfinite_P = tl.load(parts_ptr + 3 * num_programs, mask=is_part_P, other=0.0, cache_modifier=".cg")
        bce_mean = tl.sum(bce_P, axis=0) * entry_share
        reg_mean = tl.sum(reg_P, axis=0) * term_share
        tl.store(sums_ptr, bce_mean + reg_weight * reg_mean)
        tl.store(sums_ptr + 1, bce_mean)
        tl.store(sums_ptr + 2, reg_mean)
        tl.store(counts_ptr, tl.sum(skipped_P.to(tl.int64), axis=0))
        tl.store(counts_ptr + 1, tl.sum(nonfinite_P.to(tl.int64), axis=0))
        tl.store(arrivals_ptr, 0)
