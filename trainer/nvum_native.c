/*
 * The NVUM step on a CPU: memory rows, loss and gradient of a batch in one call of one thread.
 *
 * Equations: `nvum.py`. The same bits on every processor and for any number of threads: each operation is rounded by
 * itself (compiled with -ffp-contract=off), exp and log1p are polynomials of our own, and sums are taken in a fixed
 * order, in double precision.
 *
 * Plain C without Python's headers, called through ctypes (which lets go of the GIL).
 */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef FOR_EVERY_CPU /* tests compile the file for one processor at a time */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define FOR_EVERY_CPU __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EVERY_CPU
#endif
#endif

#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline)) /* so that each clone is compiled whole for its CPU */
#define FETCH(address, writes) __builtin_prefetch(address, writes)
typedef float Wide __attribute__((vector_size(32), aligned(4), may_alias)); /* values of a row that go together */
#else
#define INLINE static inline
#define FETCH(address, writes)
typedef float Wide;
#endif

enum {
    WIDE = sizeof(Wide) / sizeof(float),
    AHEAD = 16, /* rows of the batch between asking for a row of the memory and using it */
    TILE = 512, /* entries that are worked on together, in whole rows; a row has no more */
    LANES = 16, /* running sums side by side; entry i of a tile goes to lane i % LANES */
    BEYOND = 1, /* what the step returns where an index is beyond the memory, */
    NO_ROOM = 2 /* and where there is none for the batch's rows */
};

/* What the step is given, its settings (see `NVUMConfig`), and what it gives back; B rows of the batch, C outputs, N rows
 * of the memory. */
typedef struct {
    const float *logits, *teacher, *targets; /* [B, C] */
    const void *mask;                        /* [B, C]: bytes of 0 or 1, or floats that weigh the cross-entropy */
    const int64_t *index, *perm;             /* [B]; perm may be NULL: no mixup */
    const float *log_prior;                  /* [C] */
    const float *previous;                   /* [N, C] */
    float *current;                          /* [N, C] */
    uint8_t *touched;                        /* [N] */
    float *grad;                             /* [B, C] */
    float *loss, *bce, *reg;                 /* scalars, as is what follows */
    int64_t *num_skipped, *num_nonfinite;
    int64_t batch_size, num_outputs, num_rows;
    double entry_share, term_share;
    float lam, partners_share, decay, fresh_share, temperature, reg_weight, low, high;
    int32_t elementwise, mask_holds_weights;
} Step;

/* What is known of a tile's entries. The loops over them are short and many, so that a processor has several rounds of one
 * in flight. */
typedef struct {
    float q[TILE], weight[TILE], z[TILE], e[TILE], residual[TILE], slope[TILE], x[TILE], pull[TILE], term[TILE];
} Tile;

/* Running sums of the terms. */
typedef struct {
    double bce[LANES], reg[LANES];
} Sums;

INLINE uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* exp(t) for t <= 0; 0 where that is below the smallest normal number, NaN for NaN. 2^n exp(r) with |r| <= log(2) / 2;
 * adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits. */
INLINE float exp_of_negative(float t) {
    float shifted = t * 0x1.715476p+0f + 0x1.8p+23f, n = shifted - 0x1.8p+23f;
    float r = (t - n * 0x1.63p-1f) - n * -0x1.bd0106p-13f; /* log(2) in two parts; n times the first is exact */
    float r2 = r * r;
    float high = (0x1.123a6cp-7f * r + 0x1.5558f4p-5f) + 0x1.6a2352p-10f * r2;
    float q = (0x1.555490p-3f * r + 0x1.fffffcp-2f) + r2 * high;
    float power = (1.0f + (r + r2 * q)) * from_bits((bits_of(shifted) << 23) + 0x3f800000u);
    return t < -0x1.5d589ep+6f ? 0.0f : power;
}

/* log(1 + e) for 0 <= e <= 1, as 2 artanh(s), s = e / (2 + e): with full precision for the smallest e too. */
INLINE float log1p_of(float e) {
    float s = e / (2.0f + e), v = s * s;
    float high = (0x1.1ed7c2p-2f * v + 0x1.1ebd0cp-2f) * (v * v);
    return s * (2.0f + v * ((0x1.99d208p-2f * v + 0x1.555502p-1f) + high));
}

