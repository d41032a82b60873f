// ManagedClient: a client of another protocol as the management routes show it; protocol servers tell of theirs.

/// An open connection of AMQP.
public struct ManagedClient: Sendable {
  /// A channel.
  public struct Channel: Sendable {
    /// Number.
    public var number: Int
    /// Consumers.
    public var consumers: Int
    /// Deliveries that are not settled.
    public var unacknowledged: Int

    /// A channel.
    public init(number: Int, consumers: Int, unacknowledged: Int) {
      self.number = number
      self.consumers = consumers
      self.unacknowledged = unacknowledged
    }
  }

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
  /// Channels in the order of their numbers.
  public var channels: [Channel]

  /// A client.
  public init(
    name: String, user: String, virtualHost: String, peerHost: String, peerPort: Int, channels: [Channel]
  ) {
    self.name = name
    self.user = user
    self.virtualHost = virtualHost
    self.peerHost = peerHost
    self.peerPort = peerPort
    self.channels = channels
  }
}
