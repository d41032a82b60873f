// ProtocolHeader: the eight bytes with which a client begins: "AMQP", 0, 0, 9, 1.

import MillraceBase

/// Judges the first bytes of a connection. Source: AMQP 0-9-1 specification, 4.2.2; rabbit_reader.erl.
public enum ProtocolHeader: Equatable, Sendable {
  /// So far it may be the header; it has ``size`` bytes.
  case incomplete
  /// It is: go on with `connection.start`, and with frames behind the header.
  case accepted
  /// It is not: send ``bytes`` and close. The reason says what it looks like.
  case refused(String)

  /// Length in bytes.
  public static let size = 8

  /// The header: what a client sends, and what a server answers to any other.
  public static let bytes = Bytes([UInt8]("AMQP".utf8) + [0, 0, 9, 1])

  /// AMQP 0-9, which RabbitMQ treats as 0-9-1 as well.
  private static let older = Bytes([UInt8]("AMQP".utf8) + [1, 1, 0, 9])

  /// Judges the bytes received first, as few as there are: what cannot become the header is refused at once.
  public static func judge(_ unread: Bytes) -> ProtocolHeader {
    let known = min(unread.count, size)
    let start = unread[0..<known]
    if start == bytes[0..<known] || start == older[0..<known] { return known == size ? .accepted : .incomplete }
    if known >= 4, start[0..<4] == bytes[0..<4] {
      // Another version: the reason shall name it.
      guard known == size else { return .incomplete }
      if start[5] == 1, start[6] == 0, start[7] == 0 { return .refused("AMQP 1.0 is not spoken here") }
      return .refused("AMQP \(start[4])-\(start[5])-\(start[6])-\(start[7]) is not spoken here")
    }
    if known >= 4, start[0..<4].text == "GET " { return .refused("an HTTP request") }
    if known >= 2, start[0] == 0x16, start[1] == 3 { return .refused("a TLS handshake") }
    return .refused("not AMQP: \(start.array)")
  }
}