/* Of a number x, with e = exp(-|x|): sigmoid(x), its derivative, and log(1 + e), each with its full precision. */
INLINE void sigmoid_and_kin(float x, float e, float *sigmoid, float *slope, float *log1p) {
    float share = 1.0f / (1.0f + e), small = e * share;
    *sigmoid = x >= 0.0f ? share : small;
    *slope = small * share;
    *log1p = log1p_of(e);
}

/* Where the values that go together begin, `first` or so that the last of a row of n is among them. */
INLINE int64_t place(int64_t first, int64_t n) { return first + WIDE <= n ? first : n - WIDE; }

/* Copy a row of n values; the last few may be copied twice. */
INLINE void copy_row(float *restrict to, const float *restrict from, int64_t n) {
    if (n < WIDE) {
        for (int64_t c = 0; c < n; c++) to[c] = from[c];
        return;
    }
    for (int64_t first = 0; first < n; first += WIDE) {
        int64_t c = place(first, n);
        *(Wide *)(to + c) = *(const Wide *)(from + c);
    }
}

/* Write a memory row after its update: decay * old + fresh_share * (teacher - shift). */
INLINE void update_row(float *restrict row, const float *restrict old, const float *restrict teacher,
                       const float *restrict shift, int64_t n, const Step *s) {
    float decay = s->decay, fresh_share = s->fresh_share;
    if (n < WIDE) {
        for (int64_t c = 0; c < n; c++) row[c] = decay * old[c] + fresh_share * (teacher[c] - shift[c]);
        return;
    }
    for (int64_t first = 0; first < n; first += WIDE) {
        int64_t c = place(first, n);
        Wide adjusted = *(const Wide *)(teacher + c) - *(const Wide *)(shift + c);
        *(Wide *)(row + c) = decay * *(const Wide *)(old + c) + fresh_share * adjusted;
    }
}

/* Write q, a row mixed with its partner's. */
INLINE void mix_row(float *restrict q, const float *restrict own, const float *restrict partners, int64_t n,
                    const Step *s) {
    float lam = s->lam, partners_share = s->partners_share;
    if (n < WIDE) {
        for (int64_t c = 0; c < n; c++) q[c] = lam * own[c] + partners_share * partners[c];
        return;
    }
    for (int64_t first = 0; first < n; first += WIDE) {
        int64_t c = place(first, n);
        *(Wide *)(q + c) = lam * *(const Wide *)(own + c) + partners_share * *(const Wide *)(partners + c);
    }
}

INLINE int is_finite(const float *values, int64_t n) {
    int32_t some_unfit = 0;
    for (int64_t i = 0; i < n; i++) some_unfit |= !(fabsf(values[i]) < INFINITY);
    return !some_unfit;
}

/* Ask for a row of the memory and for where it will be written: rows of a batch lie scattered over many pages. */
INLINE void fetch(const Step *s, int64_t index) {
    if (index < 0) return;
    const float *previous = s->previous + index * s->num_outputs;
    float *current = s->current + index * s->num_outputs;
    FETCH(previous, 0);
    FETCH(previous + s->num_outputs - 1, 0);
    FETCH(current, 1);
    FETCH(current + s->num_outputs - 1, 1);
    FETCH(s->touched + index, 1);
}

/* Update the batch's rows, and write those that are finite into the memory; another stays as it was. */
INLINE void remember(const Step *s, float *restrict rows) {
    int64_t n = s->num_outputs, batch_size = s->batch_size;
    const int64_t *index = s->index;
    float shift[TILE];
    for (int64_t c = 0; c < n; c++) shift[c] = s->temperature * s->log_prior[c];
    *s->num_skipped = *s->num_nonfinite = 0;
    for (int64_t b = 0; b < batch_size; b++) {
        float *row = rows + b * n;
        if (b + AHEAD < batch_size) fetch(s, index[b + AHEAD]);
        if (index[b] >= 0) {
            update_row(row, s->previous + index[b] * n, s->teacher + b * n, shift, n, s);
        } else {
            memset(row, 0, (size_t)n * sizeof *row);
            *s->num_skipped += 1;
        }
    }
    int are_finite = is_finite(rows, batch_size * n);
    for (int64_t b = 0; b < batch_size; b++) {
        float *row = rows + b * n;
        if (index[b] < 0) continue;
        if (are_finite || is_finite(row, n)) {
            copy_row(s->current + index[b] * n, row, n);
            s->touched[index[b]] = 1;
        } else {
            copy_row(row, s->previous + index[b] * n, n);
            *s->num_nonfinite += 1;
        }
    }
}

