// Random operations on ext2 and on a model that is too simple to be wrong; at the end e2fsck, and all contents.
#include <map>
#include <memory>
#include <random>

#include "ext2_image.hpp"
#include "support.hpp"

using namespace paean;
using namespace paean::host;

namespace {

struct Node {
  u32 inode = 0;
  bool directory = false;
  u32 links = 1;
  std::string text{};
  std::map<std::string, std::shared_ptr<Node>> names{};
  std::weak_ptr<Node> parent{};
};
using NodeRef = std::shared_ptr<Node>;

class Model {
 public:
  Model(const std::string& shape, u32 seed) : numbers_(seed), store_(make_image(shape, 4096)), fs_(store_) {
    REQUIRE(fs_.mount(store_.image().size(), Ext2Mode::ReadWrite));
    root_ = std::make_shared<Node>(Node{.inode = kExt2RootInode, .directory = true});
    root_->names["lost+found"] = nullptr;
  }

  void step() {
    switch (below(10)) {
      case 0: return make_directory();
      case 1:
      case 2: return create();
      case 3:
      case 4:
      case 5: return write();
      case 6: return truncate();
      case 7: return remove();
      case 8: return rename();
      default: return link();
    }
  }

  void finish() {
    compare(*root_);
    REQUIRE(fs_.unmount());
    CHECK(store_.complaints() == 0);
    CHECK(check_image(store_.image()) == 0);
  }

 private:
  u32 below(u32 limit) { return static_cast<u32>(numbers_() % limit); }

  std::string some_name() {
    std::string name = "n" + std::to_string(below(30));
    if (below(4) == 0) name += std::string(below(200), 'y');
    return name;
  }

  NodeRef some_directory() {
    NodeRef at = root_;
    while (below(3) != 0) {
      std::vector<NodeRef> inner;
      for (auto& [name, node] : at->names) {
        if (node && node->directory) inner.push_back(node);
      }
      if (inner.empty()) break;
      at = inner[below(static_cast<u32>(inner.size()))];
    }
    return at;
  }

  /// A name in a directory, and whether it is a file.
  bool pick(NodeRef& directory, std::string& name) {
    directory = some_directory();
    if (directory->names.empty()) return false;
    auto at = directory->names.begin();
    std::advance(at, below(static_cast<u32>(directory->names.size())));
    name = at->first;
    return at->second != nullptr;
  }

  void make_directory() {
    const NodeRef directory = some_directory();
    const std::string name = some_name();
    const Result<u32> made = fs_.make_directory(directory->inode, name, 0755);
    if (!made) return check_refused(made.error(), *directory, name);
    REQUIRE(!directory->names.contains(name));
    directory->names[name] = std::make_shared<Node>(Node{.inode = *made, .directory = true, .parent = directory});
  }

  void create() {
    const NodeRef directory = some_directory();
    const std::string name = some_name();
    const Result<u32> made = fs_.create(directory->inode, name, kExt2ModeFile | 0600);
    if (!made) return check_refused(made.error(), *directory, name);
    REQUIRE(!directory->names.contains(name));
    directory->names[name] = std::make_shared<Node>(Node{.inode = *made});
  }

  static void check_refused(Error error, const Node& directory, const std::string& name) {
    REQUIRE((error == Error::NoSpace || (error == Error::Exists && directory.names.contains(name))));
  }

