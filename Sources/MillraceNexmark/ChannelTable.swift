// ChannelTable: the channels that bids come from, with their pages: made once, kept as long as the program runs.
//
// An entry takes 96 bytes, so that it is copied as a whole:
//   byte 0   channel, up to 12 bytes
//   byte 14  length of the channel
//   byte 15  length of the page's address
//   byte 16  address, up to 80 bytes

/// 10,000 channels by number, and the four that half of all bids come from.
///
/// Safety: written before anybody else sees it, never again, and never freed.
struct ChannelTable: @unchecked Sendable {
  static let entrySize = 96
  static let count = 10_000
  private let entries: UnsafeMutableRawPointer

  /// The only one.
  static let shared = ChannelTable()

  private init() {
    let size = (ChannelTable.count + 4) * ChannelTable.entrySize
    entries = .allocate(byteCount: size, alignment: 32)
    entries.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    let hot: [StaticString] = ["Google", "Facebook", "Baidu", "Apple"]
    for (index, name) in hot.enumerated() {
      write(ChannelTable.count + index, seed: UInt64(index), identifier: nil) { $0.text(name) }
    }
    for index in 0..<ChannelTable.count {
      // Nine in ten pages name the channel, by the number's bits in reverse.
      var random = EventRandom(seed: UInt64(index))
      let isNamed = random.below32(10) > 0
      let reversed = Int32(truncatingIfNeeded: index).bitReversed
      write(index, seed: UInt64(index), identifier: isNamed ? Int64(reversed.magnitude) : nil) {
        $0.text("channel-")
        $0.decimal(Int64(index))
      }
    }
  }

  private func write(_ index: Int, seed: UInt64, identifier: Int64?, _ name: (inout EventWriter) -> Void) {
    let entry = entries + index * ChannelTable.entrySize
    var channel = EventWriter(entry)
    name(&channel)
    var random = EventRandom(seed: seed)
    var url = EventWriter(entry + 16)
    url.text("https://www.nexmark.com/")
    for _ in 0..<3 {
      url.delimited(&random)
      url.byte(UInt8(ascii: "/"))
    }
    url.text("item.htm?query=1")
    if let identifier {
      url.text("&channel_id=")
      url.decimal(identifier)
    }
    let (channelLength, urlLength) = (channel.at - entry, url.at - entry - 16)
    precondition(channelLength <= 12 && urlLength <= 80, "a channel of \(channelLength) and \(urlLength) bytes")
    (entry + 14).storeBytes(of: UInt8(channelLength), as: UInt8.self)
    (entry + 15).storeBytes(of: UInt8(urlLength), as: UInt8.self)
  }

  /// Where an entry lies: below 10,000 by number, from there on the four popular ones.
  @inline(__always)
  func entry(_ index: Int) -> UnsafeRawPointer { UnsafeRawPointer(entries + index &* ChannelTable.entrySize) }
}

extension FixedWidthInteger where Self: SignedInteger {
  /// The bits in reverse.
  fileprivate var bitReversed: Self {
    var result: Self = 0
    for bit in 0..<bitWidth where self >> bit & 1 == 1 { result |= 1 << (bitWidth - 1 - bit) }
    return result
  }
}
