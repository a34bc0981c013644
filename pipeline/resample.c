/*
 * A batch of gray images cropped, flipped, turned, shifted and normalised on a CPU, in one pass.
 *
 * Where an output pixel lies in its image is a whole number of 1 / 2^32 px, and the arithmetic on gray values is that
 * of IEEE single precision in a fixed order (compiled with -ffp-contract=off); `resample_cpu.py` gives the same
 * bits without it.
 *
 * Plain C without Python's headers, called through ctypes (which lets go of the GIL).
 */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define FOR_EVERY_CPU __attribute__((target_clones("avx2", "default")))
#else
#define FOR_EVERY_CPU
#endif

#ifdef __GNUC__
#define INLINE static inline __attribute__((always_inline)) /* so that each clone is compiled whole for its CPU */
#else
#define INLINE static inline
#endif

enum {
    MARGIN = 2, /* zeros on both sides of a row: both taps may lie outside */
    RUN = 256   /* outputs that are worked on together */
};

/* A coordinate of the input, in 1 / 2^32 px: centre + column * (2j + 1 - size) + row * (2i + 1 - size). */
typedef struct {
    int64_t column, row, centre;
} Axis;

typedef struct {
    const uint8_t *pixels;
    ptrdiff_t height, width, size;
    Axis x, y;
    float scale, bias;
} Image;

/* Room for what lies between the rows of an upright image and its outputs. */
typedef struct {
    float *blended;  /* width + 2 * MARGIN: of two rows one */
    float *shares;   /* size: how far an output's place lies beyond the pixel before it */
    int32_t *before; /* size: where that pixel lies in `blended` */
} Scratch;

INLINE float fraction(int64_t place) { return (float)(int32_t)((uint32_t)place >> 8) * 0x1p-24f; }

INLINE ptrdiff_t pixel_before(int64_t place) { return (ptrdiff_t)(place >> 32); }

INLINE ptrdiff_t clamped(ptrdiff_t number, ptrdiff_t low, ptrdiff_t high) {
    return number < low ? low : number > high ? high : number;
}

INLINE float between(float low, float high, float share) { return low + share * (high - low); }

/* Rows stay rows: of two rows one is made, of whose columns two each are an output. */
INLINE void resample_upright(const Image *image, const Scratch *scratch, float *restrict out) {
    ptrdiff_t size = image->size, width = image->width, first = width, stop = 0;
    float *restrict blended = scratch->blended, *restrict shares = scratch->shares;
    int32_t *restrict before = scratch->before;
    for (ptrdiff_t j = 0; j < size; j++) {
        int64_t place = image->x.centre + image->x.column * (2 * j + 1 - size);
        ptrdiff_t column = clamped(pixel_before(place), -MARGIN, width);
        before[j] = (int32_t)column + MARGIN;
        shares[j] = fraction(place);
        if (column < first) first = column;
        if (column + 2 > stop) stop = column + 2;
    }
    first = clamped(first, 0, width);
    stop = clamped(stop, 0, width);
    for (ptrdiff_t side = 0; side < MARGIN; side++) blended[side] = blended[width + MARGIN + side] = 0;
    for (ptrdiff_t i = 0; i < size; i++, out += size) {
        int64_t place = image->y.centre + image->y.row * (2 * i + 1 - size);
        ptrdiff_t row = pixel_before(place);
        float share = fraction(place), *row_out = blended + MARGIN;
        int has_upper = row >= 0 && row < image->height, has_lower = row >= -1 && row < image->height - 1;
        const uint8_t *upper = has_upper ? image->pixels + row * width : NULL;
        const uint8_t *lower = has_lower ? image->pixels + (row + 1) * width : NULL;
        if (has_upper && has_lower)
            for (ptrdiff_t k = first; k < stop; k++) row_out[k] = between(upper[k], lower[k], share);
        else if (has_upper)
            for (ptrdiff_t k = first; k < stop; k++) row_out[k] = between(upper[k], 0, share);
        else if (has_lower)
            for (ptrdiff_t k = first; k < stop; k++) row_out[k] = between(0, lower[k], share);
        else
            for (ptrdiff_t k = first; k < stop; k++) row_out[k] = 0;
        for (ptrdiff_t j = 0; j < size; j++)
            out[j] = between(blended[before[j]], blended[before[j] + 1], shares[j]) * image->scale + image->bias;
    }
}

INLINE float tap(const Image *image, ptrdiff_t row, ptrdiff_t column) {
    int inside = row >= 0 && row < image->height && column >= 0 && column < image->width;
    return inside ? image->pixels[row * image->width + column] : 0;
}