  void write() {
    NodeRef directory;
    std::string name;
    if (!pick(directory, name) || directory->names[name]->directory) return;
    Node& file = *directory->names[name];
    const u32 place = below(5) == 0 ? below(1'500'000) : below(static_cast<u32>(file.text.size()) + 1);
    std::string text(1 + below(20'000), '\0');
    for (char& byte : text) byte = static_cast<char>(numbers_());
    // Block by block, so that the model knows how far a full disk let it come.
    for (u32 done = 0; done < text.size();) {
      const u32 now = std::min<u32>(1024 - (place + done) % 1024, static_cast<u32>(text.size()) - done);
      const std::string_view part = std::string_view(text).substr(done, now);
      const Result<> written =
          write_at(fs_, store_, file.inode, place + done, {reinterpret_cast<const u8*>(part.data()), part.size()});
      if (!written) {
        REQUIRE(written.error() == Error::NoSpace);
        return;
      }
      if (file.text.size() < place + done + now) file.text.resize(place + done + now);
      file.text.replace(place + done, now, part);
      done += now;
    }
  }

  void truncate() {
    NodeRef directory;
    std::string name;
    if (!pick(directory, name) || directory->names[name]->directory) return;
    Node& file = *directory->names[name];
    const u32 size = below(static_cast<u32>(file.text.size()) * 5 / 4 + 2);
    REQUIRE(truncate_to(fs_, store_, file.inode, size));
    file.text.resize(size);
  }

  void drop(Node& node) {
    if (--node.links == 0) REQUIRE(fs_.evict(node.inode));
  }

  void remove() {
    NodeRef directory;
    std::string name;
    if (!pick(directory, name)) return;
    const NodeRef node = directory->names[name];
    if (node->directory) {
      const Result<> removed = fs_.remove_directory(directory->inode, name, node->inode);
      REQUIRE(removed.has_value() == node->names.empty());
      if (!removed) return;
    } else {
      REQUIRE(fs_.unlink(directory->inode, name, node->inode));
    }
    directory->names.erase(name);
    drop(*node);
  }

  static bool lies_in(NodeRef node, const NodeRef& above) {
    for (; node; node = node->parent.lock()) {
      if (node == above) return true;
    }
    return false;
  }

  void rename() {
    NodeRef from;
    std::string name;
    if (!pick(from, name)) return;
    const NodeRef to = some_directory();
    const std::string new_name = some_name();
    const NodeRef node = from->names[name];
    if (lies_in(to, node)) return;
    const auto old = to->names.find(new_name);
    const NodeRef replaced = old == to->names.end() ? nullptr : old->second;
    const Result<> renamed = fs_.rename(from->inode, name, to->inode, new_name, node->inode);
    const bool refused = replaced && replaced != node &&
                         (replaced->directory != node->directory || (replaced->directory && !replaced->names.empty()));
    REQUIRE((renamed.has_value() != refused || renamed == std::unexpected(Error::NoSpace)));
    if (!renamed || replaced == node) return;
    from->names.erase(name);
    to->names[new_name] = node;
    if (node->directory) node->parent = to;
    if (replaced) drop(*replaced);
  }

  void link() {
    NodeRef directory;
    std::string name;
    if (!pick(directory, name) || directory->names[name]->directory) return;
    const NodeRef node = directory->names[name];
    const NodeRef to = some_directory();
    const std::string new_name = some_name();
    const Result<> linked = fs_.link(to->inode, new_name, node->inode);
    if (!linked) return check_refused(linked.error(), *to, new_name);
    REQUIRE(!to->names.contains(new_name));
    to->names[new_name] = node;
    ++node->links;
  }

  void compare(const Node& directory) {
    u32 seen = 0;
    Ext2Entry entry;
    for (u64 cursor = 0; fs_.next_entry(directory.inode, cursor, entry);) {
      if (entry.name() == "." || entry.name() == "..") continue;
      ++seen;
      const auto known = directory.names.find(std::string(entry.name()));
      REQUIRE(known != directory.names.end());
      if (!known->second) continue;
      const Node& node = *known->second;
      CHECK(node.inode == entry.inode);
      if (node.directory) {
        compare(node);
      } else {
        CHECK(contents_of(fs_, store_, node.inode) == node.text);
        CHECK(fs_.load(node.inode)->links == node.links);
      }
    }
    CHECK(seen == directory.names.size());
  }

  std::mt19937 numbers_;
  ImageStore store_;
  Ext2 fs_;
  NodeRef root_;
};

}  // namespace

TEST_SUITE("ext2") {
  TEST_CASE("random operations agree with a model and with e2fsck") {
    u32 seed = 0;
    for (const char* shape : {"-b 1024 -N 200", "-b 2048 -N 200 -I 128", "-b 4096 -N 200", "-b 1024 -g 1024 -N 256"}) {
      for (u32 round = 0; round < 2; ++round) {
        CAPTURE(shape);
        CAPTURE(++seed);
        Model model{shape, seed};
        for (u32 i = 0; i < 1500; ++i) model.step();
        model.finish();
      }
    }
  }

}  // TEST_SUITE
