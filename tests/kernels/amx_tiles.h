/* amx_tiles: the AMX instructions in plain C, so that level amx is tested where the CPU has none. The Makefile compiles
 * src/kernels/x86/large_amx.c a second time with this header in front: its macros take the place of the compiler's
 * intrinsics. What the instructions do and refuse is Intel's manual (LDTILECFG, TILELOADD, TILESTORED, TILEZERO,
 * TDPB*D, TILERELEASE; exception classes AMX-E1 to E6). Where a CPU would fault, the fault is recorded and the
 * instruction does nothing. Tiles and their configuration belong to the calling thread, as on a CPU. */
#ifndef TESTS_KERNELS_AMX_TILES_H
#define TESTS_KERNELS_AMX_TILES_H

#include <immintrin.h> /* first, so that the compiler's macros do not come back */
#include <stdbool.h>
#include <stdint.h>

#define AMX_TILES 8
#define AMX_ROWS 16
#define AMX_ROW_BYTES 64

void amx_loadconfig(const void *config); /* 64 bytes */
void amx_storeconfig(void *config);
void amx_release(void);
void amx_zero(int tile);
void amx_loadd(int tile, const void *base, long stride);
void amx_stored(int tile, void *base, long stride);
/* c += a * b in groups of four bytes */
void amx_dpb(int c, int a, int b, bool a_signed, bool b_signed);

/* ---- for tests ---- */
/* Faults of all threads since the last call; *first is the first one's text, or NULL. */
int amx_faults_take(const char **first);
bool amx_is_configured(void); /* this thread holds a configuration */
int amx_products(void);       /* of all threads, so far */

#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_zero
#undef _tile_dpbssd
#undef _tile_dpbsud
#undef _tile_dpbusd
#undef _tile_dpbuud
#define _tile_loadconfig(config) amx_loadconfig(config)
#define _tile_storeconfig(config) amx_storeconfig(config)
#define _tile_release() amx_release()
#define _tile_zero(tile) amx_zero(tile)
#define _tile_loadd(tile, base, stride) amx_loadd(tile, base, (long)(stride))
#define _tile_stream_loadd(tile, base, stride) amx_loadd(tile, base, (long)(stride))
#define _tile_stored(tile, base, stride) amx_stored(tile, base, (long)(stride))
#define _tile_dpbssd(c, a, b) amx_dpb(c, a, b, true, true)
#define _tile_dpbsud(c, a, b) amx_dpb(c, a, b, true, false)
#define _tile_dpbusd(c, a, b) amx_dpb(c, a, b, false, true)
#define _tile_dpbuud(c, a, b) amx_dpb(c, a, b, false, false)

#endif