/* One output at a place that may lie outside. */
INLINE float resample_pixel(const Image *image, int64_t x, int64_t y) {
    ptrdiff_t column = pixel_before(x), row = pixel_before(y);
    float left = between(tap(image, row, column), tap(image, row + 1, column), fraction(y));
    float right = between(tap(image, row, column + 1), tap(image, row + 1, column + 1), fraction(y));
    return between(left, right, fraction(x)) * image->scale + image->bias;
}

INLINE int is_inside(const Image *image, int64_t x, int64_t y) {
    ptrdiff_t column = pixel_before(x), row = pixel_before(y);
    return column >= 0 && column < image->width - 1 && row >= 0 && row < image->height - 1;
}

/* Neighbours in a row, at most RUN, whose taps all lie inside: first the places, then the taps, then the arithmetic, so
 * that all but the taps is done some at a time. */
INLINE void resample_run(const Image *image, int64_t x, int64_t y, ptrdiff_t num, float *restrict out) {
    int64_t step_x = 2 * image->x.column, step_y = 2 * image->y.column;
    int32_t width = (int32_t)image->width, before[RUN];
    float shares_x[RUN], shares_y[RUN], scale = image->scale, bias = image->bias;
    uint16_t uppers[RUN], lowers[RUN]; /* two neighbours each */
    for (ptrdiff_t k = 0; k < num; k++, x += step_x, y += step_y) {
        before[k] = (int32_t)pixel_before(y) * width + (int32_t)pixel_before(x);
        shares_x[k] = fraction(x);
        shares_y[k] = fraction(y);
    }
    for (ptrdiff_t k = 0; k < num; k++) {
        const uint8_t *upper = image->pixels + before[k], *lower = upper + width;
        uppers[k] = (uint16_t)(upper[0] | upper[1] << 8);
        lowers[k] = (uint16_t)(lower[0] | lower[1] << 8);
    }
    for (ptrdiff_t k = 0; k < num; k++) {
        float left = between(uppers[k] & 255, lowers[k] & 255, shares_y[k]);
        float right = between(uppers[k] >> 8, lowers[k] >> 8, shares_y[k]);
        out[k] = between(left, right, shares_x[k]) * scale + bias;
    }
}

INLINE void resample_turned(const Image *image, float *restrict out) {
    ptrdiff_t size = image->size;
    int64_t step_x = 2 * image->x.column, step_y = 2 * image->y.column;
    for (ptrdiff_t i = 0; i < size; i++, out += size) {
        int64_t x = image->x.centre + image->x.row * (2 * i + 1 - size) + image->x.column * (1 - size);
        int64_t y = image->y.centre + image->y.row * (2 * i + 1 - size) + image->y.column * (1 - size);
        /* The places of a row lie on a line, so those inside are neighbours. */
        ptrdiff_t j = 0, stop = size;
        for (; j < size && !is_inside(image, x + j * step_x, y + j * step_y); j++)
            out[j] = resample_pixel(image, x + j * step_x, y + j * step_y);
        for (; stop > j && !is_inside(image, x + (stop - 1) * step_x, y + (stop - 1) * step_y); stop--)
            out[stop - 1] = resample_pixel(image, x + (stop - 1) * step_x, y + (stop - 1) * step_y);
        for (; j < stop; j += RUN)
            resample_run(image, x + j * step_x, y + j * step_y, stop - j < RUN ? stop - j : RUN, out + j);
    }
}

/*
 * images: num x height x width. axes: of each image x and y. out: num x size x size, each (gray * scale + bias).
 * Returns 0, or 1 where there is no memory.
 */
FOR_EVERY_CPU int cxr_resample(const uint8_t *images, size_t num, size_t height, size_t width, const Axis *axes,
                               size_t size, float scale, float bias, float *out) {
    Scratch scratch = {.blended = malloc((width + 2 * MARGIN) * sizeof(float)),
                       .shares = malloc(size * sizeof(float)),
                       .before = malloc(size * sizeof(int32_t))};
    int has_memory = scratch.blended && scratch.shares && scratch.before;
    for (size_t n = 0; n < num && has_memory; n++) {
        Image image = {.pixels = images + n * height * width,
                       .height = (ptrdiff_t)height,
                       .width = (ptrdiff_t)width,
                       .size = (ptrdiff_t)size,
                       .x = axes[2 * n],
                       .y = axes[2 * n + 1],
                       .scale = scale,
                       .bias = bias};
        if (image.x.row == 0 && image.y.column == 0)
            resample_upright(&image, &scratch, out + n * size * size);
        else
            resample_turned(&image, out + n * size * size);
    }
    free(scratch.blended), free(scratch.shares), free(scratch.before);
    return !has_memory;
}
