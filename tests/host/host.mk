# Host tests and fuzzers: the pure sources of the kernel, compiled for this machine (still 32 bits) under the
# sanitizers. Included by the Makefile, which sets BUILD. Targets: host-test, fuzz-run.

HOST_BUILD := $(BUILD)/host
HOST_CXX ?= clang++-19
FUZZ_CXX ?= clang++-19
FUZZ_SECONDS ?= 4
FUZZ_SEED ?= 1

# Sources without hardware. A file may stand here if it includes only pure headers.
HOST_SOURCES := arch/x86/madt.cpp kernel/lib/format.cpp kernel/lib/parse.cpp kernel/base/cmdline.cpp \
                mm/memory_map.cpp mm/multiboot_mmap.cpp mm/region_allocator.cpp mm/buddy.cpp mm/direct_map_holes.cpp \
                kernel/block/dma_pieces.cpp kernel/block/bounce_sectors.cpp kernel/block/partition_table.cpp \
                kernel/block/request_order.cpp kernel/block/ide_identify.cpp kernel/block/virtio_ring.cpp \
                kernel/process/elf.cpp kernel/fs/cpio.cpp \
                mm/user_area.cpp mm/swap_map.cpp mm/swap_header.cpp \
                mm/layout_plan.cpp mm/va_space.cpp mm/slab_store.cpp mm/slab_check.cpp mm/page_index.cpp \
                $(addprefix kernel/fs/ext2_,alloc.cpp core.cpp cut.cpp directory.cpp geometry.cpp inode.cpp map.cpp \
                rename.cpp retired.cpp volume.cpp)
# The console and the test framework, with the self-tests that they have of themselves.
HOST_TEST_SOURCES := $(addprefix kernel/console/,args.cpp builtins.cpp completion.cpp console.cpp console_test.cpp \
                interpreter.cpp kernel_console.cpp line_editor.cpp line_editor_view.cpp line_sink.cpp text.cpp) \
                $(addprefix kernel/test/,context.cpp ktest_test.cpp runner.cpp) \
                $(addprefix kernel/bench/,bench_test.cpp report.cpp)
