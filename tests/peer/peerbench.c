// SPDX-License-Identifier: GPL-2.0
// What Linux's memory management costs: the loops of tests/bench, as a module for Linux 6.1 i386.
//
// The module measures when it is loaded and then refuses to stay (ENODEV). By default it counts, on a guest whose clock
// is its instructions (-icount); with smp=1 it times the same work on one CPU and on two at once.
#include <linux/completion.h>
#include <linux/highmem.h>
#include <linux/kthread.h>
#include <linux/ktime.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>
#include <asm/msr.h>

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Costs of kmap, page allocation, slab and vmalloc");

static int smp;
module_param(smp, int, 0444);
MODULE_PARM_DESC(smp, "time on one and two CPUs instead of counting");

enum { WARM_UP = 16, CYCLE = 2048, MIX = 300, SMP_ROUNDS = 200000, SMP_REPEATS = 3 };

static struct page *cycle[CYCLE];

static void report(const char *name, u64 total, u64 empty, u32 rounds)
{
	u64 hundredths = div_u64((total > empty ? total - empty : 0) * 100, rounds);
	u32 rest;
	u64 whole = div_u64_rem(hundredths, 100, &rest);

	pr_info("BENCH %s %llu.%02u insn/op\n", name, whole, rest);
}

// What the loop itself costs is taken off, as Paean's benchmarks do.
#define LOOP(rounds, body)                                              \
	({                                                              \
		u64 start_ = rdtsc_ordered();                           \
		u32 i;                                                  \
		for (i = 0; i < (rounds); i++) {                        \
			body;                                           \
			barrier();                                      \
		}                                                       \
		rdtsc_ordered() - start_;                               \
	})

#define COUNT(name, rounds, body)                                       \
	do {                                                            \
		u64 empty_, total_;                                     \
		LOOP(WARM_UP, body);                                    \
		empty_ = LOOP(rounds, );                                \
		total_ = LOOP(rounds, body);                            \
		report(name, total_, empty_, rounds);                   \
	} while (0)

// Without interrupts, where the operation may run so.
#define COUNT_ATOMIC(name, rounds, body)                                \
	do {                                                            \
		u64 empty_, total_;                                     \
		local_irq_disable();                                    \
		LOOP(WARM_UP, body);                                    \
		empty_ = LOOP(rounds, );                                \
		total_ = LOOP(rounds, body);                            \
		local_irq_enable();                                     \
		report(name, total_, empty_, rounds);                   \
	} while (0)

static void touch(void *address)
{
	READ_ONCE(*(int *)address);
}

static int fill_cycle(int count)
{
	int i;

	for (i = 0; i < count; i++) {
		cycle[i] = alloc_page(GFP_HIGHUSER);
		if (!cycle[i]) {
			while (i-- > 0)
				__free_page(cycle[i]);
			return -ENOMEM;
		}
	}
	return 0;
}

static void empty_cycle(int count)
{
	int i;

	for (i = 0; i < count; i++)
		__free_page(cycle[i]);
}

static int count_maps(void)
{
	struct page *page = alloc_page(GFP_HIGHUSER), *other = alloc_page(GFP_HIGHUSER);
	void *va;

	if (!page || !other || !PageHighMem(page) || !PageHighMem(other) || fill_cycle(CYCLE))
		return -ENOMEM;
	COUNT_ATOMIC("kmap_atomic", 20000, ({ va = kmap_atomic(page); touch(va); kunmap_atomic(va); }));
	COUNT_ATOMIC("kmap_local", 20000, ({ va = kmap_local_page(page); touch(va); kunmap_local(va); }));
	COUNT_ATOMIC("clear_highpage", 2000, clear_highpage(page));
	COUNT_ATOMIC("copy_highpage", 2000, copy_highpage(other, page));
	kmap(page);
	COUNT("kmap_hit", 20000, ({ touch(kmap(page)); kunmap(page); }));
	kunmap(page);
	COUNT("kmap_miss", 10 * CYCLE, ({ struct page *p = cycle[i % CYCLE]; touch(kmap(p)); kunmap(p); }));
	empty_cycle(CYCLE);
	__free_page(page);
	__free_page(other);
	return 0;
}

