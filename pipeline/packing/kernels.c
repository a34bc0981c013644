/*
 * The two loops that packing spends its time in, and that no light package does fast: undoing the row filters of a PNG
 * and resizing gray images. Both give exactly what Pillow gives; `kernels.py` checks every size before it calls them.
 *
 * Plain C without Python's headers, called through ctypes (which lets go of the GIL).
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define FOR_EVERY_CPU __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EVERY_CPU
#endif

enum {
    WEIGHT_BITS = 22, /* weights are whole numbers of 1 / 2^22, as Pillow's are */
    BLOCK = 32        /* rows, or columns, that are weighted side by side */
};

/* Of left, up and up-left the one nearest to left + up - up_left, without a branch that could be guessed wrong. */
static inline uint8_t paeth(int left, int up, int up_left) {
    int low = left < up ? left : up, high = left < up ? up : left;
    int threshold = 3 * up_left - (left + up);
    int nearest = high <= threshold ? low : up_left;
    return (uint8_t)(threshold <= low ? high : nearest);
}

static void unfilter_paeth(const uint8_t *in, const uint8_t *above, uint8_t *out, size_t row_bytes, size_t step) {
    for (size_t channel = 0; channel < step; channel++) {
        int left = 0, up_left = 0;
        for (size_t x = channel; x < row_bytes; x += step) {
            int up = above[x];
            left = (uint8_t)(in[x] + paeth(left, up, up_left));
            up_left = up;
            out[x] = (uint8_t)left;
        }
    }
}

/*
 * Undo the row filters of a PNG that is not interlaced.
 *
 * filtered: height rows of 1 + row_bytes, the filter's number first. out: 1 + height rows of row_bytes; the first is
 * zeros and stands above the picture. step: bytes from a sample to the same one of the next pixel.
 * Returns 0, or 1 where a filter's number is not one of PNG's.
 */
int cxr_unfilter(const uint8_t *filtered, size_t height, size_t row_bytes, size_t step, uint8_t *out) {
    for (size_t y = 0; y < height; y++) {
        const uint8_t *in = filtered + y * (row_bytes + 1), *above = out;
        uint8_t filter = *in++;
        out += row_bytes;
        switch (filter) {
        case 0:
            memcpy(out, in, row_bytes);
            break;
        case 1:
            memcpy(out, in, step);
            for (size_t x = step; x < row_bytes; x++) out[x] = in[x] + out[x - step];
            break;
        case 2:
            for (size_t x = 0; x < row_bytes; x++) out[x] = in[x] + above[x];
            break;
        case 3:
            for (size_t x = 0; x < step; x++) out[x] = in[x] + above[x] / 2;
            for (size_t x = step; x < row_bytes; x++) out[x] = in[x] + (out[x - step] + above[x]) / 2;
            break;
        case 4:
            unfilter_paeth(in, above, out, row_bytes, step);
            break;
        default:
            return 1;
        }
    }
    return 0;
}

