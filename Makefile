# make              the library and the command
# make install      PREFIX (/usr/local) and DESTDIR as usual; make uninstall
# make demo         a C program dumps itself and comes back (root)
# make test         all checks (root); in the end, what was left out on this machine, and why
# make test-axes    every state of tests/programs in the ways that make test leaves out (root)
# make bench        dump and restore, in pairs with the CRIU that CRIU_PEER names (root)
# make header       writes include/criu/criu.h anew; make header-check compares
# make manual       writes docs/ (manual pages, completions) anew; make manual-check compares
# make symbols      writes the list of exported symbols anew; make symbols-check compares

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
CC      ?= cc
CXX     ?= c++
TARGET  := $(or $(CARGO_TARGET_DIR),target)

SONAME  := libcriu.so.2
REAL    := libcriu.so.2.0
VERSION := $(shell sed -n 's/^.define CRIU_VERSION "\(.*\)"/\1/p' include/criu/version.h)
OUT     := $(DESTDIR)$(PREFIX)

BASH_DIR := $(OUT)/share/bash-completion/completions
ZSH_DIR  := $(OUT)/share/zsh/site-functions
FISH_DIR := $(OUT)/share/fish/vendor_completions.d

.PHONY: build install uninstall demo test test-axes lint header header-check manual manual-check symbols \
	symbols-check soname-check rust-test c-test nothing-left-out left-out bench clean

# The command is linked statically: it is the worker that every verb starts, and starts in half the time.
build:
	$(CARGO) build --release --lib
	$(CARGO) rustc --release --bin criu -- -C target-feature=+crt-static

install: build
	install -d $(OUT)/lib/pkgconfig $(OUT)/include/criu $(OUT)/sbin
	install -m 755 $(TARGET)/release/libcriu.so $(OUT)/lib/$(REAL)
	ln -sf $(REAL) $(OUT)/lib/$(SONAME)
	ln -sf $(SONAME) $(OUT)/lib/libcriu.so
	install -m 644 $(TARGET)/release/libcriu.a $(OUT)/lib/libcriu.a
	install -m 644 include/criu/criu.h include/criu/version.h $(OUT)/include/criu/
	sed -e 's|@prefix@|$(PREFIX)|' -e 's|@version@|$(VERSION)|' pkgconfig/criu.pc.in \
		> $(OUT)/lib/pkgconfig/criu.pc
	chmod 644 $(OUT)/lib/pkgconfig/criu.pc
	install -m 755 $(TARGET)/release/criu $(OUT)/sbin/criu
	install -d $(OUT)/share/man/man8 $(OUT)/share/man/man3 $(BASH_DIR) $(ZSH_DIR) $(FISH_DIR)
	install -m 644 docs/criu.8 $(OUT)/share/man/man8/criu.8
	install -m 644 docs/libcriu.3 $(OUT)/share/man/man3/libcriu.3
	install -m 644 docs/completions/criu.bash $(BASH_DIR)/criu
	install -m 644 docs/completions/criu.zsh $(ZSH_DIR)/_criu
	install -m 644 docs/completions/criu.fish $(FISH_DIR)/criu.fish

uninstall:
	rm -f $(OUT)/lib/$(REAL) $(OUT)/lib/$(SONAME) $(OUT)/lib/libcriu.so $(OUT)/lib/libcriu.a \
		$(OUT)/lib/pkgconfig/criu.pc $(OUT)/sbin/criu \
		$(OUT)/share/man/man8/criu.8 $(OUT)/share/man/man3/libcriu.3 \
		$(BASH_DIR)/criu $(ZSH_DIR)/_criu $(FISH_DIR)/criu.fish \
		$(OUT)/include/criu/criu.h $(OUT)/include/criu/version.h
	-rmdir $(OUT)/include/criu 2>/dev/null

# The header and the manual are compared by the Rust tests.
test: build lint symbols-check soname-check rust-test c-test left-out

lint:
	$(CARGO) fmt --all --check -- $$(find src -name '*.rs')
	$(CARGO) clippy --workspace --all-targets -- -D warnings

header:
	CRIU_WRITE_HEADER=1 $(CARGO) test --test main header::

header-check:
	$(CARGO) test --test main header::

manual:
	CRIU_WRITE_MANUAL=1 $(CARGO) test --test main manual::

