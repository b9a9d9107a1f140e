# Targets that run scripts, and the settings that reach them. The Makefile includes this last.
#
# A script's exit status becomes make's 2; call the script itself where the difference matters.

# What a person may set on the command line, in the environment or in local.mk; empty means the script's default.
# A $ in it is a $ (memmap=64M$0x10000000), not make's; $$ is one too.
override CMDLINE := $(subst $$$$,$$,$(value CMDLINE))
export BENCH MEM CPUS CPU ACCEL MACHINE CMDLINE QEMU QEMUEXTRA TEST TIMEOUT GDBPORT TOOLPREFIX V DEBUG UBSAN

.PHONY: run run-iso test debug gdb qemu-gdb bench bench-linux profile report lint format doctor help

run: ## build, boot 64 GB in QEMU, console here (Ctrl-A X leaves)
	@scripts/run
run-iso: ## the same through GRUB from build/paean.iso
	@scripts/run --iso
test: ## build and run everything that a pull request must pass (TEST=glob narrows the in-kernel suites)
	@scripts/test
bench: ## what operations cost, as text and as JSON: build/bench.json, diskbench.json, netbench.json
	@scripts/bench
	@scripts/diskbench
	@scripts/netbench --check
bench-linux: $(BUILD)/kernel.elf ## the same work on Debian's Linux 6.1 i386 and on Paean
	@scripts/bench-linux
profile: all ## where the instructions of a benchmark go, by function (BENCH=kmap_hit)
	@scripts/profile
report: all ## pictures of memory and of the figures beside Linux: build/report.html
	@scripts/report
lint: $(BUILD)/compile_commands.json ## the checks that the compiler does not make
	@scripts/lint
format: ## lay the C++ out with clang-format
	@scripts/format
debug: ## boot 3 GB stopped at the first instruction, with gdb attached
	@scripts/debug
qemu-gdb: ## boot 3 GB stopped, waiting for `make gdb` in another terminal
	@scripts/run --gdb
gdb: ## attach gdb to a guest that `make qemu-gdb` started
	@scripts/debug --attach
doctor: ## what is missing on this machine, and the fix
	@scripts/doctor

help: ## this list
	@echo 'Paean: make TARGET [VARIABLE=value...]'
	@echo
	@echo '  all          build/kernel.elf with kernel.asm kernel.sym kernel.map compile_commands.json'
	@echo '  iso          build/paean.iso, boots through GRUB'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(lastword $(filter %targets.mk,$(MAKEFILE_LIST))) | \
	  while IFS='|' read -r name text; do printf '  %-12s %s\n' "$$name" "$$text"; done
	@echo '  host-test    the pure code on this machine, under ASan and UBSan'
	@echo '  fuzz-run     the model fuzzers, some seconds each'
	@echo '  clean        remove build/'
	@echo
	@echo 'Variables: MEM=64G CPUS=2 ACCEL=auto|kvm|tcg CPU= MACHINE=pc|q35 CMDLINE= QEMU= QEMUEXTRA= TOOLPREFIX='
	@echo '           DEBUG=1 UBSAN=1 TEST=glob BENCH=name TIMEOUT= GDBPORT=1234 V=1; private ones in local.mk'
