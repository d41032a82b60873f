// ConnectionAdmission: lets connections of all protocols in, or turns them away, by one count and one set of limits.

import MillraceBase
import MillraceIO

/// A connection that may have to make room for another one.
public protocol AdmittedConnection: AnyObject {
  /// Closes at once: its client has not said who it is, and others need the place. It has been counted out.
  func giveWay()
}

/// The connections of one broker's servers. Belongs to the reactor.
public final class ConnectionAdmission {
  /// Connections that were turned away, by protocol and reason, since the start.
  public private(set) var refusals: [Refused: UInt64] = [:]
  /// Strangers who had to make room for others, since the start.
  public private(set) var displaced: UInt64 = 0
  /// Who is there.
  public private(set) var census = ConnectionCensus()
  private let broker: () -> Broker
  private var strangers: [ConnectionCensus.Place: any AdmittedConnection] = [:]

  /// A kind of refusals.
  public struct Refused: Hashable, Sendable {
    /// Protocol, as in the name of a listener.
    public let protocolName: String
    /// Why.
    public let reason: ConnectionRefusal

    /// A kind.
    public init(protocolName: String, reason: ConnectionRefusal) {
      self.protocolName = protocolName
      self.reason = reason
    }
  }

  /// What becomes of a new connection.
  public enum Decision {
    /// It is served, and its place is to be given back by ``leave(_:)``.
    case admitted(ConnectionCensus.Place)
    /// It is closed after this time, which has been counted and logged.
    case refused(after: Duration)
  }

  init(broker: @escaping () -> Broker) { self.broker = broker }

  /// Looks at a new connection, of which nothing was read yet.
  ///
  /// - Parameters:
  ///   - isStranger: its client has to say who it is; ``recognize(_:)`` follows when it has.
  ///   - remote: its client's address. Sockets in the file system all have one.
  public func admit(
    _ connection: any AdmittedConnection, _ protocolName: String, from remote: SocketAddress, isStranger: Bool
  ) -> Decision {
    let broker = broker()
    let wait = broker.quotas.chargeConnection(from: remote.host, now: broker.reactor.now)
    guard wait == .zero else {
      refused(protocolName, .tooFastOfAddress, from: remote)
      return .refused(after: wait)
    }
    let decision = census.admit(
      from: remote.host, isStranger: isStranger, within: broker.settings.connectionLimits, now: broker.reactor.now)
    switch decision {
    case .refused(let reason):
      refused(protocolName, reason, from: remote)
      return .refused(after: .zero)
    case .admitted(let place):
      if isStranger { strangers[place] = connection }
      return .admitted(place)
    case .admittedInsteadOf(let place, let stranger):
      if isStranger { strangers[place] = connection }
      displaced += 1
      broker.logger.logRarely(
        .warning, "server", "connections whose clients do not say who they are make room for others",
        "max.connections are open", ["max.connections": "\(broker.settings.connections)"], now: broker.reactor.now)
      strangers.removeValue(forKey: stranger)?.giveWay()
      return .admitted(place)
    }
  }

  /// Counts and logs a connection that is turned away.
  private func refused(_ protocolName: String, _ reason: ConnectionRefusal, from remote: SocketAddress) {
    refusals[Refused(protocolName: protocolName, reason: reason), default: 0] += 1
    let broker = broker()
    // For each address on its own only where a single one is the reason: a flood from many must not fill the log's memory.
    let isOfAddress = reason == .tooManyOfAddress || reason == .tooFastOfAddress
    broker.logger.logRarely(
      isOfAddress ? .info : .warning, "server", "connection refused", "\(reason.rawValue) of \(protocolName)",
      ["peer": remote.description, "limit": reason.rawValue, "protocol": protocolName],
      key: isOfAddress ? remote.host : nil, now: broker.reactor.now)
  }

  /// The client has said who it is.
  public func recognize(_ place: ConnectionCensus.Place) {
    census.recognize(place)
    strangers[place] = nil
  }

  /// The connection is closed. One that had to give way has been counted out already, and is left alone.
  public func leave(_ place: ConnectionCensus.Place) {
    strangers[place] = nil
    census.leave(place)
  }
}
