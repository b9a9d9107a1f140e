// Ten thousand random operations on a file system, and on a model of one in this test; both must always agree.
#include <algorithm>
#include <array>
#include <new>

#include "mm/shrink.hpp"
#include "mm/slab.hpp"
#include "tmpfs_space.hpp"

namespace paean {

namespace {

constexpr u32 kNodes = 48, kNone = ~0u, kRoot = 0, kNamesInDirectory = 6, kMostBytes = 12'000;

/// Files and directories by index; what a file holds is known by its size and a byte for each 1,000.
struct Node {
  bool used = false, directory = false;
  u32 links = 0, size = 0;
  std::array<u8, kMostBytes / 1000 + 1> thousands{};
  std::array<u32, kNamesInDirectory> names{};  // of a directory: node by name
  u32 parent = kNone;
};

class Model {
 public:
  Model() {
    nodes_[kRoot].used = nodes_[kRoot].directory = true;
    nodes_[kRoot].names.fill(kNone);
  }
  Node& operator[](u32 index) { return nodes_[index]; }
  u32 free_node() const {
    u32 index = 0;
    while (index < kNodes && nodes_[index].used) ++index;
    return index < kNodes ? index : kNone;
  }
  u32 make(u32 parent, u32 name, FileType type) {
    const u32 index = free_node();
    const bool directory = type == FileType::Directory;
    nodes_[index] = Node{.used = true, .directory = directory, .links = 1, .parent = directory ? parent : kNone};
    nodes_[index].names.fill(kNone);
    nodes_[parent].names[name] = index;
    return index;
  }
  void drop(u32 index) {
    if (--nodes_[index].links == 0) nodes_[index].used = false;
  }
  bool empty(u32 index) const {
    return std::ranges::all_of(nodes_[index].names, [](u32 node) { return node == kNone; });
  }
  bool inside(u32 index, u32 tree) const {
    while (index != tree && index != kRoot) index = nodes_[index].parent;
    return index == tree;
  }
  u32 subdirectories(u32 index) const {
    u32 count = 0;
    for (const u32 node : nodes_[index].names) count += node != kNone && nodes_[node].directory ? 1 : 0;
    return count;
  }
  u32 random_directory(TestContext& test) const {
    while (true) {
      const u32 index = test.random_below(kNodes);
      if (nodes_[index].used && nodes_[index].directory) return index;
    }
  }
  /// /m/a/b/.. of a directory, and a name in it.
  void write_path(Sink& out, u32 directory, u32 name) const {
    std::array<u32, kNodes> way{};
    u32 depth = 0;
    for (u32 at = directory; at != kRoot; at = nodes_[at].parent) way[depth++] = at;
    out.write("/t");
    u32 from = kRoot;
    while (depth != 0) {
      const u32 next = way[--depth];
      const auto at = std::ranges::find(nodes_[from].names, next) - nodes_[from].names.begin();
      format_to(out, "/n{}", static_cast<u32>(at));
      from = next;
    }
    if (name != kNone) format_to(out, "/n{}", name);
  }

 private:
  std::array<Node, kNodes> nodes_{};
};

constinit std::array<u8, 1000> thousand{};
alignas(Model) constinit u8 model_storage[sizeof(Model)]{};
constinit char path_text[2][512]{};

struct Player {
  TestContext& test;
  Model& model;
  u32 parent[2]{}, name[2]{};
  std::string_view path[2]{};

  u32 target(u32 which) { return model[parent[which]].names[name[which]]; }
  void choose() {
    for (u32 i = 0; i < 2; ++i) {
      parent[i] = model.random_directory(test);
      name[i] = test.random_below(kNamesInDirectory);
      BufferSink out{path_text[i]};
      model.write_path(out, parent[i], name[i]);
      path[i] = out.view();
    }
  }
  static bool is(const Result<>& result, const Result<>& wanted) {
    return wanted ? result.has_value() : fails_with(result, wanted.error());
  }

