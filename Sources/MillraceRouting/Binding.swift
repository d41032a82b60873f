// Binding: what joins an exchange to where its messages go.

import MillraceBase

/// Where a binding leads.
public enum Destination: Hashable, Sendable, CustomStringConvertible {
  /// A queue.
  case queue(String)
  /// Another exchange of the virtual host.
  case exchange(String)
  /// A topic of the log.
  case topic(String)

  /// Its name.
  public var name: String {
    switch self {
    case .queue(let name), .exchange(let name), .topic(let name): name
    }
  }

  /// What it is, in the words of error texts: `queue`, `exchange` or `topic`.
  public var kind: String {
    switch self {
    case .queue: "queue"
    case .exchange: "exchange"
    case .topic: "topic"
    }
  }

  /// Kind and name.
  public var description: String { "\(kind) '\(name)'" }
}

/// A binding. Two with the same source, destination, key and arguments are one.
public struct Binding: Equatable, Sendable {
  /// The exchange that it takes messages from.
  public let source: String
  /// Where they go.
  public let destination: Destination
  /// Key, pattern or weight, at most 255 bytes; bytes, because clients are not held to UTF-8.
  public let key: Bytes
  /// What headers exchanges match; part of the identity with every other type.
  public let arguments: RoutingTable

  /// A binding.
  public init(source: String, destination: Destination, key: Bytes = Bytes(), arguments: RoutingTable = .empty) {
    self.source = source
    self.destination = destination
    self.key = key
    self.arguments = arguments
  }

  /// A binding whose key is text.
  public init(source: String, destination: Destination, key: String, arguments: RoutingTable = .empty) {
    self.init(source: source, destination: destination, key: Bytes(key), arguments: arguments)
  }

  /// The binding in memory of its own.
  func detached() -> Binding {
    Binding(
      source: source, destination: destination, key: key.withBuffer { Bytes(copying: $0) },
      arguments: arguments.detached())
  }

  /// Bytes that are equal for equal bindings only.
  var identity: Bytes {
    var writer = ByteWriter(capacity: 128)
    writer.binding(self)
    return writer.finishJoined()
  }
}
