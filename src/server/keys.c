/* keys: API keys, kept as hashes. A presented key is hashed and compared with every stored hash in constant time. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "server/server_internal.h"

#define KEY_FILE_MAX_BYTES ((size_t)1 << 20)

static void key_add(struct server *s, struct str key)
{
    s->keys = mem_realloc(s->keys, (s->n_keys + 1) * sizeof *s->keys);
    struct server_key *k = &s->keys[s->n_keys++];
    SHA256((const unsigned char *)key.ptr, key.len, k->hash);
    /* The salt is derived once more, so that it tells nothing about the hash; stable, so that a cache on disk stays. */
    unsigned char again[KEY_HASH_SIZE];
    SHA256(k->hash, sizeof k->hash, again);
    memcpy(&k->salt, again, sizeof k->salt);
    memcpy(&k->id, again + sizeof k->salt, sizeof k->id);
    if (s->config->keys_share_cache) k->salt = 0;
}

static bool file_read(struct buf *out, struct str path, struct err *e)
{
    char name[4096];
    if (path.len >= sizeof name) return err_set(e, ERR_INVALID, "the path of the key file is too long");
    memcpy(name, path.ptr, path.len);
    name[path.len] = '\0';
    struct stat st;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_set(e, ERR_IO, "cannot open the key file %s: %s", name, strerror(errno));
    bool ok = !fstat(fd, &st) && S_ISREG(st.st_mode);
    if (!ok) err_set(e, ERR_INVALID, "the key file %s is not a regular file", name);
    while (ok) {
        char *to = buf_reserve(out, 4096);
        ssize_t n = to ? read(fd, to, 4096) : -1;
        if (n < 0) ok = err_set(e, ERR_IO, "cannot read the key file %s: %s", name, to ? strerror(errno) : "too large");
        if (n <= 0) break;
        out->len += (size_t)n;
    }
    close(fd);
    return ok;
}

static bool keys_read(struct server *s, struct err *e)
{
    struct buf text;
    buf_init(&text, KEY_FILE_MAX_BYTES);
    bool ok = file_read(&text, s->config->key_file, e);
    size_t before = s->n_keys;
    size_t from = 0;
    while (ok && from < text.len) {
        ptrdiff_t nl = str_find(buf_str(&text), STR("\n"), from);
        size_t to = nl < 0 ? text.len : (size_t)nl;
        struct str key = str_trim(str_slice(buf_str(&text), from, to));
        if (key.len && key.ptr[0] != '#') key_add(s, key);
        from = to + 1;
    }
    if (text.ptr) OPENSSL_cleanse(text.ptr, text.len);
    buf_deinit(&text);
    /* An empty file must not open the server to everybody. */
    if (ok && s->n_keys == before) return err_set(e, ERR_INVALID, "the key file has no key in it");
    return ok;
}

bool keys_load(struct server *s, struct err *e)
{
    for (size_t i = 0; i < s->config->n_keys; i++) {
        if (!s->config->keys[i].len) return err_set(e, ERR_INVALID, "an API key is empty");
        key_add(s, s->config->keys[i]);
    }
    return !s->config->key_file.len || keys_read(s, e);
}

void keys_free(struct server *s)
{
    mem_free(s->keys);
    s->keys = NULL;
    s->n_keys = 0;
}

static bool key_matches(const struct server *s, struct call *c, struct str key)
{
    unsigned char hash[KEY_HASH_SIZE];
    bool found = false;
    if (!key.len) return false;
    SHA256((const unsigned char *)key.ptr, key.len, hash);
    for (size_t i = 0; i < s->n_keys; i++) {
        bool same = CRYPTO_memcmp(hash, s->keys[i].hash, sizeof hash) == 0;
        if (same) {
            c->salt = s->keys[i].salt;
            c->key_id = s->keys[i].id;
        }
        found = found || same;
    }
    return found;
}

bool keys_check(const struct server *s, struct call *c, const struct http_exchange *x)
{
    if (!s->n_keys) return true;
    struct str bearer = http_header(x, "authorization");
    bool ok = false;
    if (bearer.len > 7 && str_eq_nocase(str_slice(bearer, 0, 7), STR("Bearer ")))
        ok = key_matches(s, c, str_trim(str_slice(bearer, 7, bearer.len)));
    return key_matches(s, c, http_header(x, "x-api-key")) || ok;
}
