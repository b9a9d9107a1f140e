# Paean. `make help` lists the targets; scripts/run and scripts/test are the two commands to start with.
-include local.mk

DEBUG ?= 0
UBSAN ?= 0
V     ?= 0
UNITS ?= 1
TOOLPREFIX ?=
ifeq ($(origin CXX),default)
CXX := $(TOOLPREFIX)g++
endif
OBJDUMP := $(TOOLPREFIX)objdump
NM      := $(TOOLPREFIX)nm

BUILD := build
ifeq ($(DEBUG),1)
BUILD := build/debug
endif
ifeq ($(UBSAN),1)
BUILD := build/ubsan
endif
OBJ := $(BUILD)/obj
Q   := $(if $(filter 1,$(V)),,@)

# -mgeneral-regs-only: the kernel never touches x87 or SSE state, which belongs to user programs.
# -mregparm=3 -freg-struct-return: arguments and small results (a Result<Page*>) travel in registers. Assembly
# follows that; libgcc does not, see LIBGCC_CALLS.
# -fno-asynchronous-unwind-tables: no exceptions, so nothing reads .eh_frame.
# -fno-omit-frame-pointer with -momit-leaf-frame-pointer: exact backtraces at no cost in leaf functions.
ARCHFLAGS := -m32 -march=i686 -mtune=core2 -mregparm=3 -freg-struct-return -mgeneral-regs-only -mno-red-zone \
             -fno-pic -fno-pie -ffreestanding
WARNINGS  := -Wall -Wextra -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wno-arith-conversion
CXXFLAGS  := $(ARCHFLAGS) -std=gnu++23 -O2 -g -fno-exceptions -fno-rtti -fno-threadsafe-statics \
             -fno-asynchronous-unwind-tables -fno-stack-protector -fno-omit-frame-pointer -momit-leaf-frame-pointer \
             -fno-strict-aliasing -fno-delete-null-pointer-checks -ffunction-sections $(WARNINGS) -Iinclude
ASFLAGS   := $(ARCHFLAGS) -g -Iinclude
ifeq ($(DEBUG),1)
CXXFLAGS += -DPAEAN_DEBUG=1
endif
ifeq ($(UBSAN),1)
CXXFLAGS += -DPAEAN_DEBUG=1 -DPAEAN_UBSAN=1
# The sanitizer's own branches confuse that warning; the other two flavours have it. Of what is there for debuggers this
# one has line numbers alone, the rest would take a quarter of the compiler's time: they have DEBUG=1.
UBSANFLAGS := -fsanitize=undefined -fno-sanitize=vptr,null,alignment -Wno-maybe-uninitialized -g1
endif
# What the compiler calls of libgcc goes through arch/x86/libgcc.S, which changes the calling convention. Anything else
# of libgcc would be called wrongly, so the link fails if an object names another such function.
LIBGCC_CALLS := __udivdi3 __umoddi3 __divdi3 __moddi3 __udivmoddi4 __divmoddi4 __popcountsi2
comma := ,
LDFLAGS := -m32 -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096 \
           $(addprefix -Wl$(comma)--wrap=,$(LIBGCC_CALLS)) -Wl,--fatal-warnings -Wl,--orphan-handling=place

SOURCES := $(sort $(shell find boot arch mm kernel tests/unit tests/bench -name '*.cpp' -o -name '*.S'))
OBJECTS := $(patsubst %,$(OBJ)/%.o,$(basename $(SOURCES)))
# The sources in few translation units: a build from nothing takes a third of the time, one after a change a little more
# than with UNITS=0, which compiles each source by itself.
# Names that two sources of a unit share are no mistake; builds without UNITS=1 have those warnings too.
# Alone stay boot/early.cpp, which has rules of its own, and the functions that the compiler knows by name.
UNITFLAGS := -iquote . -fmacro-prefix-map=./= -Wno-shadow -Wno-subobject-linkage
ifeq ($(UNITS),1)
ALONE   := boot/early.cpp kernel/lib/memory.cpp
UNITED  := $(shell scripts/make-units $(OBJ)/units $(filter-out $(ALONE),$(filter %.cpp,$(SOURCES))))
OBJECTS := $(patsubst %,$(OBJ)/%.o,$(basename $(ALONE) $(filter %.S,$(SOURCES)))) $(UNITED:.cpp=.o)
endif
KERNEL  := $(BUILD)/kernel.elf

