/* amx_tiles: see the header. The state is the thread's; counters are everybody's. */
#include "amx_tiles.h"

#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

struct config { /* TILECFG, as LDTILECFG reads it */
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
_Static_assert(sizeof(struct config) == 64, "TILECFG has 64 bytes");

struct tile {
    uint8_t bytes[AMX_ROWS][AMX_ROW_BYTES];
};

static _Thread_local struct config config; /* palette 0: not configured */
static _Thread_local struct tile tiles[AMX_TILES];
static atomic_int n_faults, n_products;
static _Atomic(const char *) first_fault;

static void fault(const char *what)
{
    const char *none = NULL;
    atomic_compare_exchange_strong(&first_fault, &none, what);
    atomic_fetch_add(&n_faults, 1);
}

int amx_faults_take(const char **first)
{
    *first = atomic_exchange(&first_fault, NULL);
    return atomic_exchange(&n_faults, 0);
}

bool amx_is_configured(void)
{
    return config.palette != 0;
}

int amx_products(void)
{
    return atomic_load(&n_products);
}

/* Reads only what the operand's 64 bytes say; NULL = fine. */
static const char *config_check(const struct config *c)
{
    if (c->palette > 1) return "#GP: LDTILECFG: palette";
    for (int i = 0; i < 14; i++)
        if (c->reserved[i]) return "#GP: LDTILECFG: reserved bytes";
    for (int i = 0; i < 16; i++) {
        if (i >= AMX_TILES && (c->row_bytes[i] || c->rows[i])) return "#GP: LDTILECFG: more tiles than the palette has";
        if (c->row_bytes[i] > AMX_ROW_BYTES) return "#GP: LDTILECFG: bytes of a row";
        if (c->rows[i] > AMX_ROWS) return "#GP: LDTILECFG: rows";
        if (!c->rows[i] != !c->row_bytes[i]) return "#GP: LDTILECFG: rows without bytes, or bytes without rows";
    }
    return NULL;
}

void amx_loadconfig(const void *operand)
{
    struct config c;
    memcpy(&c, operand, sizeof c);
    if (c.palette == 0) {
        amx_release();
        return;
    }
    const char *wrong = config_check(&c);
    if (wrong) {
        fault(wrong);
        return;
    }
    config = c;
    memset(tiles, 0, sizeof tiles);
}

void amx_storeconfig(void *operand)
{
    memcpy(operand, &config, sizeof config);
}

void amx_release(void)
{
    memset(&config, 0, sizeof config);
    memset(tiles, 0, sizeof tiles);
}

/* What every instruction with a tile asks of it. */
static bool tile_ok(int tile)
{
    const char *wrong = !config.palette                         ? "#UD: no tiles are configured"
                        : tile < 0 || tile >= AMX_TILES         ? "#UD: no such tile"
                        : !config.rows[tile]                    ? "#UD: a tile that the configuration leaves out"
                        : config.start_row >= AMX_ROWS          ? "#UD: start row"
                        : config.start_row >= config.rows[tile] ? "#UD: start row behind the tile"
                                                                : NULL;
    if (wrong) fault(wrong);
    return !wrong;
}

void amx_zero(int tile)
{
    if (!tile_ok(tile)) return;
    memset(&tiles[tile], 0, sizeof tiles[tile]);
    config.start_row = 0;
}

void amx_loadd(int tile, const void *base, long stride)
{
    if (!tile_ok(tile)) return;
    struct tile t = {0}; /* what lies outside the tile's shape becomes zero */
    const uint8_t *from = base;
    for (int r = 0; r < config.rows[tile]; r++) {
        if (r < config.start_row) memcpy(t.bytes[r], tiles[tile].bytes[r], AMX_ROW_BYTES);
        else memcpy(t.bytes[r], from + r * stride, config.row_bytes[tile]);
    }
    tiles[tile] = t;
    config.start_row = 0;
}

void amx_stored(int tile, void *base, long stride)
{
    if (!tile_ok(tile)) return;
    uint8_t *to = base;
    for (int r = config.start_row; r < config.rows[tile]; r++)
        memcpy(to + r * stride, tiles[tile].bytes[r], config.row_bytes[tile]);
    config.start_row = 0;
}

static const char *shapes_check(int c, int a, int b)
{
    if (c == a || a == b || c == b) return "#UD: TDPB*D: a tile twice";
    if (config.row_bytes[c] % 4 || config.row_bytes[a] % 4 || config.row_bytes[b] % 4)
        return "#UD: TDPB*D: row of no whole dwords";
    if (config.row_bytes[a] / 4 != config.rows[b]) return "#UD: TDPB*D: dwords of A's rows, rows of B";
    if (config.rows[c] != config.rows[a]) return "#UD: TDPB*D: rows of C and A";
    if (config.row_bytes[c] != config.row_bytes[b]) return "#UD: TDPB*D: bytes of C's and B's rows";
    return NULL;
}

/* Sums wrap around; they do not saturate. */
static uint32_t dot4(uint32_t sum, const uint8_t *a, const uint8_t *b, bool a_signed, bool b_signed)
{
    for (int i = 0; i < 4; i++) sum += (uint32_t)((a_signed ? (int8_t)a[i] : a[i]) * (b_signed ? (int8_t)b[i] : b[i]));
    return sum;
}

void amx_dpb(int c, int a, int b, bool a_signed, bool b_signed)
{
    if (!tile_ok(c) || !tile_ok(a) || !tile_ok(b)) return;
    const char *wrong = shapes_check(c, a, b);
    if (wrong) {
        fault(wrong);
        return;
    }
    struct tile out = {0};
    const int row_bytes = config.row_bytes[c];
    for (int m = 0; m < config.rows[c]; m++) {
        uint32_t sums[AMX_ROW_BYTES / 4];
        memcpy(sums, tiles[c].bytes[m], sizeof sums);
        for (int k = 0; k < config.rows[b]; k++)
            for (int n = 0; n < row_bytes / 4; n++)
                sums[n] = dot4(sums[n], tiles[a].bytes[m] + 4 * k, tiles[b].bytes[k] + 4 * n, a_signed, b_signed);
        memcpy(out.bytes[m], sums, (size_t)row_bytes);
    }
    tiles[c] = out;
    config.start_row = 0;
    atomic_fetch_add(&n_products, 1);
}
