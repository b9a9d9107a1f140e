// What the block layer does without hardware: pieces, the order of requests, sectors of bounce pages.
#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "kernel/block/bounce_sectors.hpp"
#include "kernel/block/dma_pieces.hpp"
#include "kernel/block/request_order.hpp"
#include "support.hpp"

namespace paean::host {

namespace {

std::string text_of(const DmaPieces& pieces) {
  StringSink sink;
  for (const DmaPiece& piece : pieces.pieces()) format_to(sink, "{}+{} ", piece.start, piece.bytes);
  return sink.text();
}

BlockRequest& at(BlockRequest& request, BlockOp op, Sector position) {
  request.op = op;
  request.position = position;
  return request;
}

}  // namespace

TEST_SUITE("dma_pieces") {
  TEST_CASE("what lies side by side is joined, up to the longest piece and the boundary") {
    DmaPiece room[8];
    const BlockLimits limits{.max_segments = 8, .max_segment_bytes = 0x3000, .boundary = 0x10000};
    DmaPieces pieces{limits, room};
    CHECK(pieces.add(PhysAddr{0xe000}, 0x1000) == 0x1000);
    CHECK(pieces.add(PhysAddr{0xf000}, 0x4000) == 0x4000);
    CHECK(text_of(pieces) == "e000+8192 10000+12288 ");
    CHECK(pieces.add(PhysAddr{0x13000}, 0x200) == 0x200);
    CHECK(text_of(pieces) == "e000+8192 10000+12288 13000+512 ");
  }

  TEST_CASE("full by pieces, by bytes; and taken back") {
    DmaPiece room[8];
    const BlockLimits limits{.max_segments = 2, .max_sectors = 20};
    DmaPieces pieces{limits, room};
    CHECK(pieces.add(PhysAddr{0x1000}, 0x1000) == 0x1000);
    const DmaPieces::Mark mark = pieces.mark();
    CHECK(pieces.add(PhysAddr{0x2000}, 0x400) == 0x400);
    CHECK(pieces.add(PhysAddr{0x8000}, 0x2000) == 0x1400);
    CHECK(pieces.bytes() == 20 * 512);
    pieces.rewind(mark);
    CHECK(text_of(pieces) == "1000+4096 ");
    CHECK(pieces.add(PhysAddr{0x8000}, 0x200) == 0x200);
    CHECK(pieces.add(PhysAddr{0xa000}, 0x200) == 0);
  }

  TEST_CASE("a piece out of reach is a bug") {
    DmaPiece room[8];
    const BlockLimits limits{.highest = PhysAddr{0xffffff}};
    DmaPieces pieces{limits, room};
    CHECK(pieces.add(PhysAddr{0xfff000}, 0x1000) == 0x1000);
    const ExpectPanic armed;
    CHECK_THROWS_AS((void)pieces.add(PhysAddr{0x1000000}, 0x200), Panic);
    CHECK_THROWS_AS((void)pieces.add(PhysAddr{4 * kGiB}, 0x200), Panic);
  }
}

TEST_SUITE("request_order") {
  TEST_CASE("one way, then from the start; equal sectors in order of coming") {
    RequestOrder order;
    BlockRequest r[5];
    const Sector sectors[] = {50, 10, 30, 10, 40};
    for (u32 i = 0; i < 5; ++i) order.add(at(r[i], BlockOp::Read, sectors[i]), 0);
    CHECK(order.take(0, 0) == &r[1]);
    CHECK(order.take(0, 1) == &r[3]);
    CHECK(order.take(0, 2) == &r[2]);
    BlockRequest behind;
    order.add(at(behind, BlockOp::Read, 20), 0);
    CHECK(order.take(0, 0) == &r[4]);
    CHECK(order.take(0, 0) == &r[0]);
    CHECK(order.take(0, 0) == &behind);
    CHECK(order.take(0, 0) == nullptr);
  }

  TEST_CASE("the oldest goes first when it has waited long") {
    RequestOrder order;
    BlockRequest old, young[3];
    CHECK(order.take(0, 0) == nullptr);
    order.add(at(young[0], BlockOp::Read, 100), 0);
    CHECK(order.take(0, 0) == &young[0]);
    order.add(at(old, BlockOp::Read, 50), 10);
    order.add(at(young[1], BlockOp::Read, 100), 59);
    order.add(at(young[2], BlockOp::Read, 101), 59);
    CHECK(order.take(59, 0) == &young[1]);
    CHECK(order.take(60, 0) == &old);
    CHECK(order.take(60, 0) == &young[2]);
  }

  TEST_CASE("a flush waits for what came before, and all that came later waits for it") {
    RequestOrder order;
    BlockRequest before, flush, after, second, last;
    order.add(at(before, BlockOp::Write, 100), 0);
    order.add(at(flush, BlockOp::Flush, 0), 0);
    order.add(at(after, BlockOp::Write, 10), 0);
    order.add(at(second, BlockOp::Flush, 0), 0);
    order.add(at(last, BlockOp::Write, 5), 0);
    CHECK(order.take(0, 0) == &before);
    CHECK(order.take(0, 1) == nullptr);
    before.position = 108;
    order.put_back(before, 0);  // only a part of it was done
    CHECK(order.take(0, 0) == &before);
    CHECK(order.take(0, 1) == nullptr);
    CHECK(order.take(0, 0) == &flush);
    CHECK(order.take(0, 1) == nullptr);
    order.flush_is_done();
    CHECK(order.take(0, 0) == &after);
    CHECK(order.take(0, 1) == nullptr);
    CHECK(order.take(0, 0) == &second);
    order.flush_is_done();
    CHECK(order.take(0, 0) == &last);
    CHECK(order.empty());
  }

  TEST_CASE("followers are of the same kind and may be merged") {
    RequestOrder order;
    BlockRequest read, write, alone;
    order.add(at(read, BlockOp::Read, 8), 0);
    order.add(at(write, BlockOp::Write, 8), 0);
    CHECK(order.follower(BlockOp::Write, 8) == &write);
    CHECK(order.follower(BlockOp::Write, 9) == nullptr);
    alone.alone = true;
    order.add(at(alone, BlockOp::Write, 16), 0);
    CHECK(order.follower(BlockOp::Write, 16) == nullptr);
    while (order.take_any() != nullptr) {}
  }
}

TEST_SUITE("bounce_sectors") {
  TEST_CASE("runs stay in their page; the longest that there is") {
    u8 marks[2];
    BounceSectors sectors{marks};
    CHECK(sectors.free() == 16);
    const BounceSectors::Run a = sectors.take(3), b = sectors.take(8), c = sectors.take(8);
    CHECK((a.page == 0 && a.first == 0 && a.count == 3));
    CHECK((b.page == 1 && b.count == 8));
    CHECK((c.page == 0 && c.first == 3 && c.count == 5));
    CHECK(sectors.free() == 0);
    sectors.give(a);
    CHECK(sectors.take(8).count == 3);
    sectors.give(c);
    const ExpectPanic armed;
    CHECK_THROWS_AS(sectors.give(c), Panic);
  }

  TEST_CASE("random runs never overlap, and as long as a sector is free one is given") {
    std::mt19937 random{1};
    std::vector<u8> marks(16);
    BounceSectors sectors{marks};
    std::vector<BounceSectors::Run> held;
    std::vector<bool> used(128);
    for (u32 i = 0; i < 20'000; ++i) {
      if (sectors.free() != 0 && random() % 2 == 0) {
        const BounceSectors::Run run = sectors.take(1 + random() % 8);
        REQUIRE(run.first + run.count <= 8);
        for (u32 k = 0; k < run.count; ++k) {
          REQUIRE(!used[run.page * 8 + run.first + k]);
          used[run.page * 8 + run.first + k] = true;
        }
        held.push_back(run);
      } else if (!held.empty()) {
        std::swap(held[random() % held.size()], held.back());
        for (u32 k = 0; k < held.back().count; ++k) used[held.back().page * 8 + held.back().first + k] = false;
        sectors.give(held.back());
        held.pop_back();
      }
      REQUIRE(sectors.free() == static_cast<u32>(std::count(used.begin(), used.end(), false)));
    }
  }
}

}  // namespace paean::host
