// WholePublication: a basic.publish whose three frames lie one behind the other as a whole, read in one go.
//
// That is what nearly all publications are. Frame by frame, a method, a header and a body are made of each and put together
// again, which costs more than all that the broker does with a small message.

import MillraceBase

/// Where the parts of a publication lie in what was received. What is the least bit unusual is none, and goes frame by
/// frame, where what is wrong with it is said.
public struct WholePublication {
  /// The channel, not 0.
  public let channel: UInt16
  /// Name of the exchange.
  public let exchange: Range<Int>
  /// The routing key.
  public let routingKey: Range<Int>
  /// Whether to return it when no queue takes it.
  public let isMandatory: Bool
  /// Flags and fields, not checked.
  public let properties: Range<Int>
  /// The body, one frame's, not empty.
  public let body: Range<Int>
  /// The position behind it.
  public let end: Int

  /// Most bytes of a body that is read so; larger ones have little to gain.
  public static let largestBody = 16 << 10

  /// The publication that begins at `position`; nil when there is none, not as a whole, or not as plain as that.
  /// - Parameter frameMax: as for ``AMQPFrame/read(_:at:frameMax:)``.
  /// - Complexity: O(1), nothing is copied.
  public static func read(_ unread: Bytes, at position: Int, frameMax: Int) -> WholePublication? {
    unread.withBuffer { WholePublication($0, position, frameMax) }
  }

  // Safety: every load lies below a bound that was compared with the buffer's count before.
  private init?(_ buffer: UnsafeRawBufferPointer, _ position: Int, _ frameMax: Int) {
    func uint16(_ at: Int) -> UInt16 { UInt16(bigEndian: buffer.loadUnaligned(fromByteOffset: at, as: UInt16.self)) }
    func uint32(_ at: Int) -> UInt32 { UInt32(bigEndian: buffer.loadUnaligned(fromByteOffset: at, as: UInt32.self)) }
    let largest = frameMax == 0 ? Int(UInt32.max) : frameMax - AMQPFrame.overhead
    /// The payload of the frame at `start`, if that is there, of this kind and on the channel.
    func payload(_ start: Int, _ kind: AMQPFrame.Kind, _ channel: UInt16) -> Range<Int>? {
      guard buffer.count - start >= AMQPFrame.overhead, buffer[start] == kind.rawValue, uint16(start + 1) == channel
      else { return nil }
      let size = Int(uint32(start + 3))
      guard size <= largest, size <= buffer.count - start - AMQPFrame.overhead else { return nil }
      let first = start + AMQPFrame.headerSize
      return buffer[first + size] == AMQPFrame.end ? first..<first + size : nil
    }
    guard position >= 0, buffer.count - position >= AMQPFrame.overhead else { return nil }
    channel = uint16(position + 1)
    // Ticket, two names, bits.
    guard channel != 0, let method = payload(position, .method, channel), method.count >= 9,
      uint32(method.lowerBound) == 60 << 16 | 40
    else { return nil }
    let exchangeStart = method.lowerBound + 7
    let exchangeEnd = exchangeStart + Int(buffer[exchangeStart - 1])
    guard exchangeEnd + 1 < method.upperBound else { return nil }
    let keyEnd = exchangeEnd + 1 + Int(buffer[exchangeEnd])
    guard keyEnd + 1 == method.upperBound, buffer[keyEnd] <= 1 else { return nil }
    exchange = exchangeStart..<exchangeEnd
    routingKey = exchangeEnd + 1..<keyEnd
    isMandatory = buffer[keyEnd] == 1
    guard let header = payload(method.upperBound + 1, .header, channel), header.count >= 14,
      uint32(header.lowerBound) == 60 << 16, uint32(header.lowerBound + 4) == 0
    else { return nil }
    properties = header.lowerBound + 12..<header.upperBound
    let size = Int(uint32(header.lowerBound + 8))
    guard size > 0, size <= WholePublication.largestBody,
      let content = payload(header.upperBound + 1, .body, channel), content.count == size
    else { return nil }
    body = content
    end = content.upperBound + 1
  }
}