HOST_TESTS := $(wildcard tests/host/*_test.cpp)

# Line numbers are all that the sanitizers' reports need of -g.
HOST_COMMON := -m32 -std=gnu++23 -O1 -g1 -Wall -Wextra -Werror -Iinclude -Itests/host -DPAEAN_DEBUG -MMD -MP \
               -fno-omit-frame-pointer
# qemu-user, where it must stand in (scripts/lib/i386.py), puts programs that may lie anywhere beside the sanitizer's
# shadow.
HOST_LINK := -no-pie
HOST_FLAGS = $(HOST_COMMON) $(HOST_EFFORT) -DPAEAN_HOST_TESTS -fsanitize=address,undefined -fno-sanitize-recover=all
HOST_ALONE := tests/host/main.cpp tests/host/console_ktest_test.cpp
# To optimize a test takes longer than to run it does, but for these.
HOST_BUSY := $(patsubst %,tests/host/%_test.cpp,ext2 ext2_damage ext2_fault ext2_model hbitmap kmap_pool line_editor \
             page_index reclaim_sim slab_store zone_shares)
ifeq ($(UNITS),1)
united_in = $(patsubst %.cpp,%.o,$(shell scripts/make-units $(HOST_BUILD)/$(1)/units $(2)))
# Not all together: the framework of the kernel's tests and doctest have macros of the same name.
HOST_OBJECTS := $(patsubst %.cpp,$(HOST_BUILD)/%.o,$(HOST_ALONE)) \
                $(call united_in,pure,$(HOST_SOURCES)) $(call united_in,framework,$(HOST_TEST_SOURCES)) \
                $(call united_in,busy,$(HOST_BUSY) tests/host/support.cpp)
HOST_IDLE := $(call united_in,idle,$(filter-out $(HOST_ALONE) $(HOST_BUSY),$(HOST_TESTS)))
else
HOST_OBJECTS := $(patsubst %.cpp,$(HOST_BUILD)/%.o,$(HOST_SOURCES) $(HOST_TEST_SOURCES) $(HOST_BUSY) \
                tests/host/main.cpp tests/host/support.cpp)
HOST_IDLE := $(patsubst %.cpp,$(HOST_BUILD)/%.o,$(filter-out $(HOST_BUSY),$(HOST_TESTS)))
endif
$(HOST_IDLE): HOST_EFFORT := -O0

$(HOST_BUILD)/%.o: %.cpp
	@mkdir -p $(@D)
	$(HOST_CXX) $(HOST_FLAGS) -c $< -o $@

$(HOST_BUILD)/%.o: $(HOST_BUILD)/%.cpp
	$(HOST_CXX) $(HOST_FLAGS) -iquote . -c $< -o $@

# What several objects have is taken from the first.
$(HOST_BUILD)/host-tests: $(HOST_OBJECTS) $(HOST_IDLE)
	$(HOST_CXX) $(HOST_FLAGS) $(HOST_LINK) $^ -o $@

.PHONY: host-test
host-test: $(HOST_BUILD)/host-tests
	@tests/host/run.py $(HOST_BUILD)/host-tests -- tests/host/must_not_compile.py

# One binary a fuzzer: tests/fuzz/x_fuzz.cpp with all pure sources. What a parser compares its input with is worth
# trying as input; elsewhere it is not, and noting every comparison took most of a fuzzer's time.
FUZZ_FLAGS = $(HOST_COMMON) -O2 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all $(FUZZ_TRACES)
FUZZ_TRACES = -fno-sanitize-coverage=trace-cmp
PARSERS := $(filter %/madt.cpp %/multiboot_mmap.cpp %/partition_table.cpp %/ide_identify.cpp %/virtio_ring.cpp \
           %/elf.cpp %/cpio.cpp %/swap_header.cpp kernel/fs/ext2_%,$(HOST_SOURCES))
FUZZ_OTHERS := $(filter-out $(PARSERS),$(HOST_SOURCES)) tests/host/support.cpp
ifeq ($(UNITS),1)
PARSER_OBJECTS := $(call united_in,fuzz/parsers,$(PARSERS))
FUZZ_LIB := $(PARSER_OBJECTS) $(call united_in,fuzz,$(FUZZ_OTHERS))
else
PARSER_OBJECTS := $(PARSERS:%.cpp=$(HOST_BUILD)/fuzz/%.o)
FUZZ_LIB := $(PARSER_OBJECTS) $(FUZZ_OTHERS:%.cpp=$(HOST_BUILD)/fuzz/%.o)
endif
$(PARSER_OBJECTS): FUZZ_TRACES :=
FUZZERS := $(patsubst tests/fuzz/%_fuzz.cpp,$(HOST_BUILD)/fuzz/%,$(wildcard tests/fuzz/*_fuzz.cpp))

$(HOST_BUILD)/fuzz/%.o: %.cpp
	@mkdir -p $(@D)
	$(FUZZ_CXX) $(FUZZ_FLAGS) -c $< -o $@

$(HOST_BUILD)/fuzz/%.o: $(HOST_BUILD)/fuzz/%.cpp
	$(FUZZ_CXX) $(FUZZ_FLAGS) -iquote . -c $< -o $@

$(FUZZERS): $(HOST_BUILD)/fuzz/%: $(HOST_BUILD)/fuzz/tests/fuzz/%_fuzz.o $(FUZZ_LIB)
	$(FUZZ_CXX) $(FUZZ_FLAGS) $(HOST_LINK) $^ -o $@

.PHONY: fuzz-run
fuzz-run: $(FUZZERS)
	@tests/fuzz/run.py --seconds $(FUZZ_SECONDS) --seed $(FUZZ_SEED) $(if $(FUZZ_ONLY),--only '$(FUZZ_ONLY)') $(FUZZERS)

.SECONDARY:
-include $(shell [ -d $(HOST_BUILD) ] && find $(HOST_BUILD) -name '*.d')