/* Fill q of the rows of the batch from `first` on: a row itself, or mixed with its partner's. */
INLINE void mix(const Step *s, const float *restrict rows, int64_t first, int64_t num_rows, float *restrict q) {
    int64_t n = s->num_outputs;
    for (int64_t row = 0; row < num_rows; row++) {
        const float *own = rows + (first + row) * n;
        int64_t partner = s->perm ? s->perm[first + row] : -1;
        int has_partner = partner >= 0 && partner < s->batch_size && s->index[partner] >= 0;
        if (has_partner) mix_row(q + row * n, own, rows + partner * n, n, s);
        else copy_row(q + row * n, own, n);
    }
}

/* Whether each entry of the rows of the batch from `first` on counts, with weight 1. */
INLINE int all_count(const Step *s, int64_t first, int64_t num_rows) {
    int64_t num_entries = num_rows * s->num_outputs;
    int32_t all = 1;
    for (int64_t row = 0; row < num_rows; row++) all &= s->index[first + row] >= 0;
    if (s->mask_holds_weights) {
        const float *mask = (const float *)s->mask + first * s->num_outputs;
        for (int64_t i = 0; i < num_entries; i++) all &= mask[i] == 1.0f;
    } else {
        const uint8_t *mask = (const uint8_t *)s->mask + first * s->num_outputs;
        uint8_t marks = 1;
        for (int64_t i = 0; i < num_entries; i++) marks &= mask[i];
        all &= marks;
    }
    return all;
}

/* Fill the entries' weights of the rows of the batch from `first` on; 0: the entry does not count. */
INLINE void weigh(const Step *s, int64_t first, int64_t num_rows, Tile *restrict tile) {
    int64_t num_outputs = s->num_outputs, num_entries = num_rows * num_outputs;
    if (s->mask_holds_weights) {
        memcpy(tile->weight, (const float *)s->mask + first * num_outputs, (size_t)num_entries * sizeof *tile->weight);
    } else {
        const uint8_t *restrict mask = (const uint8_t *)s->mask + first * num_outputs;
        for (int64_t i = 0; i < num_entries; i++) tile->weight[i] = (float)mask[i];
    }
    for (int64_t row = 0; row < num_rows; row++)
        if (s->index[first + row] < 0)
            for (int64_t c = 0; c < num_outputs; c++) tile->weight[row * num_outputs + c] = 0;
}

/* Cross-entropy of each entry (to `term`), what its gradient is made of, and the regulariser's argument q p. */
INLINE void predict(const float *restrict logits, const float *restrict targets, int64_t num_entries, const Step *s,
                    Tile *restrict tile, int is_full) {
    float low = s->low, high = s->high;
    for (int64_t i = 0; i < num_entries; i++) {
        float logit = logits[i];
        float z = is_full || tile->weight[i] != 0.0f ? logit : 0.0f;
        if (!is_full) tile->z[i] = z;
        tile->e[i] = exp_of_negative(-fabsf(z));
    }
    for (int64_t i = 0; i < num_entries; i++) {
        float w = is_full ? 1.0f : tile->weight[i], z = is_full ? logits[i] : tile->z[i];
        float target = targets[i], y = is_full || w != 0.0f ? target : 0.0f;
        float p, slope, log1p;
        sigmoid_and_kin(z, tile->e[i], &p, &slope, &log1p);
        float bce = w * (((z > 0.0f ? z : 0.0f) - y * z) + log1p);
        float clamped = p < low ? low : p > high ? high : p, product = tile->q[i] * clamped;
        tile->term[i] = is_full || w != 0.0f ? bce : 0.0f;
        tile->residual[i] = w * (p - y);
        tile->slope[i] = (p < low) | (p > high) ? 0.0f : slope;
        tile->x[i] = is_full || w != 0.0f ? product : 0.0f;
    }
}

/* log(1 - sigmoid(x)) and sigmoid(x) of n arguments. */
INLINE void regularise(Tile *restrict tile, int64_t n) {
    for (int64_t i = 0; i < n; i++) tile->e[i] = exp_of_negative(-fabsf(tile->x[i]));
    for (int64_t i = 0; i < n; i++) {
        float x = tile->x[i], slope, log1p;
        sigmoid_and_kin(x, tile->e[i], &tile->pull[i], &slope, &log1p);
        tile->term[i] = -((x > 0.0f ? x : 0.0f) + log1p);
    }
}

