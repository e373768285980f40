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
