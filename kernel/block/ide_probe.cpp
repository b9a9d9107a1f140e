// Which IDE disks there are.
#include <new>

#include "arch/pci.hpp"
#include "kernel/block/ide.hpp"
#include "kernel/thread.hpp"
#include "lib/log.hpp"
#include "mm/kmalloc.hpp"

namespace paean {

namespace {

constexpr u32 kClassIde = 0x0101, kMasterBar = 4;
constexpr u32 kNativeBit = 1, kNativeBitsPerChannel = 2;
constexpr u16 kLegacyCommand[] = {0x1f0, 0x170}, kLegacyControl[] = {0x3f6, 0x376};
constexpr u32 kLegacyLine[] = {14, 15};

constinit u32 disk_letters = 0;  // each place for a disk has one, as people expect: hdc is the second channel's first

struct ChannelPlace {
  IdePorts ports;
  bool native = false;  // at its own ports, with the device's interrupt
};

u16 port_of(const arch::PciBar& bar) { return static_cast<u16>(bar.start.raw()); }

Result<ChannelPlace> find_channel(const arch::PciDevice& device, u32 channel) {
  const arch::PciBar& master = device.bar(kMasterBar);
  if (master.kind != arch::PciBar::Kind::Io || master.bytes < 16) return std::unexpected(Error::NotSupported);
  const u16 master_port = static_cast<u16>(port_of(master) + 8 * channel);
  if ((device.class_code() & (kNativeBit << (kNativeBitsPerChannel * channel))) == 0)
    return ChannelPlace{IdePorts{kLegacyCommand[channel], kLegacyControl[channel], master_port}, false};
  const arch::PciBar& command = device.bar(2 * channel);
  const arch::PciBar& control = device.bar(2 * channel + 1);
  if (command.kind != arch::PciBar::Kind::Io || control.kind != arch::PciBar::Kind::Io)
    return std::unexpected(Error::NotFound);
  return ChannelPlace{IdePorts{port_of(command), static_cast<u16>(port_of(control) + 2), master_port}, true};
}

void log_disk(const BlockDevice& disk, const IdeIdentity& identity) {
  log_info("{}: {} MB {}, DMA{}", disk.name(), disk.sectors() >> 11, identity.model,
           identity.lba48 ? "" : ", 28-bit block numbers");
}

/// True if a disk is there that can be used.
bool prepare_disk(IdeChannel& channel, u8 unit, std::string_view name) {
  const Result<IdeIdentity> identity = channel.identify(unit);
  if (!identity) {
    if (identity.error() == Error::NotSupported) log_info("{}: a packet device, not used", name);
    if (identity.error() == Error::TimedOut) log_warning("{}: does not say what it is, not used", name);
    return false;
  }
  if (!identity->disk || !identity->dma || identity->sectors == 0 || identity->sector_bytes != kSectorBytes) {
    log_warning("{}: {}, {} sectors of {} bytes, {}: not supported", name, identity->model, identity->sectors,
                identity->sector_bytes, identity->dma ? "DMA" : "no DMA");
    return false;
  }
  channel.disk(unit).describe(name, *identity);
  log_disk(channel.disk(unit), *identity);
  return true;
}

struct Channel {
  const arch::PciDevice& device;
  ChannelPlace place;
  u32 number;