static void count_pages(void)
{
	COUNT_ATOMIC("alloc_free_high", 20000, __free_page(alloc_page(GFP_ATOMIC | __GFP_HIGHMEM)));
	COUNT_ATOMIC("alloc_free_low", 20000, __free_page(alloc_page(GFP_ATOMIC)));
	COUNT_ATOMIC("alloc_free_order3", 20000, __free_pages(alloc_pages(GFP_ATOMIC, 3), 3));
	COUNT_ATOMIC("alloc_free_order9", 2000, __free_pages(alloc_pages(GFP_ATOMIC | __GFP_HIGHMEM, 9), 9));
	COUNT("alloc_batch_2048", 20, ({ if (!fill_cycle(CYCLE)) empty_cycle(CYCLE); }));
	COUNT("vmalloc_1", 2000, vfree(vmalloc(PAGE_SIZE)));
	COUNT("vmalloc_4", 2000, vfree(vmalloc(4 * PAGE_SIZE)));
}

static int count_objects(void)
{
	struct kmem_cache *cache = kmem_cache_create("peerbench", 128, 0, 0, NULL);

	if (!cache)
		return -ENOMEM;
	COUNT_ATOMIC("kmalloc_64", 20000, kfree(kmalloc(64, GFP_ATOMIC)));
	COUNT_ATOMIC("kmalloc_1024", 20000, kfree(kmalloc(1024, GFP_ATOMIC)));
	COUNT_ATOMIC("slab_128", 20000, kmem_cache_free(cache, kmem_cache_alloc(cache, GFP_ATOMIC)));
	kmem_cache_destroy(cache);
	return 0;
}

enum work { KMAP_HIT, KMAP_MIX, KMAP_LOCAL, ALLOC_FREE, WORKS };
static const char *const work_names[WORKS] = { "smp_kmap_hit", "smp_kmap_mix", "smp_kmap_local", "smp_alloc_free" };

static struct worker {
	enum work work;
	struct page *pages[MIX];
	u64 ns;
	struct completion done;
} workers[2];

static atomic_t missing;  // CPUs that have not come to the start yet

static void do_work(struct worker *me)
{
	void *va;
	int i;

	for (i = 0; i < SMP_ROUNDS; i++) {
		struct page *page = me->pages[me->work == KMAP_MIX ? i % MIX : 0];

		switch (me->work) {
		case KMAP_HIT:
		case KMAP_MIX:
			touch(kmap(page));
			kunmap(page);
			break;
		case KMAP_LOCAL:
			va = kmap_local_page(page);
			touch(va);
			kunmap_local(va);
			break;
		default:
			__free_page(alloc_page(GFP_HIGHUSER));
		}
	}
}

static int run_worker(void *argument)
{
	struct worker *me = argument;
	u64 start;

	atomic_dec(&missing);
	while (atomic_read(&missing) > 0)
		cpu_relax();
	start = ktime_get_ns();
	do_work(me);
	me->ns = ktime_get_ns() - start;
	complete(&me->done);
	return 0;
}

// Nanoseconds of the slower CPU for one operation; 0 if a thread could not be made.
static u64 time_work(enum work work, int cpus)
{
	u64 slowest = 0;
	int i;

	atomic_set(&missing, cpus);
	for (i = 0; i < cpus; i++) {
		struct task_struct *task = kthread_create(run_worker, &workers[i], "peerbench/%d", i);

		if (IS_ERR(task)) {
			atomic_set(&missing, 0);
			while (i-- > 0)
				wait_for_completion(&workers[i].done);
			return 0;
		}
		workers[i].work = work;
		init_completion(&workers[i].done);
		kthread_bind(task, i);
		wake_up_process(task);
	}
	for (i = 0; i < cpus; i++) {
		wait_for_completion(&workers[i].done);
		slowest = max(slowest, workers[i].ns);
	}
	return div_u64(slowest, SMP_ROUNDS);
}

static int time_all(void)
{
	int work, cpus, repeat, i;

	for (i = 0; i < 2 * MIX; i++) {
		workers[i / MIX].pages[i % MIX] = alloc_page(GFP_HIGHUSER);
		if (!workers[i / MIX].pages[i % MIX])
			return -ENOMEM;
	}
	for (work = 0; work < WORKS; work++)
		for (cpus = 1; cpus <= 2; cpus++) {
			u64 best = U64_MAX;

			for (repeat = 0; repeat < SMP_REPEATS; repeat++)
				best = min(best, time_work(work, cpus));
			pr_info("BENCH %s cpus=%d %llu ns/op\n", work_names[work], cpus, best);
		}
	for (i = 0; i < 2 * MIX; i++)
		__free_page(workers[i / MIX].pages[i % MIX]);
	return 0;
}

static int __init peerbench_init(void)
{
	int error = smp ? time_all() : count_maps();

	if (!error && !smp) {
		count_pages();
		error = count_objects();
	}
	return error ? error : -ENODEV;
}
module_init(peerbench_init);
