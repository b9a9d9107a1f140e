// Pipes: a ring of pages in highmem between two ends.
//
// Owner: the ends, counted together; who puts the last one frees the pipe. The lock guards positions, pages and which
// ends are open; bytes are copied under it, a page at a time, which cannot sleep.
#include <algorithm>
#include <memory>

#include "kernel/process/process.hpp"
#include "mm/highmem.hpp"
#include "mm/kmalloc.hpp"
#include "mm/page_alloc.hpp"

namespace paean {

namespace {

enum class Blocking : u8 { No, Yes };

class Pipe {
 public:
  static constexpr u32 kPages = 16, kBytes = kPages * kPageSize;
  /// So many bytes at once are never mixed with others'.
  static constexpr u32 kAtomic = kPageSize;

  Answer read(std::span<u8> into, Blocking blocking);
  Answer write(std::span<const u8> from, Blocking blocking);
  void close_reader() { close(readers_); }
  void close_writer() { close(writers_); }
  void destroy();
  /// For either end: kReady*.
  u32 ready_to_read() const { return (used() != 0 ? kReadyRead : 0) | (writers_ == 0 ? kReadyHangUp : 0); }
  u32 ready_to_write() const {
    return (kBytes - used() >= kAtomic ? kReadyWrite : 0) | (readers_ == 0 ? kReadyError : 0);
  }

 private:
  void close(u32& side);
  Result<> add_pages(u32 bytes);
  u32 used() const { return head_ - tail_; }
  template <typename Copy>
  u32 walk(u32 from, u32 bytes, Copy copy) REQUIRES(lock_);

