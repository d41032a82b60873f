// AMQPServer+Clients: the open connections as operators see them.

/// An open connection.
public struct AMQPClientSummary: Sendable {
  /// `PEER -> OWN`
  public var name: String
  /// The user's name.
  public var user: String
  /// The virtual host.
  public var virtualHost: String
  /// The peer's address.
  public var peerHost: String
  /// The peer's port.
  public var peerPort: Int
  /// Channels: number, consumers, deliveries that are not settled.
  public var channels: [(number: Int, consumers: Int, unacknowledged: Int)]
}

extension AMQPServer {
  /// Connections that are open, in the order of their coming.
  public var clients: [AMQPClientSummary] {
    allConnections.filter { $0.state == .running }.sorted { $0.number < $1.number }.map { connection in
      AMQPClientSummary(
        name: connection.owner.name, user: connection.user, virtualHost: connection.virtualHost,
        peerHost: connection.connection.remoteAddress.host, peerPort: Int(connection.connection.remoteAddress.port),
        channels: connection.channels.sorted { $0.key < $1.key }.map { number, channel in
          (Int(number), channel.consumers.count, channel.unacknowledged.count)
        })
    }
  }
}
