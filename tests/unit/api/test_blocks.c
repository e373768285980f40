/* Blocks that bring files and other people's texts. Each test names the row of the API's table that it stands for. */
#include <string.h>

#include "decode.h"
#include "unit.h"

#define PNG "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgZGIGAAAOAAfXb+R4AAAAAElFTkSuQmCC"
#define IMAGE(type, data) \
    "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"media_type\":\"" type "\",\"data\":\"" data "\"}}"
#define CALLED(content)                                                                            \
    BODY(ASSISTANT("[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}]") "," USER( \
             "[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":[" content "]}]"),      \
         "")
#define DOCUMENT(source, more) "{\"type\":\"document\",\"source\":{" source "}" more "}"

static void gives(const char *json, const char *texts)
{
    struct chat_request *r = decode_ok(json);
    ck_assert_str_eq(texts_of(r, r->n_messages - 1), texts);
    chat_request_destroy(r);
}

START_TEST(image_in_user_and_result)
{
    struct chat_request *r = decode_ok(BODY(USER("[" IMAGE("image/jpeg", PNG) "," TEXT("what") "]"), ""));
    const struct chat_block *x = &r->messages[0].blocks[0];
    ck_assert_str_eq(texts_of(r, 0), "<image>|what");
    ck_assert(x->width == 1 && x->height == 1 && str_eq(x->media_type, STR("image/png")));
    ck_assert(x->data.len == 69 && !memcmp(x->data.ptr, "\x89PNG", 4));
    ck_assert(str_eq(x->where, STR("messages.0.content.0")) && r->n_images == 1);
    chat_request_destroy(r);
    r = decode_ok(CALLED(IMAGE("image/png", PNG)));
    ck_assert_str_eq(block_texts(r->messages[1].blocks[0].blocks, 1), "<image>");
    chat_request_destroy(r);
}
END_TEST

START_TEST(image_that_is_none)
{
    decode_refused(BODY(USER("[" IMAGE("image/png", "@@@@") "]"), ""),
                   "messages.0.content.0.source.data: Input should be base64", NULL);
    decode_refused(
        BODY(USER("[" IMAGE("image/png", "AAAA") "]"), ""),
        "messages.0.content.0.source.data: Could not process image: the data is not a PNG, JPEG, GIF or WebP", NULL);
    decode_refused(BODY(USER("[" IMAGE("image/gif", "R0lGODlhECcQJwAAAA==") "]"), ""),
                   "messages.0.content.0.source.data: Could not process image: the image is 10000 x 10000",
                   "image_dimensions_too_large");
    decode_refused(BODY(USER("[{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":\"http://x/y.png\"}}]"), ""),
                   "messages.0.content.0.source.type: \"url\" sources are not supported", NULL);
    decode_refused(BODY(USER("[{\"type\":\"image\",\"source\":{\"type\":\"file\",\"file_id\":\"file_1\"}}]"), ""),
                   "messages.0.content.0.source.type: \"file\" sources are not supported", NULL);
    decode_refused(BODY(USER("[{\"type\":\"image\",\"source\":{\"type\":\"gopher\"}}]"), ""),
                   "messages.0.content.0.source.type: unknown source type \"gopher\"", NULL);
    decode_refused(BODY(USER("[{\"type\":\"image\"}]"), ""), "messages.0.content.0.source: Field required", NULL);
}
END_TEST

START_TEST(images_that_are_too_large_are_all_named)
{
    static const struct anthropic_support sees = {.images = true, .tools = true};
    struct anthropic_error e = {0};
    struct chat_request *r;
    struct buf out;
    char body[] =
        BODY(ASSISTANT("[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"f\",\"input\":{}}]") "," USER(
                 "[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":[" IMAGE(
                     "image/gif",
                     "R0lGODlhECcQJwAAAA==") "]}," TEXT("x") "," IMAGE("image/png",
                                                                       PNG) "," IMAGE("image/gif",
                                                                                      "R0lGODlhECcQJwAAAA==") "]"),
             "");
    ck_assert(!anthropic_request_decode(&r, body, sizeof body - 1, ANTHROPIC_CREATE, &sees, &e));
    buf_init(&out, 4000);
    anthropic_error_write(&out, &e, STR("req_1"));
    ck_assert_msg(
        strstr(out.ptr,
               "\"details\":{\"error_code\":\"image_dimensions_too_large\",\"max_side_length_pixels\":8000,\"paths\":["
               "\"messages.1.content.0.content.0\",\"messages.1.content.3\"]}") != NULL,
        "%s", out.ptr);
    ck_assert(
        strstr(out.ptr,
               "messages.1.content.0.content.0.source.data: Could not process image: the image is 10000 x 10000") !=
        NULL);
    buf_deinit(&out);
}
END_TEST

