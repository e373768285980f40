# Parley. `make help` lists the targets. Output goes to build/<mode>/; MODE=release|debug|asan|tsan|fuzz|cov.

MODE ?= release
BUILD := build/$(MODE)
Q := $(if $(V),,@) # V=1 shows the commands
PREFIX ?= /usr/local
VERSION := 0.1.0

ifeq ($(MODE),fuzz)
CC := clang
else ifeq ($(origin CC),default)
CC := gcc
endif

PKGS := libevent libevent_pthreads jansson libpcre2-8 libcrypto
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wdouble-promotion -Wconversion \
        -Wwrite-strings -Wpointer-arith
CPPFLAGS_ALL := -Isrc -D_POSIX_C_SOURCE=200809L -DPARLEY_VERSION='"$(VERSION)"' $(CPPFLAGS)
CFLAGS_ALL := -std=c17 -g -fno-strict-aliasing -ffp-contract=off -fno-omit-frame-pointer -pthread $(WARN) \
              $(if $(WERROR),-Werror)
LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -pthread

OPT_release := -O2
OPT_debug := -Og
OPT_asan := -O1 -fsanitize=address,undefined -fno-sanitize-recover=undefined
OPT_tsan := -O1 -fsanitize=thread
OPT_fuzz := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
OPT_cov := -O0 --coverage
SAN_asan := -fsanitize=address,undefined
SAN_tsan := -fsanitize=thread
SAN_fuzz := -fsanitize=address,undefined
SAN_cov := --coverage
CFLAGS_ALL += $(OPT_$(MODE)) $(shell pkg-config --cflags $(PKGS) 2>/dev/null) $(CFLAGS)

# Asserts state contracts between our own functions and stay on everywhere but in the inner loops. Fuzzers and TSan leave those alone:
# instrumented they compile or run for many minutes; they take no locks, and the kernel tests run them under ASan and UBSan.
kernel_flags = $(if $(filter src/kernels/%,$(1)),-DNDEBUG $(if $(filter release,$(MODE)),-O3) $(if $(filter fuzz tsan,$(MODE)),-fno-sanitize=all))

# The file's suffix selects its instruction set; nothing else may use it (tools/check-isa).
# -O3 only where speed matters: a sanitizer on top of it compiles for minutes.
ISA_OPT := $(if $(filter release,$(MODE)),-O3)
ISA_avx2 := $(ISA_OPT) -mavx2 -mfma -mf16c
ISA_avx512 := $(ISA_OPT) -mavx2 -mfma -mf16c -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
ISA_amx := $(ISA_avx512) -mamx-tile -mamx-int8
isa = $(ISA_$(lastword $(subst _, ,$(basename $(notdir $(1))))))

