// MethodID: the number of a method, its name, who may send it, and whether a content follows.

import MillraceBase

/// What every method's fields can do.
public protocol AMQPMethodFields: Equatable, Sendable {
  /// The method's number.
  static var id: MethodID { get }
  /// Reads the fields that follow the number. Bytes behind them are left.
  init(from reader: inout ByteReader) throws(DecodingError)
  /// Writes the fields that follow the number. Short strings must have at most 255 bytes.
  func encode(to writer: inout ByteWriter)
}

/// The number of a method.
public struct MethodID: Hashable, Sendable, CustomStringConvertible {
  /// The class.
  public let classID: UInt16
  /// The method in its class.
  public let methodID: UInt16

  /// A number, whether or not there is such a method.
  public init(classID: UInt16, methodID: UInt16) {
    self.classID = classID
    self.methodID = methodID
  }

  /// Numbers that stand for no method, as errors without one have them.
  public static let none = MethodID(classID: 0, methodID: 0)

  /// All methods there are, in order.
  public static let all = catalogue.map(\.id)

  /// The name, such as `queue.declare`; nil when there is no such method.
  public var name: String? { entry?.name }

  /// Whether a content header and body follow.
  public var hasContent: Bool {
    guard classID == 60 else { return false }
    return methodID == 40 || methodID == 50 || methodID == 60 || methodID == 71
  }

  /// Name, or the numbers.
  public var description: String { name ?? "class \(classID) method \(methodID)" }

  private var entry: MethodEntry? { MethodID.catalogue.first { $0.id == self } }

  private struct MethodEntry {
    let id: MethodID
    let name: String

    init(_ classID: UInt16, _ methodID: UInt16, _ name: String) {
      id = MethodID(classID: classID, methodID: methodID)
      self.name = name
    }
  }

  private static let catalogue = [
    MethodEntry(10, 10, "connection.start"),
    MethodEntry(10, 11, "connection.start-ok"),
    MethodEntry(10, 20, "connection.secure"),
    MethodEntry(10, 21, "connection.secure-ok"),
    MethodEntry(10, 30, "connection.tune"),
    MethodEntry(10, 31, "connection.tune-ok"),
    MethodEntry(10, 40, "connection.open"),
    MethodEntry(10, 41, "connection.open-ok"),
    MethodEntry(10, 50, "connection.close"),
    MethodEntry(10, 51, "connection.close-ok"),
    MethodEntry(10, 60, "connection.blocked"),
    MethodEntry(10, 61, "connection.unblocked"),
    MethodEntry(10, 70, "connection.update-secret"),
    MethodEntry(10, 71, "connection.update-secret-ok"),
    MethodEntry(20, 10, "channel.open"),
    MethodEntry(20, 11, "channel.open-ok"),
    MethodEntry(20, 20, "channel.flow"),
    MethodEntry(20, 21, "channel.flow-ok"),
    MethodEntry(20, 40, "channel.close"),
    MethodEntry(20, 41, "channel.close-ok"),
    MethodEntry(30, 10, "access.request"),
    MethodEntry(30, 11, "access.request-ok"),
    MethodEntry(40, 10, "exchange.declare"),
    MethodEntry(40, 11, "exchange.declare-ok"),
    MethodEntry(40, 20, "exchange.delete"),
    MethodEntry(40, 21, "exchange.delete-ok"),
    MethodEntry(40, 30, "exchange.bind"),
    MethodEntry(40, 31, "exchange.bind-ok"),
    MethodEntry(40, 40, "exchange.unbind"),
    MethodEntry(40, 51, "exchange.unbind-ok"),
    MethodEntry(50, 10, "queue.declare"),
    MethodEntry(50, 11, "queue.declare-ok"),
    MethodEntry(50, 20, "queue.bind"),
    MethodEntry(50, 21, "queue.bind-ok"),
    MethodEntry(50, 30, "queue.purge"),
    MethodEntry(50, 31, "queue.purge-ok"),
    MethodEntry(50, 40, "queue.delete"),
    MethodEntry(50, 41, "queue.delete-ok"),
    MethodEntry(50, 50, "queue.unbind"),
    MethodEntry(50, 51, "queue.unbind-ok"),
    MethodEntry(60, 10, "basic.qos"),
    MethodEntry(60, 11, "basic.qos-ok"),
    MethodEntry(60, 20, "basic.consume"),
    MethodEntry(60, 21, "basic.consume-ok"),
    MethodEntry(60, 30, "basic.cancel"),
    MethodEntry(60, 31, "basic.cancel-ok"),
    MethodEntry(60, 40, "basic.publish"),
    MethodEntry(60, 50, "basic.return"),
    MethodEntry(60, 60, "basic.deliver"),
    MethodEntry(60, 70, "basic.get"),
    MethodEntry(60, 71, "basic.get-ok"),
    MethodEntry(60, 72, "basic.get-empty"),
    MethodEntry(60, 80, "basic.ack"),
    MethodEntry(60, 90, "basic.reject"),
    MethodEntry(60, 100, "basic.recover-async"),
    MethodEntry(60, 110, "basic.recover"),
    MethodEntry(60, 111, "basic.recover-ok"),
    MethodEntry(60, 120, "basic.nack"),
    MethodEntry(85, 10, "confirm.select"),
    MethodEntry(85, 11, "confirm.select-ok"),
    MethodEntry(90, 10, "tx.select"),
    MethodEntry(90, 11, "tx.select-ok"),
    MethodEntry(90, 20, "tx.commit"),
    MethodEntry(90, 21, "tx.commit-ok"),
    MethodEntry(90, 30, "tx.rollback"),
    MethodEntry(90, 31, "tx.rollback-ok"),
  ]
}
