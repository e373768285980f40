/* Unit tests of thinking signatures: what is from here is known, and sealed text comes back only unchanged. */
#include <string.h>

#include "local/signature.h"
#include "unit.h"

unit_adder add_signature_tests;

static const unsigned char key[SIGNATURE_KEY_BYTES] = "a key for tests, 32 bytes long.";
static const unsigned char other_key[SIGNATURE_KEY_BYTES] = "another one, as long as it must";

START_TEST(own_text_is_known)
{
    char signature[SIGNATURE_TEXT_BYTES];
    struct buf out;
    buf_init(&out, 1000);
    signature_make(signature, key, STR("m"), STR("a thought"));
    struct str s = str_from(signature);
    ck_assert_int_eq(signature_read(&out, key, STR("m"), STR("a thought"), s), SIGNATURE_OWN);
    ck_assert_int_eq(signature_read(&out, key, STR("m"), STR("a thoughT"), s), SIGNATURE_FOREIGN);
    ck_assert_int_eq(signature_read(&out, key, STR("n"), STR("a thought"), s), SIGNATURE_FOREIGN);
    ck_assert_int_eq(signature_read(&out, other_key, STR("m"), STR("a thought"), s), SIGNATURE_FOREIGN);
    ck_assert_int_eq(signature_read(&out, key, STR("m"), STR("a thought"), STR_NONE), SIGNATURE_FOREIGN);
    ck_assert_uint_eq(out.len, 0);
    buf_deinit(&out);
}
END_TEST

START_TEST(sealed_text_comes_back)
{
    char text[70];
    memset(text, 'x', sizeof text);
    for (size_t n = 0; n < sizeof text; n++) {
        struct buf sealed, out;
        buf_init(&sealed, 1000);
        buf_init(&out, 1000);
        buf_append(&out, STR("before "));
        ck_assert(signature_seal(&sealed, key, STR("m"), (struct str){text, n}));
        ck_assert(str_find(buf_str(&sealed), STR("eHh4eHh4eHh4"), 0) < 0); /* what the text would be, not sealed */
        ck_assert_int_eq(signature_read(&out, key, STR("m"), STR_NONE, buf_str(&sealed)), SIGNATURE_SEALED);
        ck_assert_uint_eq(out.len, 7 + n);
        ck_assert_mem_eq(out.ptr + 7, text, n);
        buf_deinit(&sealed);
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(a_changed_seal_is_foreign)
{
    struct buf sealed, out;
    buf_init(&sealed, 1000);
    buf_init(&out, 1000);
    ck_assert(signature_seal(&sealed, key, STR("m"), STR("a thought that is sealed")));
    struct str whole = buf_str(&sealed);
    ck_assert_int_eq(signature_read(&out, other_key, STR("m"), STR_NONE, whole), SIGNATURE_FOREIGN);
    ck_assert_int_eq(signature_read(&out, key, STR("n"), STR_NONE, whole), SIGNATURE_FOREIGN);
    for (size_t i = 0; i < whole.len; i++) {
        char old = sealed.ptr[i];
        if (old == '=' || (i + 1 < whole.len && sealed.ptr[i + 1] == '=')) continue; /* bits that mean nothing */
        ck_assert_int_eq(signature_read(&out, key, STR("m"), STR_NONE, str_slice(whole, 0, i)), SIGNATURE_FOREIGN);
        sealed.ptr[i] = old == 'A' ? 'B' : 'A';
        ck_assert_int_eq(signature_read(&out, key, STR("m"), STR_NONE, whole), SIGNATURE_FOREIGN);
        sealed.ptr[i] = old;
    }
    ck_assert_uint_eq(out.len, 0);
    buf_deinit(&sealed);
    buf_deinit(&out);
}
END_TEST

void add_signature_tests(TCase *tc)
{
    tcase_add_test(tc, own_text_is_known);
    tcase_add_test(tc, sealed_text_comes_back);
    tcase_add_test(tc, a_changed_seal_is_foreign);
}