  Result<> request_irq(IdeChannel& channel) const {
    return place.native ? device.request_irq(IdeChannel::on_interrupt, &channel)
                        : arch::request_isa_irq(kLegacyLine[number], IdeChannel::on_interrupt, &channel);
  }
  void release_irq(IdeChannel& channel) const {
    if (place.native) return device.release_irq(&channel);
    arch::release_isa_irq(kLegacyLine[number], &channel);
  }
};

/// True if it is a block device now.
bool add_disk(IdeDisk& disk) {
  const Result<> result = register_block_device(disk);
  if (!result) log_warning("{}: {}, not used", disk.name(), error_name(result.error()));
  return result.has_value();
}

/// How many. Without any nobody knows the channel any more, and it does not interrupt.
Result<u32> add_disks(const Channel& where, IdeChannel& channel, const char (&names)[2][4]) {
  bool usable[2];
  for (u8 unit = 0; unit < 2; ++unit) usable[unit] = prepare_disk(channel, unit, names[unit]);
  if (!usable[0] && !usable[1]) return 0;
  TRY(channel.init());
  TRY(start_deferred_calls());
  TRY(where.request_irq(channel));
  channel.allow_interrupts();
  u32 added = 0;
  for (u8 unit = 0; unit < 2; ++unit) added += usable[unit] && add_disk(channel.disk(unit)) ? 1 : 0;
  if (added != 0) return added;
  channel.forbid_interrupts();
  where.release_irq(channel);
  return 0;
}

Result<> start_channel(const arch::PciDevice& device, u32 number, const char (&names)[2][4]) {
  const ChannelPlace place = TRY(find_channel(device, number));
  if (place.ports.quiet_status() == 0xff) return {};  // nothing drives the bus
  void* memory = TRY(kmalloc(sizeof(IdeChannel), AllocFlags::Kernel));
  auto* channel = new (memory) IdeChannel{place.ports};
  const Result<u32> added = add_disks(Channel{device, place, number}, *channel, names);
  if (added && *added != 0) return {};
  channel->release();
  kfree(memory);
  return added ? Result<>{} : std::unexpected(added.error());
}

void probe_ide(const CommandLine&) {
  for (const arch::PciDevice& device : arch::pci_devices()) {
    if (device.class_code() >> 8 != kClassIde) continue;
    device.enable(arch::PciUse::Io | arch::PciUse::Master);
    for (u32 channel = 0; channel < 2; ++channel) {
      if (disk_letters + 2 > 26) return;
      char names[2][4] = {"hda", "hda"};
      for (char(&name)[4] : names) name[2] = static_cast<char>('a' + disk_letters++);
      if (const Result<> result = start_channel(device, channel, names); !result)
        log_warning("{}: IDE channel: {}", names[0], error_name(result.error()));
    }
  }
}

}  // namespace

Result<IdeIdentity> IdeChannel::identify(u8 unit) {
  constexpr u8 kNothing = 0, kFloating = 0xff;
  constexpr u8 kPacketMiddle = 0x14, kPacketHigh = 0xeb;
  constexpr u32 kPatience = 1000;
  ports_.write_control(ide::kNoInterrupt);
  ports_.write_device(static_cast<u8>(ide::kByBlockNumber | (unit != 0 ? ide::kSlave : 0)));
  ports_.settle();
  const u8 at_first = ports_.status();
  if (at_first == kNothing || at_first == kFloating) return std::unexpected(Error::NotFound);
  if (!wait_not_busy(kPatience)) return std::unexpected(Error::TimedOut);
  ports_.write_task(0, 0);
  ports_.write_command(ide::kIdentify);
  ports_.settle();
  if (ports_.status() == kNothing) return std::unexpected(Error::NotFound);
  if (!wait_not_busy(kPatience)) return std::unexpected(Error::TimedOut);
  // A packet device refuses and shows its signature instead.
  if (ports_.lba_middle() == kPacketMiddle && ports_.lba_high() == kPacketHigh)
    return std::unexpected(Error::NotSupported);
  if ((ports_.status() & ide::kDataRequest) == 0) return std::unexpected(Error::NotFound);
  u16 words[kIdentityWords];
  for (u16& word : words) word = arch::in16(ports_.data());
  return parse_identity(words);
}

void IdeDisk::describe(std::string_view name, const IdeIdentity& identity) {
  for (usize i = 0; i < name.size() && i + 1 < sizeof name_; ++i) name_[i] = name[i];
  sectors_ = identity.sectors;
  lba48_ = identity.lba48;
  flush_ = identity.flush;
  limits_.highest = PhysAddr{4 * kGiB - 1};
  limits_.boundary = 64 * kKiB;
  limits_.max_segment_bytes = 64 * kKiB;
  limits_.max_segments = 128;
  limits_.max_sectors = identity.lba48 ? 1024 : 256;
}

BLOCK_DRIVER(ide, probe_ide);

}  // namespace paean