.DEFAULT_GOAL := all
.PHONY: all iso clean FORCE
all: $(KERNEL) $(BUILD)/kernel.asm $(BUILD)/kernel.sym $(BUILD)/compile_commands.json
iso: $(BUILD)/paean.iso

$(OBJ)/%.o: %.cpp Makefile
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(CXXFLAGS) $(UBSANFLAGS) -MMD -MP -c $< -o $@

$(OBJ)/%.o: %.S Makefile
	@mkdir -p $(@D)
	@echo "  AS   $<"
	$(Q)$(CXX) $(ASFLAGS) -MMD -MP -c $< -o $@

$(OBJ)/units/%.o: $(OBJ)/units/%.cpp Makefile
	@echo "  CXX  $<"
	$(Q)$(CXX) $(CXXFLAGS) $(UBSANFLAGS) $(UNITFLAGS) -MMD -MP -c $< -o $@

# Runs before paging at physical addresses: no sanitizer calls, and no weak symbol that the linker could take from
# another object, see boot/early.cpp. Low physical addresses are objects there, hence min-pagesize.
$(OBJ)/boot/early.o: boot/early.cpp Makefile
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(CXXFLAGS) --param=min-pagesize=0 -MMD -MP -c $< -o $@
	$(Q)! $(NM) $@ | grep -E ' [WVuv] ' || { echo "boot/early.cpp: weak symbols"; rm -f $@; exit 1; }

# Two passes: the table of function names is made from the first link. It only grows .rodata, which lies behind .text,
# so the addresses in it hold for the second.
$(BUILD)/kernel.pass1: $(OBJECTS) linker.ld
	@echo "  LD   $@"
	$(Q)! $(NM) -u $(OBJECTS) 2>/dev/null | grep -oE ' U __[a-z]+[sdt]i[0-9]$$' | sort -u | sed 's/ U //' | \
	  grep -vxF "$$(printf '%s\n' $(LIBGCC_CALLS))" || \
	  { echo "libgcc functions without a wrapper, see arch/x86/libgcc.S"; exit 1; }
	$(Q)$(CXX) $(LDFLAGS) -T linker.ld $(OBJECTS) -lgcc -o $@
$(OBJ)/ksyms.S: $(BUILD)/kernel.pass1 scripts/make-symbols
	$(Q)scripts/make-symbols $(NM) $< > $@
$(OBJ)/ksyms.o: $(OBJ)/ksyms.S
	$(Q)$(CXX) $(ASFLAGS) -c $< -o $@
$(KERNEL): $(OBJECTS) $(OBJ)/ksyms.o linker.ld
	@echo "  LD   $@"
	$(Q)$(CXX) $(LDFLAGS) -T linker.ld -Wl,-Map,$(BUILD)/kernel.map $(OBJECTS) $(OBJ)/ksyms.o -lgcc -o $@

$(BUILD)/kernel.asm: $(KERNEL)
	$(Q)$(OBJDUMP) -dC --no-show-raw-insn -M intel $< > $@
$(BUILD)/kernel.sym: $(KERNEL)
	$(Q)$(NM) -nC $< > $@

$(BUILD)/compile_commands.json: Makefile $(SOURCES)
	@mkdir -p $(@D)
	$(Q)printf '[' > $@; sep=''; for f in $(filter %.cpp,$(SOURCES)); do \
	  printf '%s\n{"directory": "%s", "file": "%s", "command": "%s -c %s"}' "$$sep" "$(CURDIR)" "$$f" \
	    "$(CXX) $(CXXFLAGS)" "$$f" >> $@; sep=','; done; printf '\n]\n' >> $@

# GRUB's menu holds the command line, so another CMDLINE is another image.
$(BUILD)/iso.cmdline: FORCE
	@mkdir -p $(@D)
	$(Q)printf '%s' "$$CMDLINE" | cmp -s - $@ || printf '%s' "$$CMDLINE" > $@

$(BUILD)/paean.iso: $(KERNEL) $(BUILD)/iso.cmdline boot/grub.cfg scripts/make-iso
	@echo "  ISO  $@"
	$(Q)scripts/make-iso $(KERNEL) $@

clean:
	rm -rf build

-include $(OBJECTS:.o=.d)
-include tests/host/host.mk
-include scripts/targets.mk
