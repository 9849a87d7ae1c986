/* CLAHE of 8-bit greys: OpenCV's results bit for bit in half of its time. Called by clahe.py, which says what comes in.

A pixel becomes the mean of what the four tiles around it make of its level, by its distance to their centres. Between
four centres these tiles are the same, so that one look into one table finds all four levels.
*/

#include <stdint.h>

enum { LEVELS = 256, CHUNK = 128 };

#if defined(__x86_64__) && defined(__gnu_linux__)
#define VECTORS __attribute__((target_clones("avx2", "default")))
#else
#define VECTORS
#endif

/* What a tile makes of each level: the share of its pixels up to it, of a histogram cut at `limit` pixels a level, with
what was cut dealt out to all levels. */
static void map_levels(const uint8_t *tile, long stride, int width, int height, int limit, uint8_t *map)
{
    int counts[4][LEVELS] = {{0}}, *count = counts[0]; /* four, as neighbours are often equal and would wait in turn */
    for (int y = 0; y < height; y++, tile += stride) {
        int x = 0;
        for (; x + 4 <= width; x += 4)
            for (int i = 0; i < 4; i++)
                counts[i][tile[x + i]]++;
        for (; x < width; x++)
            count[tile[x]]++;
    }
    int cut = 0;
    for (int i = 0; i < LEVELS; i++) {
        count[i] += counts[1][i] + counts[2][i] + counts[3][i];
        if (count[i] > limit) {
            cut += count[i] - limit;
            count[i] = limit;
        }
    }
    int rest = cut % LEVELS, step = rest ? LEVELS / rest : LEVELS;
    for (int i = 0; i < LEVELS; i++)
        count[i] += cut / LEVELS;
    for (int i = 0; i < LEVELS && rest > 0; i += step, rest--)
        count[i]++;
    const float scale = (float)(LEVELS - 1) / (width * height);
    for (int i = 0, sum = 0; i < LEVELS; i++) {
        sum += count[i];
        const float level = __builtin_rintf(sum * scale);
        map[i] = level < LEVELS - 1 ? level : LEVELS - 1;
    }
}

/* Where pixel `at` lies, in tiles from the centre of the first: -0.5 at the picture's edge. */
static inline float place(int at, float tiles_per_pixel)
{
    return at * tiles_per_pixel - 0.5f;
}

/* The pixels of `out` (left, top) to (right, bottom), which lie between the centres of the tiles in `column` and `row`
and of the next; `four` has, a byte each, what the upper left, upper right, lower left and lower right make of a level. */
VECTORS static void blend(const uint8_t *source, long stride, uint8_t *out, int width, const uint32_t *four, int column,
                          int row, float across, float down, int left, int top, int right, int bottom)
{
    const float whole = 3 << 22; /* added to a small number, it leaves that number rounded in the last bits */
    uint32_t levels[CHUNK];
    for (int y = top; y < bottom; y++) {
        const float below = place(y, down) - row, above = 1.0f - below;
        for (int x = left, n; x < right; x += n) {
            const uint8_t *from = source + y * stride + x;
            uint8_t *to = out + (long)y * width + x;
            n = right - x < CHUNK ? right - x : CHUNK;
            for (int i = 0; i < n; i++)
                levels[i] = four[from[i]];
            for (int i = 0; i < n; i++) {
                const float after = place(x + i, across) - column, before = 1.0f - after;
                const float upper = (int)(levels[i] & 255) * before + (int)(levels[i] >> 8 & 255) * after;
                const float lower = (int)(levels[i] >> 16 & 255) * before + (int)(levels[i] >> 24) * after;
                const union { float number; uint32_t bits; } mean = {upper * above + lower * below + whole};
                to[i] = mean.bits;
            }
        }
    }
}

/* The first pixel from `at` on, of `end`, that does not lie before the centre of `tile`. */
static int centre(int tile, int at, int end, float tiles_per_pixel)
{
    while (at < end && place(at, tiles_per_pixel) < tile)
        at++;
    return at;
}

/* `source`, with rows `stride` bytes apart, is tiles x tiles tiles of tile_width x tile_height; `out` gets its first
`height` rows and `width` columns. `maps` is room for 256 bytes a tile. */
void clahe(const uint8_t *source, long stride, int tiles, int tile_width, int tile_height, int limit, uint8_t *maps,
           uint8_t *out, int width, int height)
{
    for (int y = 0; y < tiles; y++)
        for (int x = 0; x < tiles; x++)
            map_levels(source + (long)y * tile_height * stride + x * tile_width, stride, tile_width, tile_height, limit,
                       maps + ((long)y * tiles + x) * LEVELS);
    const float across = 1.0f / tile_width, down = 1.0f / tile_height;
    for (int row = -1, top = 0, bottom; top < height; row++, top = bottom) {
        bottom = centre(row + 1, top, height, down);
        for (int column = -1, left = 0, right; left < width; column++, left = right) {
            right = centre(column + 1, left, width, across);
            uint32_t four[LEVELS] = {0};
            for (int corner = 0; corner < 4; corner++) {
                int x = column + corner % 2, y = row + corner / 2;
                x = x < 0 ? 0 : x < tiles ? x : tiles - 1; /* beyond the outermost centres theirs alone count */
                y = y < 0 ? 0 : y < tiles ? y : tiles - 1;
                for (int i = 0; i < LEVELS; i++)
                    four[i] |= (uint32_t)maps[((long)y * tiles + x) * LEVELS + i] << 8 * corner;
            }
            blend(source, stride, out, width, four, column, row, across, down, left, top, right, bottom);
        }
    }
}