  SpinLock lock_{kProcessRank};
  u32 readers_ = 1, writers_ = 1;
  u32 head_ = 0, tail_ = 0;  // bytes ever written, ever read
  Page* pages_[kPages]{};
  WaitQueue readable_, writable_;
};

/// `copy(page, offset, done, count)` for each piece of a page.
template <typename Copy>
u32 Pipe::walk(u32 from, u32 bytes, Copy copy) {
  u32 done = 0;
  while (done < bytes) {
    const u32 at = (from + done) % kBytes, offset = at % kPageSize;
    const u32 count = std::min(bytes - done, kPageSize - offset);
    copy(pages_[at / kPageSize], offset, done, count);
    done += count;
  }
  return done;
}

Answer Pipe::read(std::span<u8> into, Blocking blocking) {
  const auto something = [this] { return used() != 0 || writers_ == 0; };
  for (;;) {
    if (into.empty()) return 0;
    if (!something()) {
      if (blocking == Blocking::No) return err::kAgain;
      if (!readable_.wait_unless(interrupted, something)) return err::kRestart;
    }
    u32 done;
    {
      const SpinGuard<IrqSave> guard{lock_};
      done = walk(tail_, std::min<u32>(used(), into.size()), [&](Page* page, u32 offset, u32 at, u32 count) {
        copy_from_page(into.subspan(at, count), page, offset);
      });
      tail_ += done;
    }
    if (done != 0) {
      if (writable_.waiting() != 0) (void)writable_.wake_all();
      tell_pollers();
      return static_cast<Answer>(done);
    }
    if (writers_ == 0) return 0;
  }
}

/// The pages that the next bytes go to are there.
Result<> Pipe::add_pages(u32 bytes) {
  const u32 first = head_ % kBytes / kPageSize, count = pages_for(head_ % kPageSize + u64{bytes}).count();
  for (u32 i = 0; i < std::min(count, kPages); ++i) {
    const u32 index = (first + i) % kPages;
    if (pages_[index] != nullptr) continue;
    Page* page = TRY(alloc_page(AllocFlags::HighUser, Owner::User));
    {
      const SpinGuard<IrqSave> guard{lock_};
      if (pages_[index] == nullptr) std::swap(pages_[index], page);
    }
    if (page != nullptr) free_page(page);
  }
  return {};
}

Answer Pipe::write(std::span<const u8> from, Blocking blocking) {
  u32 done = 0;
  while (done < from.size() || from.empty()) {
    const u32 rest = from.size() - done, least = from.size() <= kAtomic ? rest : 1;
    const auto room = [this, least] { return kBytes - used() >= least || readers_ == 0; };
    if (!room()) {
      if (blocking == Blocking::No) return done != 0 ? static_cast<Answer>(done) : err::kAgain;
      if (!writable_.wait_unless(interrupted, room)) return done != 0 ? static_cast<Answer>(done) : err::kRestart;
    }
    if (readers_ == 0) return done != 0 ? static_cast<Answer>(done) : err::kPipe;
    if (from.empty()) return 0;
    if (!add_pages(rest)) return done != 0 ? static_cast<Answer>(done) : err::kNoMemory;
    {
      const SpinGuard<IrqSave> guard{lock_};
      const u32 free = kBytes - used();
      if (free < least) continue;
      u32 bytes = std::min(free, rest);
      for (u32 at = 0; at < bytes; at += kPageSize - (head_ + at) % kPageSize) {  // another writer may have moved on
        if (pages_[(head_ + at) % kBytes / kPageSize] == nullptr) bytes = at;
      }
      if (bytes < least) continue;
      done += walk(head_, bytes, [&](Page* page, u32 offset, u32 at, u32 count) {
        copy_to_page(page, offset, from.subspan(done + at, count));
      });
      head_ += bytes;
    }
    if (readable_.waiting() != 0) (void)readable_.wake_all();
    tell_pollers();
  }
  return static_cast<Answer>(done);
}

void Pipe::close(u32& side) {
  bool last;
  {
    const SpinGuard<IrqSave> guard{lock_};
    --side;
    last = readers_ + writers_ == 0;
    (void)readable_.wake_all();
    (void)writable_.wake_all();
  }
  tell_pollers();
  if (last) destroy();
}

void Pipe::destroy() {
  for (Page* page : pages_) {
    if (page != nullptr) free_page(page);
  }
  std::destroy_at(this);
  kfree(this);
}

class PipeEnd final : public FileObject {
 public:
  enum class Side : u8 { Reader, Writer };
  PipeEnd(Pipe& pipe, Side side, u32 flags)
      : FileObject(flags | (side == Side::Writer ? kOpenWriteOnly : 0)), pipe_(pipe), side_(side) {}
  Answer read(CopyTarget into) override {
    return side_ == Side::Reader ? pipe_.read(into.kernel_bytes(), blocking()) : err::kBadFile;
  }
  Answer write(CopySource from) override {
    return side_ == Side::Writer ? pipe_.write(from.kernel_bytes(), blocking()) : err::kBadFile;
  }
  u32 ready() override { return side_ == Side::Reader ? pipe_.ready_to_read() : pipe_.ready_to_write(); }
  FileStatus status() const override {
    FileStatus status{};
    status.type = FileType::Fifo;
    status.permissions = 0600;
    status.links = 1;
    return status;
  }

 private:
  Blocking blocking() const { return (flags() & kOpenNonBlock) == 0 ? Blocking::Yes : Blocking::No; }
  void end() override {
    side_ == Side::Reader ? pipe_.close_reader() : pipe_.close_writer();
    std::destroy_at(this);
    kfree(this);
  }
  Pipe& pipe_;
  Side side_;
};

}  // namespace

Result<PipeEnds> make_pipe(u32 flags) {
  void* const pipe_place = TRY(kmalloc(sizeof(Pipe), AllocFlags::Kernel));
  const Result<void*> reader = kmalloc(sizeof(PipeEnd), AllocFlags::Kernel);
  const Result<void*> writer = kmalloc(sizeof(PipeEnd), AllocFlags::Kernel);
  if (!reader || !writer) {
    if (reader) kfree(*reader);
    if (writer) kfree(*writer);
    kfree(pipe_place);
    return std::unexpected(Error::OutOfMemory);
  }
  auto& pipe = *new (pipe_place) Pipe;
  return PipeEnds{FileRef{new (*reader) PipeEnd{pipe, PipeEnd::Side::Reader, flags & kOpenNonBlock}},
                  FileRef{new (*writer) PipeEnd{pipe, PipeEnd::Side::Writer, flags & kOpenNonBlock}}};
}

}  // namespace paean