SRCS := $(sort $(wildcard src/*/*.c src/*/*/*.c))
OBJS := $(SRCS:src/%.c=$(BUILD)/obj/%.o)
LIB := $(BUILD)/libparley.a
PROGRAM := $(BUILD)/parley
UNITS := $(patsubst tests/unit/%/,%,$(sort $(wildcard tests/unit/*/)))
UNIT_BINS := $(UNITS:%=$(BUILD)/tests/unit-%)
FUZZERS := $(patsubst tests/fuzz/fuzz_%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

all: $(PROGRAM) ## build the program (MODE=release by default)

$(BUILD)/flags: FORCE
	@mkdir -p $(BUILD)
	@echo '$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL)' | cmp -s - $@ || echo '$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL)' > $@

$(BUILD)/obj/%.o: src/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(call isa,$<) $(call kernel_flags,$<) -MMD -MP -c -o $@ $<

$(LIB): $(OBJS)
	@rm -f $@
	@echo "  AR   $@"
	$(Q)ar rcs $@ $(OBJS)

$(PROGRAM): $(BUILD)/obj/main.o $(LIB)
	@echo "  LINK $@"
	$(Q)$(CC) $(SAN_$(MODE)) -o $@ $^ $(LIBS)

# One test program a component: tests/unit/NAME/*.c -> build/MODE/tests/unit-NAME
define unit_rule
$(BUILD)/tests/unit-$(1): $(wildcard tests/unit/$(1)/*.c) $(wildcard tests/*.h tests/unit/*.h tests/unit/$(1)/*.h) $(LIB)
	@mkdir -p $$(@D)
	@echo "  LINK $$@"
	$(Q)$$(CC) $$(CPPFLAGS_ALL) -Itests/unit -Itests $$(CFLAGS_ALL) -Wno-missing-prototypes -o $$@ $$(filter %.c,$$^) $$(LIB) $$(LIBS) \
	    $$(shell pkg-config --cflags --libs check)
endef
$(foreach u,$(UNITS),$(eval $(call unit_rule,$(u))))

unit: $(UNIT_BINS) ## unit tests of all components (unit-NAME for one)
	@fail=0; for t in $(UNIT_BINS); do $(WRAP) $$t || fail=1; done; exit $$fail

unit-build: $(UNIT_BINS)

unit-%: $(BUILD)/tests/unit-%
	$(WRAP) $<

# Helper programs of tests: tests/tools/NAME.c -> build/MODE/tests/NAME
TOOL_BINS := $(patsubst tests/tools/%.c,$(BUILD)/tests/%,$(sort $(wildcard tests/tools/*.c)))
$(TOOL_BINS): $(BUILD)/tests/%: tests/tools/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -o $@ $< $(LIB) $(LIBS)

tools: $(TOOL_BINS) ## helper programs of the tests

# Fuzzers are always clang's: tests/fuzz/fuzz_NAME.c -> build/fuzz/fuzz_NAME. `make fuzz-NAME FUZZ_S=600` runs one.
FUZZ_S ?= 60
fuzz-library:
	@$(MAKE) --no-print-directory MODE=fuzz build/fuzz/libparley.a

build/fuzz/fuzz_%: tests/fuzz/fuzz_%.c fuzz-library
	clang $(CPPFLAGS_ALL) -std=c17 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -pthread $(WARN) \
	    -Wno-missing-prototypes -o $@ $< build/fuzz/libparley.a $(LIBS)

fuzz-%: build/fuzz/fuzz_%
	@mkdir -p build/fuzz/corpus-$* tests/fuzz/corpus/$*
	$< -max_total_time=$(FUZZ_S) -rss_limit_mb=2048 -timeout=10 -artifact_prefix=build/fuzz/ $(FUZZ_ARGS) \
	    $(addprefix -dict=,$(wildcard tests/fuzz/$*.dict)) \
	    build/fuzz/corpus-$* tests/fuzz/corpus/$*

fuzz-replay: $(FUZZERS:%=build/fuzz/fuzz_%) ## the corpora of all fuzzers, once
	@for f in $(FUZZERS); do echo "fuzz_$$f: $$(ls tests/fuzz/corpus/$$f | wc -l) inputs"; \
	    build/fuzz/fuzz_$$f -runs=0 -timeout=10 -rss_limit_mb=2048 tests/fuzz/corpus/$$f >build/fuzz/replay.log 2>&1 || \
	    { tail -40 build/fuzz/replay.log; exit 1; }; done

fuzz: $(FUZZERS:%=fuzz-%) ## every fuzzer for FUZZ_S seconds (fuzz-NAME for one)

# Every kernel of every level that this CPU has, against double precision; KERNEL_ARGS=--bench measures instead.
KERNEL_TESTS := $(wildcard tests/kernels/*.c)
$(BUILD)/tests/kernels: $(KERNEL_TESTS) $(wildcard tests/kernels/*.h) $(BUILD)/tests/large_amx_emulated.o $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	$(Q)$(CC) $(CPPFLAGS_ALL) -Itests/kernels $(CFLAGS_ALL) -Wno-missing-prototypes -o $@ $(filter %.c %.o,$^) $(LIB) $(LIBS)

# Level amx where the CPU has no tiles: the product's file, its instructions emulated.
$(BUILD)/tests/large_amx_emulated.o: src/kernels/x86/large_amx.c tests/kernels/amx_tiles.h $(LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(ISA_avx512) $(call kernel_flags,$<) -include tests/kernels/amx_tiles.h \
	    -Dkernels_fill_amx=kernels_fill_amx_emulated -c -o $@ $<

kernels: $(BUILD)/tests/kernels ## kernel tests of all levels
	$(WRAP) $< $(KERNEL_ARGS)

# ---- the two commands of README, and what they stand on ----
BUILD_DEPS := build-essential pkg-config libevent-dev libjansson-dev libpcre2-dev libssl-dev
RUN_DEPS := $(BUILD_DEPS) python3 python3-pip ca-certificates poppler-utils
TEST_DEPS := $(RUN_DEPS) check python3-venv universal-ctags
CHECK_DEPS := $(TEST_DEPS) clang clang-format libclang-rt-14-dev
HOST ?= 127.0.0.1
PORT ?= 8080
DATA ?= ../shared/data
VENV := build/venv
PYTHON ?= /usr/bin/python3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/parley

# pkg-config's answers are read when make starts: after an installation everything goes through a second make.
run: ## install, build, fetch the default model and serve it (MODEL=file.gguf PORT=8080 HOST=127.0.0.1 FLAGS=...)
	@tools/install-deps $(RUN_DEPS)
	@$(MAKE) --no-print-directory -s -j$$(nproc) MODE=release all
	@model='$(MODEL)'; [ -n "$$model" ] || model=$$(tools/fetch-model default) || exit 1; \
	    exec build/release/parley serve -m "$$model" --host $(HOST) --port $(PORT) $(FLAGS)

test: ## everything that must hold: unit, kernel, reference and end-to-end tests (about 15 minutes on two cores)
	@tools/install-deps $(TEST_DEPS)
	@$(MAKE) --no-print-directory -j$$(nproc) MODE=release test-build
	@$(MAKE) --no-print-directory MODE=release unit kernels oracle-if-there
	@$(MAKE) --no-print-directory MODE=release test-clients-if-there
	@$(MAKE) --no-print-directory MODE=release test-python

test-build: $(PROGRAM) $(UNIT_BINS) $(BUILD)/tests/kernels $(TOOL_BINS) $(BUILD)/tests/oracle $(VENV)/done $(VENV)-old/done

$(VENV)/done: tests/requirements.txt
	@tools/install-deps python3-venv && rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(VENV)/bin/pip install -q --disable-pip-version-check -r $< && touch $@
$(VENV)-old/done: tests/requirements-old.txt
	@tools/install-deps python3-venv && rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(VENV)-old/bin/pip install -q --disable-pip-version-check -r $< && touch $@

# The older SDK first, so that pytest's closing line of the whole suite comes last.
test-python: $(VENV)/done $(VENV)-old/done $(PROGRAM) $(TOOL_BINS)
	@tools/fetch-model default >/dev/null
	$(VENV)-old/bin/python -m pytest -q -p no:cacheprovider tests/e2e/test_sdk.py tests/e2e/test_tools.py
	$(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/compare tests/conformance tests/e2e

# The server under a parallel load with leaving clients, and the parts with threads, under the sanitizers. AddressSanitizer keeps
# little freed memory, so that the test that watches the server's memory sees leaks and not that.
sanitized: $(VENV)/done ## server and threaded parts under AddressSanitizer and ThreadSanitizer
	@tools/fetch-model default >/dev/null
	@$(MAKE) --no-print-directory -j$$(nproc) MODE=tsan all build/tsan/tests/unit-engine build/tsan/tests/unit-server \
	    build/tsan/tests/unit-http build/tsan/tests/unit-base
	@$(MAKE) --no-print-directory -j$$(nproc) MODE=asan all
	CK_TIMEOUT_MULTIPLIER=5 $(MAKE) --no-print-directory MODE=tsan unit-base unit-http unit-server unit-engine
	ASAN_OPTIONS=quarantine_size_mb=16 PARLEY=build/asan/parley PARLEY_SLOW=8 $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/e2e/test_lifecycle.py tests/e2e/test_wire.py
	PARLEY=build/tsan/parley PARLEY_SLOW=20 TSAN_OPTIONS=halt_on_error=1:exitcode=66 $(VENV)/bin/python -m pytest -q \
	    -p no:cacheprovider tests/e2e/test_lifecycle.py -k 'parallel or interrupt'

# All data sets of a folder laid out as ../shared/data; without that folder the project's own small sample.
$(BUILD)/tests/oracle: $(wildcard tests/oracle/*.c tests/oracle/*.h tests/walk.h) $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) -Itests/oracle -Itests $(CFLAGS_ALL) -o $@ $(filter %.c,$^) $(LIB) $(LIBS)

oracle: $(BUILD)/tests/oracle ## all data sets of DATA=DIR through the real code
	$< $(DATA)
oracle-if-there: $(BUILD)/tests/oracle
	$< tests/data tests/oracle/known-differences.txt
	@if [ -d $(DATA) ]; then $< $(DATA) tests/oracle/known-differences.txt; else echo 'no $(DATA): only the sample in tests/data was run'; fi

models: ## fetch the real models that the comparisons use (1.5 GB)
	@tools/install-deps python3 python3-pip
	@tools/fetch-model test

peers: ## build llama.cpp outside the repository (20 minutes)
	tools/build-peers

# The real clients, all fetched once and pinned: Claude Code, both generations of the TypeScript SDK, programs built on the Python
# SDK, Anthropic's own SDK tests. LONG=1 adds a prefill of 400 s.
CLIENTS := $(or $(PARLEY_CLIENTS),$(CACHE)/clients)
CLIENT_PARTS := $(CLIENTS)/claude-code-2.1.330/claude build/typescript/done build/venv-clients/done build/sdk-source/done
NPM_DEPS := $(if $(shell command -v npm),,nodejs npm)
$(CLIENTS)/claude-code-%/claude:
	@tools/install-deps $(NPM_DEPS)
	@tools/fetch-client $(CLIENTS) $*
build/typescript/done: $(wildcard tests/clients/typescript/package*.json)
	@tools/install-deps $(NPM_DEPS)
	@mkdir -p $(@D) && cp $^ $(@D) && cd $(@D) && npm ci --silent --no-audit --no-fund && touch done
build/venv-clients/done: tests/requirements-clients.txt
	@tools/install-deps python3-venv && rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/pip install -q --disable-pip-version-check -r $< && touch $@
build/sdk-source/done: tests/requirements-clients.txt
	@rm -rf $(@D) && mkdir -p $(@D) && $(PYTHON) -m pip download -q --disable-pip-version-check --no-deps --no-binary anthropic \
	    -d $(@D) "$$(grep '^anthropic==' $<)" && tar xzf $(@D)/anthropic-*.tar.gz -C $(@D) --strip-components=1 && touch $@
clients: $(CLIENT_PARTS)

test-clients: $(PROGRAM) $(VENV)/done clients ## the real clients against the program: Claude Code, SDKs, frameworks (LONG=1: slow ones)
	@tools/install-deps tmux
	PARLEY_LONG=$(LONG) $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/clients

# Without a network the rest of the tests still means something; what was left out is said.
test-clients-if-there: $(PROGRAM) $(VENV)/done
	@if $(MAKE) --no-print-directory -s clients && tools/install-deps tmux; then $(MAKE) --no-print-directory test-clients; \
	    else echo 'parley: NOT RUN: tests/clients (Claude Code, SDKs): their packages cannot be fetched, see above'; fi

PEER_SERVER := $(CACHE)/peers/llama.cpp-b11434/build-native/bin/llama-server
compare: all tools $(VENV)/done ## distributions and greedy answers against llama.cpp (NAMES=...)
	PARLEY_LLAMA_SERVER=$(PEER_SERVER) $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/compare/test_reference.py
	$(VENV)/bin/python tools/compare $(NAMES)

bench-agent: all $(VENV)/done ## one task of Claude Code with Qwen2.5-Coder-1.5B, on Parley and on llama-server
	$(VENV)/bin/python tools/bench-agent $(BENCH_ARGS)

bench: all bench-server ## speed against llama.cpp, alternating pairs (NAMES=...)
	tools/bench $(NAMES)

$(BUILD)/tests/bench_answer: tests/bench/bench_answer.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -o $@ $< $(LIB) $(LIBS)

bench-tools: all $(BUILD)/tests/bench_answer ## what 250 tools cost while an answer is generated
	$(BUILD)/tests/bench_answer
	$(PYTHON) tools/bench-tools $(BENCH_ARGS)

bench-server: all $(VENV)/done ## what a request costs beside the model's steps, in turns with llama-server
	$(VENV)/bin/python tools/bench-server $(BENCH_ARGS)

WALKS ?= 10000
grammar-walks: $(BUILD)/tests/grammar_walks $(VENV)/done ## random walks through masks, judged by python-jsonschema (WALKS=N of each schema)
	PARLEY_WALKS=$(WALKS) $(VENV)/bin/python -m pytest -q -p no:cacheprovider tests/compare/test_grammar.py

$(BUILD)/tests/bench_grammar: tests/bench/bench_grammar.c $(LIB)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) -o $@ $< $(LIB) $(LIBS)

bench-grammar: $(BUILD)/tests/bench_grammar ## masks, checks and compile times beside llguidance and xgrammar (DATA=DIR)
	$(PYTHON) tools/bench-grammar $(DATA) $(BENCH_ARGS)

check: all ## layers, sizes, instruction sets, format
	@tools/install-deps $(CHECK_DEPS)
	tools/check-layers
	tools/check-size
	tools/check-isa build/release
	clang-format --dry-run -Werror $$(git ls-files -co --exclude-standard '*.c' '*.h')

install: all ## into PREFIX (default /usr/local)
	install -D -m 755 build/release/parley $(DESTDIR)$(PREFIX)/bin/parley

help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

clean: ## remove build/
	rm -rf build

FORCE:
.PHONY: all unit tools kernels fuzz run test test-build test-python oracle oracle-if-there models peers compare bench check test-clients bench-grammar grammar-walks \
    clients test-clients-if-there bench-agent bench-server bench-tools \
    install help clean unit-build fuzz-library fuzz-replay sanitized FORCE
.SECONDARY:
-include $(OBJS:.o=.d) $(BUILD)/obj/main.d