START_TEST(image_over_ten_megabytes)
{
    struct buf b;
    buf_init(&b, (size_t)16 << 20);
    buf_append(&b, STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"source\":{"
                       "\"type\":\"base64\","
                       "\"media_type\":\"image/png\",\"data\":\""));
    for (size_t i = 0; i < ((size_t)10 << 20) / 64 + 1; i++)
        buf_append(&b, STR("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"));
    buf_append(&b, STR("\"}}]}]}"));
    decode_refused(b.ptr, "messages.0.content.0.source: image exceeds 10 MB maximum", NULL);
    buf_deinit(&b);
}
END_TEST

START_TEST(image_for_a_model_without_eyes)
{
    static const struct anthropic_support text_only = {.tools = true};
    struct anthropic_error e;
    struct chat_request *r;
    char body[] = BODY(USER("[" IMAGE("image/png", "broken") "]"), "");
    ck_assert(!anthropic_request_decode(&r, body, sizeof body - 1, ANTHROPIC_CREATE, &text_only, &e));
    ck_assert_int_eq(e.status, 400);
    ck_assert_str_eq(e.message,
                     "messages.0.content.0.type: \"image\" blocks are not supported: the model has no image input "
                     "(capability_rejected: image_block)");
}
END_TEST

START_TEST(document_of_text)
{
    gives(BODY(USER("[" DOCUMENT("\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":\"body\"",
                                 ",\"title\":\"T\",\"context\":\"C\",\"citations\":{\"enabled\":false}") "]"),
               ""),
          "<document title=\"T\">\n<context>C</context>\nbody\n</document>");
    gives(BODY(USER("[" DOCUMENT("\"type\":\"text\",\"data\":\"body\"", ",\"title\":null") "]"), ""),
          "<document>\nbody\n</document>");
    gives(
        BODY(USER("[" DOCUMENT("\"type\":\"base64\",\"media_type\":\"text/plain\",\"data\":\"Ym9keQ==\"", "") "]"), ""),
        "<document>\nbody\n</document>");
}
END_TEST

START_TEST(document_of_content)
{
    gives(BODY(USER("[" DOCUMENT("\"type\":\"content\",\"content\":\"one\"", "") "]"), ""),
          "<document>\none\n</document>");
    gives(BODY(USER("[" DOCUMENT("\"type\":\"content\",\"content\":[" TEXT("one") "," TEXT("two") "]", "") "]"), ""),
          "<document>\none\ntwo\n</document>");
    decode_refused(BODY(USER("[" DOCUMENT("\"type\":\"content\",\"content\":[{\"type\":\"tool_use\"}]", "") "]"), ""),
                   "messages.0.content.0.source.content.0.type: a \"tool_use\" block cannot stand in a document", NULL);
}
END_TEST

START_TEST(document_in_a_result_and_in_the_assistant_s_turn)
{
    struct chat_request *r = decode_ok(CALLED(DOCUMENT("\"type\":\"text\",\"data\":\"x\"", "")));
    ck_assert_str_eq(block_texts(r->messages[1].blocks[0].blocks, 1), "<document>\nx\n</document>");
    chat_request_destroy(r);
    gives(BODY(ASSISTANT("[" DOCUMENT("\"type\":\"text\",\"data\":\"x\"", "") "]"), ""), "<document>\nx\n</document>");
}
END_TEST

START_TEST(document_as_pdf_waits_to_be_read)
{
    struct chat_request *r = decode_ok(BODY(
        USER("\"a\"") "," USER("[" DOCUMENT(
            "\"type\":\"base64\",\"media_type\":\"application/pdf\",\"data\":\"JVBERi0x\"", ",\"title\":\"T\"") "]"),
        ""));
    const struct chat_block *x = &r->messages[0].blocks[1];
    ck_assert(x->kind == CHAT_DOCUMENT && str_eq(x->data, STR("%PDF-1")) && str_eq(x->title, STR("T")));
    ck_assert(str_eq(x->where, STR("messages.1.content.0")) && r->n_documents == 1);
    chat_request_destroy(r);
}
END_TEST

