#include "lib/lock_rank.hpp"

namespace paean {

const char* lock_rank_name(u32 rank) {
  switch (static_cast<LockRank>(rank)) {
    case LockRank::TestSleep: return "sleeping locks of tests";
    case LockRank::TestSleepInner: return "sleeping locks of tests, inner";
    case LockRank::SwapTurn: return "turns of the swap";
    case LockRank::Mount: return "mounts";
    case LockRank::WriteAll: return "walks through all inodes of a file system";
    case LockRank::Rename: return "moves between directories";
    case LockRank::Directory: return "directory";
    case LockRank::File: return "file";
    case LockRank::UserLayout: return "areas of a user space";
    case LockRank::Attributes: return "attributes of inodes";
    case LockRank::TableSync: return "sync of a file system's tables";
    case LockRank::FileSystem: return "file system";
    case LockRank::SlabDrain: return "emptying of magazines";
    case LockRank::Pdpt: return "directory pointers";
    case LockRank::CpuCall: return "calls on other CPUs";
    case LockRank::Shootdown: return "TLB shootdown";
    case LockRank::Test: return "spinning locks of tests";
    case LockRank::TestInner: return "spinning locks of tests, inner";
    case LockRank::UserEntries: return "page tables of a user space";
    case LockRank::Names: return "cached names";
    case LockRank::PageCache: return "page cache of a file";
    case LockRank::Folios: return "folios by age";
    case LockRank::Lending: return "lent pages";
    case LockRank::SlabCaches: return "object caches";
    case LockRank::Slab: return "slab";
    case LockRank::Zone: return "zone";
    case LockRank::VmallocCache: return "vmalloc areas of a CPU";
    case LockRank::VmallocSpace: return "vmalloc addresses";
    case LockRank::ThreadTable: return "thread table";
    case LockRank::StackPool: return "stack pool";
    case LockRank::BlockQueue: return "block queue";
    case LockRank::BlockDriver: return "disk controller";
    case LockRank::Bounce: return "bounce pools";
    case LockRank::Timer: return "timer wheel";
    case LockRank::Process: return "processes, open files, pipes";
    case LockRank::Sync: return "completions, read-write locks";
    case LockRank::UserSpaces: return "user spaces";
    case LockRank::Swap: return "swap slots";
    case LockRank::WaitQueue: return "wait queue";
    case LockRank::RunQueue: return "run queue";
    case LockRank::Kmap: return "kmap slots";
    case LockRank::LogRing: return "log";
    case LockRank::IrqLines: return "interrupt lines";
    case LockRank::IrqController: return "interrupt controllers";
    case LockRank::PciConfig: return "PCI configuration";
    case LockRank::TlbStamps: return "TLB checker";
  }
  return nullptr;
}

}  // namespace paean
