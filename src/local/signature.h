/* signature: thinking blocks are signed, so that what came from here can be told from what did not. The key is a file
 * of the user's; without one it lasts as long as the program. Private to local/. */
#ifndef LOCAL_SIGNATURE_H
#define LOCAL_SIGNATURE_H

#include <stdint.h>

#include "base/str.h"

#define SIGNATURE_KEY_BYTES 32
#define SIGNATURE_TEXT_BYTES 45 /* base64 of 32 bytes and a NUL */

/* Reads the key, or makes one (mode 0600). Never fails: a path that cannot be used is logged and replaced by chance. */
void signature_key_load(unsigned char key[SIGNATURE_KEY_BYTES], struct str path);
/* HMAC-SHA-256 over model, a NUL and text. */
void signature_make(char out[SIGNATURE_TEXT_BYTES], const unsigned char key[SIGNATURE_KEY_BYTES], struct str model,
                    struct str text);

#endif