/* The same of the tile's rows, whose argument is the sum of their entries'; each entry gets its row's pull. */
INLINE void regularise_rows(const Step *s, int64_t first, int64_t num_rows, Tile *restrict tile) {
    int64_t n = s->num_outputs;
    for (int64_t row = 0; row < num_rows; row++) {
        double x = 0;
        for (int64_t c = 0; c < n; c++) x += (double)tile->x[row * n + c];
        tile->x[row] = (float)x;
    }
    regularise(tile, num_rows);
    for (int64_t row = 0; row < num_rows; row++)
        if (s->index[first + row] < 0) tile->term[row] = 0;
    for (int64_t row = num_rows - 1; row >= 0; row--) {
        float pull = tile->pull[row];
        for (int64_t c = 0; c < n; c++) tile->pull[row * n + c] = pull;
    }
}

/* Add the first n terms to the running sums. */
INLINE void add_up(Tile *restrict tile, int64_t n, double *restrict sums) {
    int64_t stop = (n + LANES - 1) / LANES * LANES; /* at most TILE */
    for (int64_t i = n; i < stop; i++) tile->term[i] = 0;
    for (int64_t i = 0; i < stop; i += LANES)
        for (int lane = 0; lane < LANES; lane++) sums[lane] += (double)tile->term[i + lane];
}

INLINE double total(const double *sums) {
    double sum = 0;
    for (int lane = 0; lane < LANES; lane++) sum += sums[lane];
    return sum;
}

/* Do the rows of the batch from `first` on, whose q are known: add to the sums, write the gradient. Where `is_full`, a
 * constant of two calls, nothing is selected or weighed; the bits are the same. */
INLINE void do_tile(const Step *s, int64_t first, int64_t num_rows, Tile *restrict tile, Sums *restrict sums,
                    int is_full) {
    int64_t start = first * s->num_outputs, num_entries = num_rows * s->num_outputs;
    if (!is_full) weigh(s, first, num_rows, tile);
    predict(s->logits + start, s->targets + start, num_entries, s, tile, is_full);
    add_up(tile, num_entries, sums->bce);
    if (s->elementwise) {
        regularise(tile, num_entries);
        if (!is_full)
            for (int64_t i = 0; i < num_entries; i++) tile->term[i] = tile->weight[i] != 0.0f ? tile->term[i] : 0.0f;
        add_up(tile, num_entries, sums->reg);
    } else {
        regularise_rows(s, first, num_rows, tile);
        add_up(tile, num_rows, sums->reg);
    }
    float *restrict grad = s->grad + start;
    float entry_share = (float)s->entry_share, reg_share = (float)((double)s->reg_weight * s->term_share);
    for (int64_t i = 0; i < num_entries; i++) {
        float value = tile->residual[i] * entry_share - reg_share * (tile->pull[i] * tile->q[i] * tile->slope[i]);
        grad[i] = is_full || tile->weight[i] != 0.0f ? value : 0.0f;
    }
}

/*
 * Compute the step, write the batch's rows into `current` with their marks, and the gradient of the loss.
 * Returns 0; BEYOND where an index is beyond the memory; NO_ROOM for the batch's rows. Then nothing is written.
 */
FOR_EVERY_CPU int cxr_nvum_loss_step(const Step *s) {
    int64_t batch_size = s->batch_size, num_outputs = s->num_outputs, tile_rows = TILE / num_outputs;
    for (int64_t b = 0; b < batch_size; b++)
        if (s->index[b] >= s->num_rows) return BEYOND;
    float *rows = malloc((size_t)(batch_size * num_outputs + 1) * sizeof *rows); /* 0 bytes may be NULL */
    if (!rows) return NO_ROOM;
    Tile tile;
    Sums sums = {{0}, {0}};
    remember(s, rows);
    for (int64_t first = 0; first < batch_size; first += tile_rows) {
        int64_t num_rows = first + tile_rows < batch_size ? tile_rows : batch_size - first;
        mix(s, rows, first, num_rows, tile.q);
        if (all_count(s, first, num_rows)) do_tile(s, first, num_rows, &tile, &sums, 1);
        else do_tile(s, first, num_rows, &tile, &sums, 0);
    }
    free(rows);
    double bce = total(sums.bce) * s->entry_share, reg = total(sums.reg) * s->term_share;
    *s->loss = (float)(bce + (double)s->reg_weight * reg);
    *s->bce = (float)bce;
    *s->reg = (float)reg;
    return 0;
}
