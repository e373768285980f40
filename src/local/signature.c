/* signature: see signature.h. */
#include "local/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/rng.h"

static bool read_key(unsigned char *key, const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = read(fd, key, SIGNATURE_KEY_BYTES) == SIGNATURE_KEY_BYTES;
    close(fd);
    return ok;
}

static bool write_key(const unsigned char *key, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    bool ok = write(fd, key, SIGNATURE_KEY_BYTES) == SIGNATURE_KEY_BYTES;
    return close(fd) == 0 && ok;
}

/* The folders above path, each only for the user. */
static void make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

void signature_key_load(unsigned char key[SIGNATURE_KEY_BYTES], struct str path)
{
    struct buf name;
    buf_init(&name, 4096);
    buf_append(&name, path);
    rng_secure(key, SIGNATURE_KEY_BYTES);
    if (path.len && !name.failed && !read_key(key, name.ptr)) {
        make_folders(name.ptr);
        if (!write_key(key, name.ptr))
            log_warn("cannot keep the key of thinking signatures in %s (%s): it lasts until the end of the program",
                     name.ptr, strerror(errno));
    }
    buf_deinit(&name);
}

void signature_make(char out[SIGNATURE_TEXT_BYTES], const unsigned char key[SIGNATURE_KEY_BYTES], struct str model,
                    struct str text)
{
    unsigned char mac[32];
    unsigned int n = sizeof mac;
    size_t size = model.len + 1 + text.len;
    unsigned char *data = mem_alloc(size);
    memset(data, 0, size);
    if (model.len) memcpy(data, model.ptr, model.len);
    if (text.len) memcpy(data + model.len + 1, text.ptr, text.len);
    HMAC(EVP_sha256(), key, SIGNATURE_KEY_BYTES, data, size, mac, &n);
    mem_free(data);
    EVP_EncodeBlock((unsigned char *)out, mac, sizeof mac);
}

/* ---- sealed ---- */

#define SEALED "p1-" /* what such a signature begins with; no base64 of an HMAC has a hyphen */
#define SEALED_LEN (sizeof SEALED - 1)
#define NONCE_BYTES 12
#define TAG_BYTES 16
#define SEAL_MAX_BYTES ((size_t)16 << 20)

/* One key for one purpose. */
static void seal_key(unsigned char out[32], const unsigned char *key)
{
    static const unsigned char purpose[] = "sealed thinking";
    unsigned int n = 32;
    HMAC(EVP_sha256(), key, SIGNATURE_KEY_BYTES, purpose, sizeof purpose, out, &n);
}

/* Runs the cipher over text[n] into out[n], bound to the model's name. tag is written or checked. */
static bool run_cipher(unsigned char *out, unsigned char tag[TAG_BYTES], bool seal, const unsigned char *key,
                       const unsigned char *nonce, struct str model, const unsigned char *text, size_t n)
{
    unsigned char own[32], rest[32];
    int done = 0, last = 0;
    seal_key(own, key);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    bool ok = c && EVP_CipherInit_ex(c, EVP_aes_256_gcm(), NULL, own, nonce, seal) &&
              EVP_CipherUpdate(c, NULL, &done, (const unsigned char *)model.ptr, (int)model.len) &&
              (n == 0 || EVP_CipherUpdate(c, out, &done, text, (int)n)) &&
              (seal || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG_BYTES, tag)) &&
              EVP_CipherFinal_ex(c, rest, &last) &&
              (!seal || EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG_BYTES, tag));
    EVP_CIPHER_CTX_free(c);
    return ok;
}

bool signature_seal(struct buf *out, const unsigned char key[SIGNATURE_KEY_BYTES], struct str model, struct str text)
{
    size_t n = NONCE_BYTES + TAG_BYTES + text.len, len = (n + 2) / 3 * 4;
    unsigned char *bytes = text.len <= SEAL_MAX_BYTES ? mem_try_alloc(n) : NULL;
    bool ok = bytes != NULL;
    if (ok) rng_secure(bytes, NONCE_BYTES);
    ok = ok && run_cipher(bytes + NONCE_BYTES + TAG_BYTES, bytes + NONCE_BYTES, true, key, bytes, model,
                          (const unsigned char *)text.ptr, text.len);
    ok = ok && buf_append(out, STR(SEALED));
    char *to = ok ? buf_reserve(out, len + 1) : NULL;
    if (to) {
        EVP_EncodeBlock((unsigned char *)to, bytes, (int)n);
        out->len += len;
    }
    mem_free(bytes);
    return to != NULL;
}

static bool unseal(struct buf *out, const unsigned char *key, struct str model, struct str signature)
{
    struct str code = str_slice(signature, SEALED_LEN, signature.len);
    size_t n = code.len / 4 * 3;
    if (code.len % 4 || n < NONCE_BYTES + TAG_BYTES || n > 2 * SEAL_MAX_BYTES) return false;
    unsigned char *bytes = mem_try_alloc(n);
    bool ok = bytes && EVP_DecodeBlock(bytes, (const unsigned char *)code.ptr, (int)code.len) == (int)n;
    for (size_t i = 0; ok && i < 2 && code.ptr[code.len - 1 - i] == '='; i++) n--;
    size_t len = n - NONCE_BYTES - TAG_BYTES;
    char *to = ok && n >= NONCE_BYTES + TAG_BYTES ? buf_reserve(out, len + 1) : NULL;
    ok = to && run_cipher((unsigned char *)to, bytes + NONCE_BYTES, false, key, bytes, model,
                          bytes + NONCE_BYTES + TAG_BYTES, len);
    if (ok) out->len += len;
    mem_free(bytes);
    return ok;
}

enum signature_kind signature_read(struct buf *out, const unsigned char key[SIGNATURE_KEY_BYTES], struct str model,
                                   struct str text, struct str signature)
{
    char own[SIGNATURE_TEXT_BYTES];
    if (str_starts(signature, STR(SEALED)))
        return unseal(out, key, model, signature) ? SIGNATURE_SEALED : SIGNATURE_FOREIGN;
    signature_make(own, key, model, text);
    return str_eq(signature, str_from(own)) ? SIGNATURE_OWN : SIGNATURE_FOREIGN;
}