static inline uint8_t rounded(int32_t sum) {
    sum >>= WEIGHT_BITS;
    return (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
}

/* out[k] = sum over j of weights[j] * in[j * stride + k], for k in 0..BLOCK-1 */
static inline void weigh(const uint8_t *in, size_t stride, const int32_t *weights, size_t taps, uint8_t *out) {
    int32_t sums[BLOCK];
    for (int k = 0; k < BLOCK; k++) sums[k] = 1 << (WEIGHT_BITS - 1);
    for (size_t j = 0; j < taps; j++)
        for (int k = 0; k < BLOCK; k++) sums[k] += in[j * stride + k] * weights[j];
    for (int k = 0; k < BLOCK; k++) out[k] = rounded(sums[k]);
}

/*
 * Turn a tile of BLOCK x BLOCK bytes on its side: out[x][y] = in[y][x]. Interleaving the halves of 2^10 bytes moves every
 * bit of an index up by one place, so five rounds exchange row and column; compilers make shuffles of the loop, which
 * are five times as fast as moving bytes one by one.
 */
static inline void turn(const uint8_t *restrict in, uint8_t *restrict out) {
    enum { HALF = BLOCK * BLOCK / 2 };
    uint8_t even[2 * HALF], odd[2 * HALF];
    for (int i = 0; i < HALF; i++) odd[2 * i] = in[i], odd[2 * i + 1] = in[i + HALF];
    for (int i = 0; i < HALF; i++) even[2 * i] = odd[i], even[2 * i + 1] = odd[i + HALF];
    for (int i = 0; i < HALF; i++) odd[2 * i] = even[i], odd[2 * i + 1] = even[i + HALF];
    for (int i = 0; i < HALF; i++) even[2 * i] = odd[i], even[2 * i + 1] = odd[i + HALF];
    for (int i = 0; i < HALF; i++) out[2 * i] = even[i], out[2 * i + 1] = even[i + HALF];
}

/* Copy a rectangle of rows x columns bytes; whole tiles with a length that the compiler knows. */
static inline void copy(const uint8_t *in, size_t in_stride, uint8_t *out, size_t out_stride, size_t rows,
                        size_t columns) {
    if (columns == BLOCK)
        for (size_t y = 0; y < rows; y++) memcpy(out + y * out_stride, in + y * in_stride, BLOCK);
    else
        for (size_t y = 0; y < rows; y++) memcpy(out + y * out_stride, in + y * in_stride, columns);
}

/*
 * Tell whether an axis halves its size: each output x but the first and the last is 1, 3, 3 and 1 eighths of the samples
 * from 2x - 1 on. That is what 1024 px films come to most often, and it needs neither weights nor 32 bits.
 */
static int halves(const int32_t *first, const int32_t *weights, size_t taps, size_t out_size) {
    enum { EIGHTH = 1 << (WEIGHT_BITS - 3) };
    if (taps < 4) return 0;
    for (size_t x = 1; x + 1 < out_size; x++) {
        const int32_t *w = weights + x * taps;
        int32_t others = 0;
        for (size_t j = 4; j < taps; j++) others |= w[j];
        if (first[x] != (int32_t)(2 * x - 1) || w[0] != EIGHTH || w[1] != 3 * EIGHTH || w[2] != 3 * EIGHTH ||
            w[3] != EIGHTH || others)
            return 0;
    }
    return 1;
}

/* A half and its neighbours: the sum that `weigh` rounds, divided by an eighth. */
static inline uint8_t halved(unsigned a, unsigned b, unsigned c, unsigned d) {
    return (uint8_t)((uint16_t)(a + 3 * (b + c) + d + 4) >> 3);
}

/* One output of a row or column, whose samples lie `stride` apart. */
static inline uint8_t weigh_one(const uint8_t *in, size_t stride, const int32_t *weights, size_t taps) {
    int32_t sum = 1 << (WEIGHT_BITS - 1);
    for (size_t j = 0; j < taps; j++) sum += in[j * stride] * weights[j];
    return rounded(sum);
}

/*
 * Resize every row: out[y][x] = sum over j of weights[x][j] * in[y][first[x] + j]; in: height x width, out: height x
 * out_width. BLOCK rows are turned on their side, so that the same weights serve neighbours in memory.
 * Returns 0, or 1 where there is no memory.
 */
FOR_EVERY_CPU int cxr_resize_rows(const uint8_t *in, size_t height, size_t width, const int32_t *first,
                                  const int32_t *weights, size_t taps, size_t out_width, uint8_t *out) {
    if (halves(first, weights, taps, out_width)) {
        size_t last = out_width - 1;
        for (size_t y = 0; y < height; y++, in += width, out += out_width) {
            for (size_t x = 1; x < last; x++) out[x] = halved(in[2 * x - 1], in[2 * x], in[2 * x + 1], in[2 * x + 2]);
            out[0] = weigh_one(in + first[0], 1, weights, taps);
            out[last] = weigh_one(in + first[last], 1, weights + last * taps, taps);
        }
        return 0;
    }
    uint8_t *turned = malloc((width + BLOCK - 1) / BLOCK * BLOCK * BLOCK);
    uint8_t tile[BLOCK * BLOCK] = {0}, weighed[BLOCK * BLOCK] = {0};
    if (!turned) return 1;
    for (size_t top = 0; top < height; top += BLOCK) {
        size_t rows = height - top < BLOCK ? height - top : BLOCK;
        for (size_t left = 0; left < width; left += BLOCK) {
            size_t columns = width - left < BLOCK ? width - left : BLOCK;
            copy(in + top * width + left, width, tile, BLOCK, rows, columns);
            turn(tile, turned + left * BLOCK);
        }
        for (size_t left = 0; left < out_width; left += BLOCK) {
            size_t columns = out_width - left < BLOCK ? out_width - left : BLOCK;
            for (size_t x = 0; x < columns; x++)
                weigh(turned + (size_t)first[left + x] * BLOCK, BLOCK, weights + (left + x) * taps, taps,
                      weighed + x * BLOCK);
            turn(weighed, tile);
            copy(tile, BLOCK, out + top * out_width + left, out_width, rows, columns);
        }
    }
    free(turned);
    return 0;
}

/*
 * Resize every column: out[y][x] = sum over j of weights[y][j] * in[first[y] + j][x]; out: out_height x width.
 */
FOR_EVERY_CPU void cxr_resize_columns(const uint8_t *in, size_t width, const int32_t *first, const int32_t *weights,
                                      size_t taps, size_t out_height, uint8_t *out) {
    int is_half = halves(first, weights, taps, out_height);
    for (size_t y = 0; y < out_height; y++) {
        const uint8_t *rows = in + (size_t)first[y] * width;
        size_t x = 0;
        if (is_half && 0 < y && y + 1 < out_height) {
            for (uint8_t *line = out + y * width; x < width; x++)
                line[x] = halved(rows[x], rows[width + x], rows[2 * width + x], rows[3 * width + x]);
            continue;
        }
        for (; x + BLOCK <= width; x += BLOCK) weigh(rows + x, width, weights + y * taps, taps, out + y * width + x);
        for (; x < width; x++) out[y * width + x] = weigh_one(rows + x, width, weights + y * taps, taps);
    }
}
