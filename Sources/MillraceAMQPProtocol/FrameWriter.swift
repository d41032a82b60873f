// FrameWriter: writes frames one behind the other into a connection's output.
//
// A frame is written where it is to be sent from: a method's size is put in front afterwards, a delivery's frames are
// laid out in one go, bodies from 8 KiB on are not copied but spliced in.

import MillraceBase

/// The output of a connection. It has one owner, as its ``MillraceBase/ByteWriter``.
public struct FrameWriter {
  private var writer: ByteWriter
  /// Largest frame in bytes, header and end included; 0 is no limit. Bodies are cut to it. What cannot be cut is not: a
  /// content header that a publisher with a larger limit sent goes out as it is, as from RabbitMQ.
  public var frameMax: Int

  /// An empty output.
  /// - Parameter frameMax: what was settled with the peer: 0, or at least ``AMQPFrame/smallestFrameMax``.
  /// - Parameter capacity: bytes of memory taken at first.
  public init(frameMax: Int = AMQPFrame.initialFrameMax, capacity: Int = 4096) {
    precondition(frameMax == 0 || frameMax > AMQPFrame.overhead, "frame_max \(frameMax) has no room for a payload")
    self.frameMax = frameMax
    writer = ByteWriter(capacity: capacity)
  }

  /// Bytes waiting.
  public var count: Int { writer.count }

  /// Takes what was written, as pieces to be sent in order; writing goes on behind it in the same memory.
  public mutating func take() -> [Bytes] { writer.drain() }

  /// A method of a type known here; contents are written by `deliver`, `getOk`, `return` and `publish`.
  public mutating func write<Method: AMQPMethodFields>(_ method: Method, channel: UInt16) {
    methodFrame(channel: channel) { writer in
      writer.uint16(Method.id.classID)
      writer.uint16(Method.id.methodID)
      method.encode(to: &writer)
    }
  }

  /// Any method, without its content.
  public mutating func write(_ method: AMQPMethod, channel: UInt16) {
    methodFrame(channel: channel) { method.encode(to: &$0) }
  }

  private mutating func methodFrame(channel: UInt16, _ encode: (inout ByteWriter) -> Void) {
    let start = writer.count
    writer.uint8(AMQPFrame.Kind.method.rawValue)
    writer.uint16(channel)
    writer.uint32(0)
    encode(&writer)
    writer.patchInt32(Int32(writer.count - start - AMQPFrame.headerSize), at: start + 3)
    writer.uint8(AMQPFrame.end)
  }

  /// A heartbeat.
  public mutating func heartbeat() {
    writer.fill(atMost: AMQPFrame.overhead) { room in
      var raw = RawWriter(room)
      raw.frameStart(.heartbeat, channel: 0, size: 0)
      raw.uint8(AMQPFrame.end)
      return raw.at - room
    }
  }

  /// `basic.ack`: the server confirms publishing, a client acknowledges deliveries.
  public mutating func ack(channel: UInt16, deliveryTag: UInt64, multiple: Bool) {
    acknowledgement(channel, 80, deliveryTag, multiple ? 1 : 0)
  }

  /// `basic.nack`: the server says that publishing failed, a client refuses deliveries.
  public mutating func nack(channel: UInt16, deliveryTag: UInt64, multiple: Bool, requeue: Bool = false) {
    acknowledgement(channel, 120, deliveryTag, (multiple ? 1 : 0) | (requeue ? 2 : 0))
  }

  private mutating func acknowledgement(_ channel: UInt16, _ methodID: UInt16, _ deliveryTag: UInt64, _ bits: UInt8) {
    writer.fill(atMost: AMQPFrame.overhead + 13) { room in
      var raw = RawWriter(room)
      raw.frameStart(.method, channel: channel, size: 13)
      raw.uint16(60)
      raw.uint16(methodID)
      raw.uint64(deliveryTag)
      raw.uint8(bits)
      raw.uint8(AMQPFrame.end)
      return raw.at - room
    }
  }