START_TEST(document_that_cannot_be)
{
    decode_refused(BODY(USER("[" DOCUMENT("\"type\":\"url\",\"url\":\"https://x/y.pdf\"", "") "]"), ""),
                   "messages.0.content.0.source.type: \"url\" sources are not supported", NULL);
    decode_refused(BODY(USER("[" DOCUMENT("\"type\":\"file\",\"file_id\":\"file_1\"", "") "]"), ""),
                   "messages.0.content.0.source.type: \"file\" sources are not supported", NULL);
    decode_refused(
        BODY(USER("[" DOCUMENT("\"type\":\"base64\",\"media_type\":\"application/zip\",\"data\":\"\"", "") "]"), ""),
        "messages.0.content.0.source.media_type: Input should be application/pdf or text/plain", NULL);
    decode_refused(
        BODY(USER("[" DOCUMENT("\"type\":\"base64\",\"media_type\":\"text/plain\",\"data\":\"/////w==\"", "") "]"), ""),
        "messages.0.content.0.source.data: Input should be UTF-8", NULL);
}
END_TEST

START_TEST(citations_are_noted_once)
{
    struct chat_request *r = decode_ok(
        BODY(USER("[" DOCUMENT("\"type\":\"text\",\"data\":\"x\"", ",\"citations\":{\"enabled\":true}") "," DOCUMENT(
                 "\"type\":\"text\",\"data\":\"y\"", ",\"citations\":{\"enabled\":true}") "]"),
             ""));
    ck_assert(r->notes && !r->notes->next);
    ck_assert(str_starts(r->notes->text, STR("messages.0.content.0.citations: ")));
    chat_request_destroy(r);
}
END_TEST

#define SEARCH                                                                                                 \
    "{\"type\":\"search_result\",\"source\":\"https://s\",\"title\":\"T\",\"content\":[" TEXT("one") "," TEXT( \
        "two") "]}"

START_TEST(search_result_in_user_and_result)
{
    static const char text[] = "<search_result source=\"https://s\" title=\"T\">\none\ntwo\n</search_result>";
    gives(BODY(USER("[" SEARCH "]"), ""), text);
    struct chat_request *r = decode_ok(CALLED(SEARCH));
    ck_assert_str_eq(block_texts(r->messages[1].blocks[0].blocks, 1), text);
    chat_request_destroy(r);
}
END_TEST

START_TEST(browser_state_in_result)
{
    struct chat_request *r = decode_ok(CALLED("{\"type\":\"browser_state\",\"tabs\":[{\"tab_id\":\"1\",\"title\":"
                                              "\"Home\",\"url\":\"http://h\",\"active\":true},"
                                              "{\"tab_id\":\"2\",\"title\":\"\",\"url\":\"\"}],\"state_changes\":[{"
                                              "\"type\":\"tab_opened\",\"tab_id\":\"2\"},7]}"));
    ck_assert_str_eq(block_texts(r->messages[1].blocks[0].blocks, 1),
                     "<browser_state>\nactive tab id=\"1\" title=\"Home\" url=\"http://h\"\ntab id=\"2\"\n"
                     "tab_opened tab_id=\"2\"\n\n</browser_state>");
    chat_request_destroy(r);
}
END_TEST

START_TEST(container_upload_is_refused)
{
    decode_refused(
        BODY(USER("[{\"type\":\"container_upload\",\"file_id\":\"f\"}]"), ""),
        "messages.0.content.0.type: \"container_upload\" blocks are not supported: this server has no containers",
        NULL);
}
END_TEST

START_TEST(unknown_block_type_lists_the_expected_ones)
{
    decode_refused(
        BODY(ASSISTANT("[" TEXT("a") ",{\"type\":\"hologram\"}]"), ""),
        "messages.0.content.1.type: Input tag 'hologram' found using 'type' does not match any of the expected tags: "
        "'text', 'thinking', 'redacted_thinking', 'tool_use', ",
        NULL);
    decode_refused(CALLED("{\"type\":\"hologram\"}"), "messages.1.content.0.content.0.type: Input tag 'hologram'",
                   NULL);
}
END_TEST

void add_blocks(TCase *tc);
void add_blocks(TCase *tc)
{
    tcase_add_test(tc, image_in_user_and_result);
    tcase_add_test(tc, image_that_is_none);
    tcase_add_test(tc, images_that_are_too_large_are_all_named);
    tcase_add_test(tc, image_over_ten_megabytes);
    tcase_add_test(tc, image_for_a_model_without_eyes);
    tcase_add_test(tc, document_of_text);
    tcase_add_test(tc, document_of_content);
    tcase_add_test(tc, document_in_a_result_and_in_the_assistant_s_turn);
    tcase_add_test(tc, document_as_pdf_waits_to_be_read);
    tcase_add_test(tc, document_that_cannot_be);
    tcase_add_test(tc, citations_are_noted_once);
    tcase_add_test(tc, search_result_in_user_and_result);
    tcase_add_test(tc, browser_state_in_result);
    tcase_add_test(tc, container_upload_is_refused);
    tcase_add_test(tc, unknown_block_type_lists_the_expected_ones);
}