manual-check:
	$(CARGO) test --test main manual::

EXPORTED = nm -D --defined-only $(TARGET)/release/libcriu.so | awk '{print $$3}' | LC_ALL=C sort

symbols: build
	$(EXPORTED) > c-tests/symbols.txt

symbols-check: build
	$(EXPORTED) | diff c-tests/symbols.txt - || \
		{ echo 'exported symbols changed; if that is meant, run `make symbols`'; exit 1; }

soname-check: build
	readelf -d $(TARGET)/release/libcriu.so | grep -q 'SONAME.*\[$(SONAME)\]'

# What a machine cannot run is noted there, a line each: the reason, a tab, the test. With CI set it is an
# error to leave out what the machine could run.
export CRIU_TESTS_LEFT_OUT := $(abspath $(TARGET))/left-out

nothing-left-out:
	rm -f $(CRIU_TESTS_LEFT_OUT)

rust-test: | nothing-left-out
	$(CARGO) test --workspace

test-axes:
	$(CARGO) test --test main states:: -- --ignored

left-out: rust-test c-test
	@if [ -s $(CRIU_TESTS_LEFT_OUT) ]; then tests/left-out <$(CRIU_TESTS_LEFT_OUT); fi

# The C tests are built through pkg-config against an installed tree: with the shared library and the
# installed worker, with the shared library alone, and with the static library.
STAGE    := $(abspath $(TARGET)/stage)
CTESTS   := abi misuse independence inprocess self harness snapshot notify host outside exchange
CFLAGS_T := -std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -Werror -pedantic -pthread
PKG      := PKG_CONFIG_PATH=$(STAGE)/lib/pkgconfig pkg-config
STRICT   := -Wall -Wextra -Werror -pedantic -fsyntax-only

c-test: $(STAGE)/installed | nothing-left-out
	for std in c99 c11 c17; do \
		$(CC) -std=$$std $(STRICT) $$($(PKG) --cflags criu) c-tests/abi.c || exit 1; done
	if command -v $(CXX) >/dev/null; then for std in c++11 c++17; do \
		$(CXX) -x c++ -std=$$std $(STRICT) $$($(PKG) --cflags criu) c-tests/abi.c || exit 1; done; \
		else printf 'there is no C++ compiler\tc-tests/abi.c as C++\n' >>$(CRIU_TESTS_LEFT_OUT); \
		[ -z "$$CI" ] || { echo 'left out in spite of CI: there is no C++ compiler'; exit 1; }; fi
	for test in $(CTESTS) dlopen; do \
		$(CC) $(CFLAGS_T) c-tests/$$test.c -o $(STAGE)/shared/$$test \
			$$($(PKG) --cflags --libs criu) -ldl || exit 1; done
	for test in $(CTESTS); do \
		$(CC) $(CFLAGS_T) -static c-tests/$$test.c -o $(STAGE)/static/$$test \
			$$($(PKG) --static --cflags --libs criu) 2>$(STAGE)/static/$$test.log || \
			{ cat $(STAGE)/static/$$test.log; exit 1; }; done
	c-tests/run $(STAGE)/shared $(STAGE)/lib $(CTESTS) dlopen
	c-tests/run $(STAGE)/shared $(STAGE)/alone/lib $(CTESTS) dlopen
	c-tests/run $(STAGE)/static '' $(CTESTS)

$(STAGE)/installed: build
	rm -rf $(STAGE)
	$(MAKE) --no-print-directory install PREFIX=$(STAGE) DESTDIR=
	mkdir -p $(STAGE)/shared $(STAGE)/static $(STAGE)/alone/lib
	@# No sbin/criu beside this one.
	cp $(STAGE)/lib/$(REAL) $(STAGE)/alone/lib/$(SONAME)
	touch $@

# What is installed is what is measured: its command starts quicker than one of `cargo build`.
bench: $(STAGE)/installed
	CRIU_BIN=$(STAGE)/sbin/criu $(CARGO) bench --bench paired

demo: $(STAGE)/installed
	$(CC) -std=gnu11 -Wall -Wextra examples/self-dump.c -o $(STAGE)/self-dump \
		$$($(PKG) --cflags --libs criu)
	LD_LIBRARY_PATH=$(STAGE)/lib $(STAGE)/self-dump

clean:
	$(CARGO) clean
