// AMQPFrame: the unit in which everything after the protocol header travels.
//
//   offset  size
//   0       1     kind: 1 method, 2 content header, 3 content body, 8 heartbeat
//   1       2     channel; 0 is the connection's own
//   3       4     size of the payload
//   7       size  payload
//   7+size  1     0xCE
//
// frame_max counts all of it. Source: AMQP 0-9-1 specification, 4.2.3.

import MillraceBase

/// A frame that was received.
public struct AMQPFrame: Equatable, Sendable {
  /// What a frame holds.
  public enum Kind: UInt8, Sendable {
    /// A method; see ``AMQPMethod``.
    case method = 1
    /// A content's class, size and properties; see ``ContentHeader``.
    case header = 2
    /// A part of a content's body.
    case body = 3
    /// Nothing: says that the peer lives.
    case heartbeat = 8
  }

  /// What it holds.
  public let kind: Kind
  /// The channel; 0 for what concerns the connection.
  public let channel: UInt16
  /// What lies between header and end, sharing the memory that it was read from.
  public let payload: Bytes

  /// A frame as if received.
  public init(_ kind: Kind, channel: UInt16, payload: Bytes) {
    self.kind = kind
    self.channel = channel
    self.payload = payload
  }

  /// Bytes in front of the payload.
  public static let headerSize = 7
  /// Bytes around the payload.
  public static let overhead = 8
  /// The byte behind the payload.
  public static let end: UInt8 = 0xCE
  /// Smallest frame_max that a peer may ask for. Source: specification, 4.9; RabbitMQ asks for 8,192 since 4.1.
  public static let smallestFrameMax = 4096
  /// Largest frame before the limits are settled, as RabbitMQ has it since 4.1.
  public static let initialFrameMax = 8192

  /// How far reading came.
  public enum Progress: Equatable, Sendable {
    /// Nothing more can be said before so many unread bytes are there, counted from where reading began.
    case needs(Int)
    /// A frame, and the position behind it.
    case frame(AMQPFrame, end: Int)
  }

  /// Reads the frame that begins at `position`, if it is there as a whole. What is wrong with a header is said as soon as
  /// its seven bytes are there.
  ///
  /// A payload may exceed what `frameMax` allows by 8 bytes, as with RabbitMQ, because clients forget the bytes around it.
  /// - Parameter unread: what was received; frames behind one another are read with ascending positions.
  /// - Parameter frameMax: largest frame in bytes; 0 is no limit.
  /// - Throws: 501 for an unknown kind, a frame that is too large or has no end, and a heartbeat with a payload; 505 for a
  ///   heartbeat or content on a channel that cannot have it. The stream cannot be read any further.
  /// - Complexity: O(1), nothing is copied.
  public static func read(
    _ unread: Bytes, at position: Int = 0, frameMax: Int
  ) throws(AMQPError) -> Progress {
    precondition(position >= 0 && position <= unread.count, "position \(position) of \(unread.count) bytes")
    let left = unread.count - position
    guard left >= headerSize else { return .needs(headerSize) }
    let (type, channel, size, last) = unread.withBuffer { buffer in
      let size = Int(UInt32(bigEndian: buffer.loadUnaligned(fromByteOffset: position + 3, as: UInt32.self)))
      return (
        buffer[position],
        UInt16(bigEndian: buffer.loadUnaligned(fromByteOffset: position + 1, as: UInt16.self)), size,
        size <= left - overhead ? buffer[position + headerSize + size] : nil
      )
    }
    guard let kind = Kind(rawValue: type) else {
      throw AMQPError(.frameError, "unknown frame type \(type) on channel \(channel)")
    }
    guard frameMax == 0 || size <= frameMax else {
      throw AMQPError(
        .frameError,
        "frame of type \(type) on channel \(channel) is too large: a payload of \(size) bytes, "
          + "\(frameMax - overhead) are allowed")
    }
    if kind == .heartbeat {
      guard size == 0 else { throw AMQPError(.frameError, "a heartbeat with a payload of \(size) bytes") }
      guard channel == 0 else { throw AMQPError(.unexpectedFrame, "a heartbeat on channel \(channel)") }
    } else if kind != .method && channel == 0 {
      throw AMQPError(.unexpectedFrame, "a content frame of type \(type) on channel 0")
    }
    guard let last else { return .needs(size + overhead) }
    guard last == end else {
      throw AMQPError(
        .frameError,
        "frame of type \(type) on channel \(channel) with a payload of \(size) bytes ends with \(last) "
          + "instead of \(end)")
    }
    let start = position + headerSize
    return .frame(AMQPFrame(kind, channel: channel, payload: unread[start..<(start + size)]), end: start + size + 1)
  }
}