  bool make() {
    if (model.free_node() == kNone) return true;
    const bool directory = test.random_below(2) == 0;
    const u32 there = target(0);
    Result<> wanted{};
    if (there != kNone && (directory || model[there].directory)) {
      wanted = std::unexpected(directory ? Error::Exists : Error::IsDirectory);
    }
    const Result<> done = directory ? make_directory(path[0]) : write_text(path[0], "");
    if (wanted && there == kNone) {
      model.make(parent[0], name[0], directory ? FileType::Directory : FileType::Regular);
    }
    if (wanted && there != kNone) model[there].size = 0;
    return is(done, wanted);
  }
  bool remove() {
    const bool directory = test.random_below(2) == 0;
    const u32 there = target(0);
    Result<> wanted{};
    if (there == kNone)
      wanted = std::unexpected(Error::NotFound);
    else if (directory && !model[there].directory)
      wanted = std::unexpected(Error::NotDirectory);
    else if (directory && !model.empty(there))
      wanted = std::unexpected(Error::NotEmpty);
    else if (!directory && model[there].directory)
      wanted = std::unexpected(Error::IsDirectory);
    const Result<> done = directory ? remove_directory(path[0]) : remove_file(path[0]);
    if (wanted) {
      model[parent[0]].names[name[0]] = kNone;
      model.drop(there);
    }
    return is(done, wanted);
  }
  bool link() {
    const u32 from = target(0), to = target(1);
    Result<> wanted{};
    if (from == kNone)
      wanted = std::unexpected(Error::NotFound);
    else if (model[from].directory)
      wanted = std::unexpected(Error::IsDirectory);
    else if (to != kNone)
      wanted = std::unexpected(Error::Exists);
    const Result<> done = link_file(path[0], path[1]);
    if (wanted) {
      model[parent[1]].names[name[1]] = from;
      ++model[from].links;
    }
    return is(done, wanted);
  }
  Result<> may_move(u32 from, u32 to) {
    if (from == kNone) return std::unexpected(Error::NotFound);
    if (from == to) return {};
    if (model[from].directory && model.inside(parent[1], from)) return std::unexpected(Error::InvalidArgument);
    if (to == kNone) return {};
    if (model[from].directory && !model[to].directory) return std::unexpected(Error::NotDirectory);
    if (!model[from].directory && model[to].directory) return std::unexpected(Error::IsDirectory);
    if (model[to].directory && !model.empty(to)) return std::unexpected(Error::NotEmpty);
    return {};
  }
  bool move() {
    const u32 from = target(0), to = target(1);
    const Result<> wanted = may_move(from, to);
    const Result<> done = rename_file(path[0], path[1]);
    if (wanted && from != to) {
      if (to != kNone) model.drop(to);
      model[parent[0]].names[name[0]] = kNone;
      model[parent[1]].names[name[1]] = from;
      if (model[from].directory) model[from].parent = parent[1];
    }
    return is(done, wanted);
  }
  bool append() {
    const u32 there = target(0);
    if (there == kNone || model[there].directory || model[there].size == kMostBytes) return true;
    const Result<OpenFile*> file = open_file(path[0], OpenMode::Write | OpenMode::Append);
    if (!file) return false;
    const auto byte = static_cast<u8>(test.random());
    thousand.fill(byte);
    const Result<u32> done = write_file(**file, thousand);
    close_file(*file);
    model[there].thousands[model[there].size / 1000] = byte;
    model[there].size += 1000;
    return done && *done == 1000;
  }
  bool look() {
    const u32 there = target(0);
    const Result<FileStatus> status = status_of(path[0]);
    if (there == kNone) return fails_with(status, Error::NotFound);
    Node& node = model[there];
    if (!status) return false;
    if (node.directory) {
      return status->type == FileType::Directory && status->links == 2 + model.subdirectories(there);
    }
    return status->type == FileType::Regular && status->links == node.links && status->size == node.size &&
           same_contents(node);
  }
  bool same_contents(const Node& node) {
    const Result<OpenFile*> file = open_file(path[0], OpenMode::Read);
    if (!file) return false;
    bool same = true;
    for (u32 at = 0; at < node.size; at += 1000) {
      const Result<u32> got = read_file(**file, thousand);
      same = same && got && *got == 1000 &&
             std::ranges::all_of(thousand, [&](u8 byte) { return byte == node.thousands[at / 1000]; });
    }
    close_file(*file);
    return same;
  }
  bool list() {
    BufferSink out{path_text[0]};
    model.write_path(out, parent[0], kNone);
    const Result<OpenFile*> directory = open_file(out.view(), OpenMode::Read | OpenMode::Directory);
    if (!directory) return false;
    u32 seen = 0;
    const DirectoryVisitor visit = [](void* names, const DirectoryEntry& entry) {
      if (entry.name.size() == 2 && entry.name[0] == 'n') *static_cast<u32*>(names) += 1u << (entry.name[1] - '0');
      return true;
    };
    const Result<> read = read_directory(**directory, visit, &seen);
    close_file(*directory);
    u32 wanted = 0;
    for (u32 i = 0; i < kNamesInDirectory; ++i) wanted += model[parent[0]].names[i] != kNone ? 1u << i : 0;
    return read && seen == wanted;
  }
};

}  // namespace

KTEST(vfs, ten_thousand_operations_as_the_model_says, .flags = TestFlag::Slow) {
  const TmpfsSpace space;
  REQUIRE(space.ready());
  Player player{test, *new (model_storage) Model()};
  using Operation = bool (Player::*)();
  constexpr Operation kOperations[] = {&Player::make,   &Player::make, &Player::remove, &Player::link,
                                       &Player::move,   &Player::move, &Player::append, &Player::append,
                                       &Player::append, &Player::look, &Player::look,   &Player::list};
  for (u32 i = 0; i < 10'000; ++i) {
    player.choose();
    const u32 which = test.random_below(static_cast<u32>(std::size(kOperations)));
    if (!(player.*kOperations[which])()) {
      test.note("operation {} of kind {}: {} {}", i, which, player.path[0], player.path[1]);
      EXPECT(!"as the model says");
      break;
    }
    if (i % 1000 == 999) run_shrinkers(test.random_below(2));
  }
}

}  // namespace paean