  /// A method frame, a content header and the body's frames.
  ///
  /// Small messages are laid out in one go; a large body, or one of several pieces, is appended piece by piece.
  /// - Parameter size: bytes that `method` writes, numbers included.
  @inline(__always)
  mutating func content(
    channel: UInt16, size: Int, properties: BasicProperties, body: ContentBody, _ method: (inout RawWriter) -> Void
  ) {
    let headerSize = 12 + properties.encoded.count
    let isOneRun =
      body.rest.isEmpty && body.count < ByteWriter.spliceThreshold
      && (frameMax == 0 || body.count <= frameMax - AMQPFrame.overhead)
    let room = 3 * AMQPFrame.overhead + size + headerSize + (isOneRun ? body.count : 0)
    writer.fill(atMost: room) { room in
      var raw = RawWriter(room)
      raw.frameStart(.method, channel: channel, size: size)
      method(&raw)
      raw.uint8(AMQPFrame.end)
      raw.frameStart(.header, channel: channel, size: headerSize)
      raw.uint32(60 << 16)
      raw.uint64(UInt64(body.count))
      raw.copy(properties.encoded)
      raw.uint8(AMQPFrame.end)
      if isOneRun && body.count > 0 {
        raw.frameStart(.body, channel: channel, size: body.count)
        raw.copy(body.first)
        raw.uint8(AMQPFrame.end)
      }
      return raw.at - room
    }
    if !isOneRun { bodyFrames(body, channel: channel) }
  }

  /// The body's frames, each as large as allowed, across the borders of pieces.
  private mutating func bodyFrames(_ body: ContentBody, channel: UInt16) {
    // A size has 32 bits, whatever was settled.
    let largest = frameMax == 0 ? Int(UInt32.max) : frameMax - AMQPFrame.overhead
    var left = body.count
    var frameLeft = 0
    body.forEachPiece { piece in
      var at = 0
      while at < piece.count {
        if frameLeft == 0 {
          frameLeft = min(left, largest)
          let size = frameLeft
          writer.fill(atMost: AMQPFrame.headerSize) { room in
            var raw = RawWriter(room)
            raw.frameStart(.body, channel: channel, size: size)
            return raw.at - room
          }
        }
        let part = min(frameLeft, piece.count - at)
        writer.append(piece[at..<(at + part)])
        at += part
        left -= part
        frameLeft -= part
        if frameLeft == 0 { writer.uint8(AMQPFrame.end) }
      }
    }
  }
}

/// Writes into memory whose size was worked out before.
///
/// Safety: made only inside `ByteWriter.fill`, whose limit is the sum of what is written.
struct RawWriter {
  /// Where the next byte goes.
  private(set) var at: UnsafeMutableRawPointer

  init(_ start: UnsafeMutableRawPointer) { at = start }

  @inline(__always)
  private mutating func fixed<Value: FixedWidthInteger>(_ value: Value) {
    at.storeBytes(of: value.bigEndian, as: Value.self)
    at += MemoryLayout<Value>.size
  }

  @inline(__always) mutating func uint8(_ value: UInt8) { fixed(value) }
  @inline(__always) mutating func uint16(_ value: UInt16) { fixed(value) }
  @inline(__always) mutating func uint32(_ value: UInt32) { fixed(value) }
  @inline(__always) mutating func uint64(_ value: UInt64) { fixed(value) }

  @inline(__always)
  mutating func copy(_ bytes: Bytes) {
    bytes.withBuffer { from in
      if let base = from.baseAddress, from.count > 0 { at.copyMemory(from: base, byteCount: from.count) }
    }
    at += bytes.count
  }

  @inline(__always)
  mutating func shortString(_ value: ShortString) {
    uint8(UInt8(value.count))
    copy(value.bytes)
  }

  /// Text as a short string; what exceeds 255 bytes is cut off.
  @inline(__always)
  mutating func shortText(_ text: String) {
    var text = text
    text.withUTF8 { utf8 in
      let count = min(utf8.count, ShortString.limit)
      uint8(UInt8(count))
      if let base = utf8.baseAddress, count > 0 { at.copyMemory(from: base, byteCount: count) }
      at += count
    }
  }

  /// The bytes in front of a payload.
  @inline(__always)
  mutating func frameStart(_ kind: AMQPFrame.Kind, channel: UInt16, size: Int) {
    uint8(kind.rawValue)
    uint16(channel)
    uint32(UInt32(size))
  }
}
