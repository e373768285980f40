/* signature: thinking blocks are signed, so that what came from here can be told from what did not. The key is a file
 * of the user's; without one it lasts as long as the program. Private to local/. */
#ifndef LOCAL_SIGNATURE_H
#define LOCAL_SIGNATURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define SIGNATURE_KEY_BYTES 32
#define SIGNATURE_TEXT_BYTES 45 /* base64 of 32 bytes and a NUL */

/* Reads the key, or makes one (mode 0600). Never fails: a path that cannot be used is logged and replaced by chance. */
void signature_key_load(unsigned char key[SIGNATURE_KEY_BYTES], struct str path);
/* HMAC-SHA-256 over model, a NUL and text. */
void signature_make(char out[SIGNATURE_TEXT_BYTES], const unsigned char key[SIGNATURE_KEY_BYTES], struct str model,
                    struct str text);
/* A signature that carries the text itself, unreadable without the key (AES-256-GCM): for clients that do not want to
 * see it, but send it back. false: out is full or the library refuses. */
bool signature_seal(struct buf *out, const unsigned char key[SIGNATURE_KEY_BYTES], struct str model, struct str text);

enum signature_kind {
    SIGNATURE_FOREIGN, /* not from here, or the text was changed */
    SIGNATURE_OWN,     /* of this text */
    SIGNATURE_SEALED   /* the text it carries was appended to out */
};
enum signature_kind signature_read(struct buf *out, const unsigned char key[SIGNATURE_KEY_BYTES], struct str model,
                                   struct str text, struct str signature);

#endif
