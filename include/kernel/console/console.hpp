// The prompt: bytes from a keyboard or a wire become command lines.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "kernel/console/interpreter.hpp"
#include "kernel/console/line_editor.hpp"

namespace paean {

inline constexpr std::string_view kPrompt = "paean> ";

/// Where typed bytes come from.
class ByteSource {
 public:
  /// The next byte, if one has arrived. Never blocks.
  virtual std::optional<u8> try_read() = 0;
  /// Halts until an interrupt; may return without a byte. Must not miss one that arrived after the last try_read(), so
  /// an implementation looks at its queue with interrupts off and enables them together with the halt.
  virtual void wait() = 0;

 protected:
  ~ByteSource() = default;
};

/// A source with a memory, so that a running command can look for Ctrl-C without losing what was typed ahead.
class TypeAhead final : public ByteSource, public StopRequest {
 public:
  constexpr explicit TypeAhead(ByteSource& source) : source_(source) {}

  std::optional<u8> try_read() override;
  void wait() override;
  /// Reads what has arrived, up to the ring's size; true once for each Ctrl-C, which also forgets what came before it.
  bool requested() override;

 private:
  static constexpr u32 kRingBytes = 256;

  ByteSource& source_;
  u32 first_ = 0;
  u32 count_ = 0;
  std::array<u8, kRingBytes> ring_{};
};

/// A prompt with its editor. The kernel has one; tests make their own.
class Console {
 public:
  constexpr explicit Console(CommandInterpreter& commands) : commands_(commands), editor_(kPrompt, &commands) {}

  /// Shows the prompt.
  void start(Sink& out) { editor_.begin(out); }
  /// Handles one byte; runs the line when it is finished, and prompts again.
  void feed(u8 byte, Sink& out);

 private:
  CommandInterpreter& commands_;
  LineEditor editor_;
};

/// Prompts for ever. Context: the boot thread after everything is up, interrupts on.
[[noreturn]] void console_run(ByteSource& input, Sink& out);

}  // namespace paean
